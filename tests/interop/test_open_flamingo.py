"""OpenFlamingo's checkpoints without torch; tests/parity compares their numbers with its modules'."""

import jax
import numpy as np
import pytest

from vljax.interop import open_flamingo, openai, weights
from vljax.interop.seeing import Seeing
from vljax.models import fitting, gated_xattn, resampler

HEADS = dict(heads=8, head_dim=64, activation="gelu")
CONFIG = dict(
  resampler=dict(media_width=24, width=24, depth=2, latents=3, frames=4, **HEADS),
  xattn=dict(visual_width=24, width=16, layers=8, every=4, placement="last", **HEADS),
)


def seeing(**changes):
  config = {part: {**own, **changes.get(part, {})} for part, own in CONFIG.items()}
  rng = np.random.default_rng(0)
  shapes = {"resampler": resampler, "xattn": gated_xattn}
  shapes = {part: fitting.abstract(module.build(**config[part])) for part, module in shapes.items()}
  return Seeing(config, jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), shapes))


@pytest.mark.slow
def test_everything_comes_back(tmp_path):
  whole = seeing()
  open_flamingo.save(tmp_path / "some.pt", whole)
  found = open_flamingo.load(tmp_path / "some.pt", layers=8)
  jax.tree.map(np.testing.assert_array_equal, found.params, whole.params)
  assert found.config == whole.config
  jax.tree.map(np.testing.assert_array_equal, weights.load(tmp_path / "some.pt"), whole.params)
  with pytest.raises(ValueError, match="only resampler and xattn: they need a language model"):
    found.model()


@pytest.mark.slow
def test_blocks_are_known_by_either_name():
  state = open_flamingo.to_state(seeing(), "memory")
  assert {name.split(".")[2] for name in state if "gated" in name} == {"3", "7"}
  other = {
    name.replace("lang_encoder.gated_cross_attn_layers.3", "module.lang_encoder.model.layers.3.gated_cross_attn_layer")
    .replace("lang_encoder.gated_cross_attn_layers.7", "module.lang_encoder.model.layers.7.gated_cross_attn_layer"): x
    for name, x in state.items()
  }  # fmt: skip
  first, second = (open_flamingo.from_state(s, "memory").params for s in (state, other))
  jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.slow
def test_the_rows_of_new_tokens():
  table = np.arange(24.0).reshape(6, 4).astype(np.float32)
  state = {**open_flamingo.to_state(seeing(), "memory"), "lang_encoder.model.embed_tokens.weight": table}
  assert "lm" not in open_flamingo.from_state(state, "memory").params
  lm = open_flamingo.from_state(state, "memory", vocab=4).params["lm"]
  np.testing.assert_array_equal(lm["extra_in"]["embedding"], table[[5, 4]])
  np.testing.assert_array_equal(lm["extra_out"]["kernel"], table[[5, 4]].T)
  with pytest.raises(ValueError, match="has 6 rows; with 5 tokens and two new ones it has more"):
    open_flamingo.from_state(state, "memory", vocab=5)


@pytest.mark.slow
def test_the_rows_of_new_tokens_go_back(tmp_path):
  table = np.arange(24.0).reshape(6, 4).astype(np.float32)
  key = "lang_encoder.model.embed_tokens.weight"
  made = open_flamingo.from_state({**open_flamingo.to_state(seeing(), "memory"), key: table}, "memory", vocab=4)
  (note,) = open_flamingo.save(tmp_path / "without.pt", made)
  assert "leaves out the trained rows of <image> and <EOC>" in note
  assert open_flamingo.save(tmp_path / "with.pt", made, embedding=table[:4], key=key) == []
  np.testing.assert_array_equal(openai.read_state(tmp_path / "with.pt")[key], table)
  again = open_flamingo.load(tmp_path / "with.pt", vocab=4)
  jax.tree.map(np.testing.assert_array_equal, again.params, made.params)
  with pytest.raises(ValueError, match=r"rows of 4 behind an embedding of shape \(4, 3\)"):
    open_flamingo.save(tmp_path / "x.pt", made, embedding=table[:4, :3])


@pytest.mark.slow
@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"preceiver.latents": np.zeros(1)}, "the key 'preceiver.latents' is unknown"),
    ({"perceiver.media_time_embs": np.ones((2, 1, 24))}, "media_time_embs numbers the media"),
    ({"perceiver.layers.0.0.norm": np.zeros(1)}, "the key 'perceiver.layers.0.0.norm' is unknown; the nearest"),
    ({"lang_encoder.gated_cross_attn_layers.4.attn_gate": np.zeros(1)}, r"gated blocks before \[3, 4, 7\] of 8"),
  ],
)
def test_another_checkpoint_is_refused(change, message):
  state = {**open_flamingo.to_state(seeing(), "memory"), **change}
  with pytest.raises(ValueError, match=message):
    open_flamingo.from_state(state, "memory")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(xattn=dict(placement="first")), "xattn.placement = 'first'"),
    (dict(xattn=dict(gate="none")), "xattn.gate = 'none'"),
    (dict(resampler=dict(activation="squared_relu")), "resampler.activation = 'squared_relu'"),
    (dict(resampler=dict(media_width=48)), "resampler.media_width = 48"),
    (dict(resampler=dict(heads=4)), "resampler.heads = 4"),
  ],
)
def test_what_the_format_cannot_hold_is_named(changes, message):
  with pytest.raises(ValueError, match=f"the format open_flamingo cannot hold .*{message}"):
    open_flamingo.to_state(seeing(**changes), "memory")
