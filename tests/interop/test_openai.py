"""OpenAI's files: what they hold, what they assume, and what they cannot hold."""

import numpy as np
import pytest

from vljax import interop, tree
from vljax.interop import openai, safetensors_reader, torch_reader


@pytest.mark.slow
def test_round_trip(make, tmp_path):
  made = make()
  assert interop.save(tmp_path / "x.pt", made.imported, "openai") == []
  found = interop.load(tmp_path / "x.pt")
  made.assert_equal(found)
  assert found.notes == [
    f"{tmp_path}/x.pt has OpenAI's keys and no config: quick_gelu, heads of 64, CLIP's preprocessing and tokenizer",
    f"{tmp_path}/x.pt brings no tokenizer, and 40 ids are not CLIP's 49408: texts must come as ids",
  ]


def test_eos_that_is_the_largest_id_is_pooling_at_the_largest_id(make, tmp_path):
  made = make(text=dict(pool="eos", eos_id=39))
  openai.save(tmp_path / "x.pt", made.imported)
  assert openai.load(tmp_path / "x.pt").config["text"]["pool"] == "argmax"


def test_half_precision(make, tmp_path):
  made = make()
  openai.save(tmp_path / "x.pt", made.imported, half=True)
  state = torch_reader.state_dict(tmp_path / "x.pt")
  half = {k for k, v in state.items() if v.dtype == np.float16}
  assert {"visual.conv1.weight", "visual.proj", "text_projection", "transformer.resblocks.0.attn.in_proj_bias"} <= half
  assert not half & {"visual.class_embedding", "ln_final.weight", "token_embedding.weight", "logit_scale"}
  found = tree.flatten(openai.load(tmp_path / "x.pt").params)
  assert {v.dtype for v in found.values()} == {np.dtype(np.float32)}
  wanted = made.imported.params["image"]["patch"]["kernel"].astype(np.float16).astype(np.float32)
  assert np.array_equal(found["image/patch/kernel"], wanted)


def test_safetensors_with_these_keys(make, tmp_path):
  made = make()
  openai.save(tmp_path / "x.pt", made.imported)
  safetensors_reader.write(tmp_path / "x.safetensors", torch_reader.state_dict(tmp_path / "x.pt"))
  made.assert_equal(openai.load(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (dict(image=dict(activation="gelu")), "image.activation = 'gelu' (its readers assume 'quick_gelu')"),
    (dict(image=dict(heads=2)), "image.heads = 2 (its readers assume 1)"),
    (dict(image=dict(pool="mean")), "image.pool = 'mean' (its readers assume 'cls')"),
    (dict(image=dict(patch_bias=True)), "image.patch_bias = True (its readers assume False)"),
    (dict(text=dict(causal=False)), "text.causal = False (its readers assume True)"),
    (dict(text=dict(pool="eos", eos_id=2)), "text.pool = 'eos' (its readers assume 'argmax')"),
    (dict(tokenizer=dict(kind="sentencepiece")), "the tokenizer 'sentencepiece' (its readers assume 'clip_bpe'; "),
    (
      dict(tokenizer=dict(kind="clip_bpe", clean="whitespace")),
      "the tokenizer 'clip_bpe' with clean = 'whitespace' (its readers assume 'lower'; launch/convert.py --drop_token",
    ),
    (dict(preprocess=dict(mean=(0.5,) * 3)), "preprocess.mean = (0.5, 0.5, 0.5) (its readers assume (0.48145466"),
    (dict(preprocess=dict(resize_mode="squash")), "preprocess.resize_mode = 'squash' (its readers assume 'shortest')"),
  ],
)
def test_what_the_format_cannot_hold(make, tmp_path, options, message):
  with pytest.raises(ValueError, match="the format openai cannot hold") as raised:
    interop.save(tmp_path / "x.pt", make(**options).imported, "openai")
  assert str(raised.value).startswith(f"{tmp_path}/x.pt: the format openai cannot hold {message}")
  assert not (tmp_path / "x.pt").exists()
