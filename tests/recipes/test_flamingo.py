"""The recipe flamingo at test size: what is trained, what its loss is, micro-batches, and what it refuses."""

import jax
import numpy as np
import pytest

from vljax import config, experiment, hub, recipes, tree
from vljax.checkpoint import load_params
from vljax.data import interleave, tokenizers
from vljax.flamingo import FlamingoBundle
from vljax.train import writers
from vljax.train.trainer import Trainer

SPEC = "configs/flamingo/flamingo_smollm2.py:smoke"


@pytest.fixture(scope="module")
def raw(root):
  return lambda *overrides: config.load(f"{root}/{SPEC}", overrides)


@pytest.fixture(scope="module")
def workdir(raw, tmp_path_factory):
  """A finished run whose gates learn fast."""
  workdir = tmp_path_factory.mktemp("flamingo") / "run"
  assert experiment.train(raw("schedule.lr=0.01"), workdir)
  return workdir


@pytest.fixture(scope="module")
def tokenizer(workdir):
  return tokenizers.load(workdir / "tokenizer")


@pytest.fixture(scope="module")
def trainer(raw, tokenizer):
  parsed = recipes.parse(raw())
  return Trainer(recipes.build(parsed, tokenizer), parsed, tokenizer)


@pytest.fixture(scope="module")
def bundle(workdir):
  return hub.load(workdir)


@pytest.fixture(scope="module")
def picture():
  return np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


@pytest.mark.slow
def test_only_what_is_new_is_trained(trainer, workdir):
  before = tree.unstack(jax.tree.map(np.asarray, trainer.fresh().params))
  after = tree.unstack(load_params(workdir)[0])
  changed = {name for name, leaf in after.items() if not np.array_equal(leaf, before[name])}
  parts = {"/".join(name.split("/")[:2]) for name in changed}
  assert parts == {
    "resampler/blocks", "resampler/latents", "resampler/norm_post", "resampler/time", "xattn/blocks", "lm/extra_in",
    "lm/extra_out",
  }  # fmt: skip
  assert all(after[f"xattn/blocks/{i}/{gate}"] != 0 for i in range(2) for gate in ("gate_attention", "gate_mlp"))


@pytest.mark.slow
def test_frozen_leaves_have_no_slot(trainer):
  slots = tree.flatten(trainer.abstract().opt)
  assert slots
  assert not any("vision" in name or "lm/blocks" in name or "lm/token" in name for name in slots)


@pytest.mark.slow
def test_the_run_reports_losses_gates_and_what_pictures_are_worth(workdir):
  rows = writers.read(workdir)
  first = next(row for row in rows if "lm/captions/nll" in row)
  np.testing.assert_allclose(first["lm/captions/nll"], np.log(302), rtol=0.05)
  assert {f"lm/captions/gate_{half}/{i}" for half in ("attention", "mlp") for i in (0, 1)} <= first.keys()
  assert first["lm/packed/gate_mlp/1"] == 0
  last = {name: value for row in rows for name, value in row.items()}
  for name in ("perplexity/right", "perplexity/shuffled", "perplexity/none", "shuffled/gain/low", "none/gain/high"):
    assert np.isfinite(last[f"captions/{name}"])
  again = hub.load(workdir).evaluate()
  assert again["captions/perplexity/right"] == pytest.approx(last["captions/perplexity/right"], rel=1e-4)


@pytest.mark.slow
def test_losses_are_those_of_the_logits(trainer, bundle, tokenizer):
  batch = next(trainer.loaders({})["packed"])
  sums, counts = trainer.recipe.predict["losses"](bundle.params, batch)
  images = bundle.rules.apply(batch["images"])
  logits = bundle.model.apply(
    {"params": bundle.params}, batch["tokens"], images, batch["phi"], positions=batch["positions"],
    segments=batch["segments"],
  )  # fmt: skip
  likely = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits))[:, :-1], batch["tokens"][:, 1:, None], 2)[..., 0]
  np.testing.assert_allclose(sums, -(likely * batch["loss_mask"][:, 1:]).sum(1), rtol=1e-4)
  np.testing.assert_array_equal(counts, batch["loss_mask"].sum(1))
  assert interleave.marks(tokenizer)[0] not in batch["tokens"][batch["loss_mask"]]


@pytest.mark.slow
def test_a_tokenizer_whose_marks_lie_elsewhere_is_refused(raw, tokenizer):
  parsed = recipes.parse(raw("lm.vocab=299"))
  with pytest.raises(ValueError, match=r"config.lm.vocab = 299 and 2 extra rows want \(299, 300\)"):
    recipes.build(parsed, tokenizer)


@pytest.mark.slow
def test_frozen_parts_are_without_dropout_in_training(raw, workdir, trainer, tokenizer):
  """Whatever the rng, the loss is the same, unless the part with the dropout is trained."""
  batch, params = jax.device_put((next(trainer.loaders({})["packed"]), load_params(workdir)[0]))
  for part in ("vision", "lm"):

    def loss(*overrides, key, part=part):
      recipe = recipes.build(recipes.parse(raw(f"{part}.dropout=0.5", *overrides)), tokenizer)
      return float(recipe.phases[0].loss(params, {}, batch, jax.random.key(key))[0]["nll"])

    assert loss(key=0) == loss(key=1)
    assert loss("trains=.*", key=0) != loss("trains=.*", key=1)


@pytest.mark.slow
def test_pictures_are_padded_or_refused(raw):
  assert recipes.parse(raw("preprocess={'normalize': 'clip'}")).preprocess.resize == "longest"
  for other in ("shortest", "squash"):
    with pytest.raises(ValueError, match=rf"^config\.preprocess\.resize = '{other}'; legal: 'longest'"):
      recipes.parse(raw(f"preprocess.resize={other}"))


@pytest.mark.slow
def test_margins_have_the_color_that_is_subtracted(raw):
  message = r"config\.streams\.\w+\.transforms: pictures has fill = \(123, 117, 104\), but .* legal: fill = \(128, 128"
  with pytest.raises(ValueError, match=message):
    recipes.parse(raw("preprocess.normalize=inception"))


@pytest.mark.slow
def test_the_frames_of_a_clip_are_augmented_alike(raw, tokenizer):
  recipe = recipes.build(
    recipes.parse(raw('augment=[("color_jitter", 1.0, 1.0), ("flip_lr",), ("cutout", 4)]')), tokenizer
  )
  picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
  images = np.broadcast_to(picture, (2, 3, 4, 8, 8, 3))
  seen = np.asarray(recipe.prepare({"images": images}, jax.random.key(0))["images"])
  np.testing.assert_allclose(seen, np.broadcast_to(seen[:, :, :1], seen.shape), atol=1e-3)
  media = seen[:, :, 0].reshape(6, -1)
  assert np.linalg.norm(media[:, None] - media[None], axis=2)[~np.eye(6, dtype=bool)].min() > 10
  assert np.abs(media - picture.reshape(1, -1)).max(1).min() > 10
  none = {"images": images[:, :0]}
  assert recipe.prepare(none, jax.random.key(0)) is none


@pytest.mark.slow
def test_rows_without_places_for_media_train_beside_others(raw, tokenizer):
  """Texts alone, as the rows of table 10 that train the language model on have them."""
  steps = [("decode",), ("choose_caption",), ("pair", 0.5), ("interleave", 32, 0), ("pictures", 16), ("pack", 32, 0)]
  parsed = recipes.parse(raw(f"streams.packed.transforms={steps}", "streams.packed.documents=1"))
  trainer = Trainer(recipes.build(parsed, tokenizer), parsed, tokenizer)
  batch = next(trainer.loaders({})["packed"])
  assert batch["images"].shape[1:] == (0, 1, 16, 16, 3)
  with trainer.use():
    lowered = trainer.step.jitted.lower(
      trainer.target(), {name: next(loader) for name, loader in trainer.loaders({}).items()}, due=trainer.due(0)
    )
  assert "lm/packed/nll" in lowered.out_info[1]


@pytest.mark.slow
def test_streams_must_give_packed_rows(raw, tokenizer):
  parsed = recipes.parse(raw('streams.captions.transforms=[("decode",), ("keep", "image")]'))
  with pytest.raises(ValueError, match="must give what the transform `pack` does; there is no 'tokens' among image"):
    Trainer(recipes.build(parsed, tokenizer), parsed, tokenizer)


@pytest.mark.slow
def test_the_hub_gives_a_bundle_that_sees(bundle, picture):
  assert isinstance(bundle, FlamingoBundle)
  assert bundle.encode_image([picture, [picture, picture]]).shape == (2, 4, 32)
  seen, other = (bundle.logits([p, "a red circle"]) for p in (picture, picture[::-1].copy()))
  assert np.abs(seen - other)[1:].max() > 1e-4
  np.testing.assert_array_equal(seen[0], other[0])
