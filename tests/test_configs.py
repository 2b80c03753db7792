"""Every config says what it is, builds at its full size without its data, and lowers in its `:smoke` variant."""

import ast
import dataclasses
import pathlib
import re

import jax
import numpy as np
import pytest

from vljax import config, parallel, recipes, tree
from vljax.checkpoint import load_params
from vljax.data import batching, pictures, sources, transforms, vocabulary
from vljax.data.sources import uri
from vljax.flamingo import FlamingoBundle
from vljax.models import dual_encoder, fitting
from vljax.ops.attention import IMPLEMENTATIONS
from vljax.train import optim, writers
from vljax.train.trainer import Trainer

ROOT = pathlib.Path(__file__).parent.parent
NOT_RUNS = ("common.py", "ablations")
FILES = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("configs/**/*.py") if not {*NOT_RUNS} & {*p.parts})
SIMCLR = "configs/contrastive/simclr_r50.py"
PUBLISHED = {
  name: "configs/contrastive/siglip.py" if "SigLIP" in name else "configs/contrastive/clip.py"
  for name in dual_encoder.VARIANTS
  if name not in ("test", "small")
}


def load(spec, *overrides):
  return recipes.parse(config.load(f"{ROOT}/{spec}", overrides))


@pytest.mark.parametrize("file", FILES)
def test_docstring_names_command_hardware_expectation_and_status(file):
  text = ast.get_docstring(ast.parse((ROOT / file).read_text()))
  assert re.search(rf"python launch/train.py --config={file}\S* --workdir=\S+", text)
  assert "Hardware:" in text
  assert "Expected:" in text
  assert re.search(r"Status:\s+(reproduced|runs|untested)", text)
  assert "`:smoke`" in text


@pytest.mark.slow
@pytest.mark.parametrize(
  "spec", [*FILES, f"{SIMCLR}:crops=host", *(f"{file}:variant={name}" for name, file in PUBLISHED.items())]
)
def test_full_size_builds_and_its_groups_match_the_parameters(spec):
  parsed = load(spec)
  recipe = recipes.build(parsed)
  trains = "|".join(f"(?:{phase.trains})" for phase in recipe.phases)
  leaves = tree.flatten(fitting.abstract(recipe.model))
  names = [n for name, leaf in leaves.items() for n in tree.layer_names(name, leaf) if re.fullmatch(trains, n)]
  optim.check(parsed.optim, names)
  decayed = [group.wd > 0 for _, group in parsed.optim]
  for name in set(names) - {"classifier/kernel"}:
    plain = f"/{name}".endswith(("/bias", "/scale", "/log_scale", "gain"))
    plain = plain or re.match(r"resampler/|lm/extra_|.*/gate_", name) is not None  # Flamingo, appendix B.1.2
    assert decayed[optim.match(parsed.optim, name)] == (any(decayed) and not plain), name
  tower = getattr(
    recipe.model, {"clip": "image", "imagebind": "image", "flamingo": "vision"}.get(parsed.recipe, "backbone")
  )
  steps = [step for stream in parsed.streams.values() for step in stream.transforms]
  steps += getattr(parsed, "augment", ())
  sizes = [step[1] for step in steps if step[0] in ("random_resized_crop", "two_crops", "preprocess", "pictures")]
  part = 2 / 3 if "simclr_flowers" in spec else 1  # it trains on smaller crops than it is asked at
  assert sizes[-1] == part * tower.image_size


def uris(node):
  """Every source that a config names: of streams, evaluations, a report, a vocabulary to learn."""
  for name, value in node.items():
    if isinstance(value, dict):
      yield from uris(value)
    elif name in ("source", "labelled", "learn"):
      yield value


@pytest.mark.parametrize("file", FILES)
def test_full_size_names_sources_by_their_options(file):
  found = list(uris(config.to_dict(config.load(f"{ROOT}/{file}"))))
  assert found
  for text in found:
    kind, _, options = uri.parse(text)
    of_kind = [sources.KINDS[kind], *([sources.part] if "split" in options else [])]
    legal = [name for function in of_kind for name in uri.option_names(function)]
    assert set(options) <= set(legal), text
    for function in of_kind:
      own = {name: value for name, value in options.items() if name in uri.option_names(function)}
      uri.arguments(function, own, text)


def test_flamingo_reads_what_the_paper_reads():
  """Appendices A.3 and B.1.2: the filters of pages, texts alone, clips of 8 frames at 1 a second, captions of COCO."""
  parsed = load("configs/flamingo/flamingo.py:sets=pages+clips+texts")
  options = {name: uri.parse(stream.source)[2] for name, stream in parsed.streams.items()}
  assert options["pages"] == dict(images="images.tar", side="64", ratio="3", plain="true")
  assert options["texts"] == dict(least="0")
  assert options["clips"] == {}
  assert uri.parse(parsed.evals["captions"].source)[2] == dict(caption="captions.text", part="val")
  assert parsed.streams["clips"].transforms[0] == ("clip", 8, 1.0)
  rows = {name: stream.transforms[-1] for name, stream in parsed.streams.items()}
  assert rows == dict(pages=("pack", 256, 5), clips=("pack", 64, 1), texts=("pack", 256, 0))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("spec", "vision"),
  [
    ("flamingo.py:tower=F6,vision=RUN,lm=LM", "flamingo_vision.py:variant=f6"),
    ("flamingo.py:tower=F0,vision=RUN,lm=LM", "flamingo_vision.py:variant=f0"),
    ("flamingo.py:tower=ViT-L/14,vision=RUN,lm=LM", "clip.py:variant=ViT-L-14"),
    ("flamingo_smollm2.py:vision=RUN", "clip_flickr8k.py"),
  ],
)
def test_flamingo_starts_from_names_that_source_and_target_have(spec, vision):
  """Every leaf that `init` takes has a place, and no leaf of the vision encoder or the language model is left out."""
  parsed = load(f"configs/flamingo/{spec}")
  model = recipes.build(parsed).model
  found = {"lm": model.lm.clone(extra=0), "vision": recipes.build(load(f"configs/contrastive/{vision}")).model}
  wanted = leaf_shapes(model)
  assert {prefix for _, _, prefix in parsed.init} == found.keys()
  for _, regex, prefix in parsed.init:
    source = leaf_shapes(found[prefix])
    source = {f"lm/{name}": shape for name, shape in source.items()} if prefix == "lm" else source
    taken = {f"{prefix}/{m[1]}": source[name] for name in source if (m := re.fullmatch(regex, name))}
    assert taken == {n: s for n, s in wanted.items() if n.startswith(f"{prefix}/") and not n.startswith("lm/extra_")}


@pytest.mark.parametrize("spec", ["flamingo.py", "flamingo.py:tower=ViT-L/14", "flamingo_smollm2.py"])
def test_flamingo_pads_as_its_bundle_does(spec):
  """In training and evaluation: the margins have the mean that is subtracted, to the nearest color."""
  parsed = load(f"configs/flamingo/{spec}")
  bundle = FlamingoBundle(recipes.build(parsed).model, {}, {}, None, rules=parsed.preprocess)
  picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  wanted = bundle.preprocess(picture)
  assert tuple(wanted[0, 0]) == (pictures.MEAN if parsed.preprocess.normalize == "clip" else (124, 116, 104))
  parts = {**parsed.streams, **parsed.evals}
  assert len(parts) > 1
  for name, part in parts.items():
    step = transforms.build([step for step in part.transforms if step[0] == "pictures"]).steps[0][1]
    media = [picture] if step.frames == 1 else [[picture] * step.frames]
    made = dataclasses.replace(step, p_flip=0.0)({"media": media}, None)["images"][0]
    np.testing.assert_array_equal(made, np.broadcast_to(wanted, made.shape), err_msg=name)


def leaf_shapes(model):
  """The shapes of a model's parameters by unstacked name."""
  leaves = tree.flatten(fitting.abstract(model)).items()
  named = ((name, leaf, tree.layer_names(name, leaf)) for name, leaf in leaves)
  return {n: leaf.shape[1:] if n != name else leaf.shape for name, leaf, names in named for n in names}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_the_models_of_that_name(name):
  parsed = load(f"{PUBLISHED[name]}:variant={name}")
  found, expected = recipes.build(parsed).model, dual_encoder.build(name)
  assert fitting.abstract(found) == fitting.abstract(expected)
  for tower in ("image", "text"):
    assert getattr(found, tower).activation == getattr(expected, tower).activation
  assert parsed.streams["train"].batch % 1024 == 0
  assert parsed.steps * parsed.streams["train"].batch <= 40e9, "no run saw more than 40 billion examples"


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_smoke_lowers_on_a_mesh(file, tmp_path):
  parsed = load(f"{file}:smoke", "--config.mesh.fsdp=2", "--config.mesh.tensor=2")
  assert parsed.steps == 2
  tokenizer = vocabulary.prepare(parsed.tokenizer, tmp_path) if parsed.tokenizer else None
  recipe = recipes.build(parsed, tokenizer)
  trainer = Trainer(recipe, parsed, tokenizer)
  where = parallel.batch_sharding(trainer.mesh)
  rows = lambda name, x: jax.ShapeDtypeStruct((parsed.streams[name].batch, *x.shape), x.dtype, sharding=where)
  due = trainer.due(parsed.steps - 1)
  batches = {}
  for _, stream in due:
    example = jax.tree.map(batching.array, trainer.streams[stream][0].example)
    batches[stream] = {field: rows(stream, value) for field, value in example.items()}
  with trainer.use():
    lowered = trainer.step.jitted.lower(trainer.target(), batches, due=due)
  assert lowered.out_info[0].step.shape == ()
  phase, stream = due[0]
  assert f"{phase}/{stream}/loss" in lowered.out_info[1]


@pytest.mark.slow
def test_smoke_trains_two_steps(smoke_workdir):
  rows = writers.read(smoke_workdir)
  assert [row["step"] for row in rows] == [1, 2]
  assert np.isfinite([row["clip/train/loss"] for row in rows]).all()
  assert "retrieval/image_to_text/R@10" in rows[-1]
  params, metadata = load_params(smoke_workdir)
  assert {"image", "text", "image_head", "text_head", "log_scale"} == set(params)
  assert metadata.config["recipe"] == "clip"


def test_arguments_are_typed_and_their_names_known():
  assert load("configs/contrastive/clip_quickstart.py:steps=9,batch=64,lang=de").steps == 9
  with pytest.raises(ValueError, match=r"^unknown config argument 'step'; legal: .*, smoke, steps$"):
    load("configs/contrastive/clip_quickstart.py:step=9")
  with pytest.raises(ValueError, match=r"^unknown variant 'ViT-B-31'; legal: RN50, "):
    load("configs/contrastive/clip.py:variant=ViT-B-31")
  with pytest.raises(ValueError, match=r"^unknown variant 'B5'; legal: L2, B7$"):
    load("configs/contrastive/align.py:variant=B5")
  with pytest.raises(ValueError, match=r"^unknown modality 'sound'; legal: audio, depth, thermal, imu$"):
    load("configs/contrastive/imagebind.py:modality=sound")
  with pytest.raises(ValueError, match=r"^unknown crops 'hosts'; legal: device, host$"):
    load(f"{SIMCLR}:crops=hosts")


@pytest.mark.parametrize(("tower", "other"), [("image", "text"), ("text", "image")])
def test_a_tower_attends_as_its_config_says(monkeypatch, tower, other):
  """Queries of each implementation's calls tell whose they are."""
  queries = {name: set() for name in ("reference", "xla")}
  for name, found in queries.items():
    module = IMPLEMENTATIONS[name]
    attend = lambda query, *rest, f=module.attend, found=found: found.add(query.shape[1]) or f(query, *rest)
    monkeypatch.setattr(module, "attend", attend)
  model = recipes.build(load("configs/contrastive/clip_quickstart.py:smoke", f"{tower}.attention=reference")).model
  fitting.abstract(model)
  lengths = {"image": (model.image.image_size // model.image.patch) ** 2 + 1, "text": model.text.length}
  assert queries == {"reference": {lengths[tower]}, "xla": {lengths[other]}}


def test_attention_that_cannot_run_here_is_named():
  model = recipes.build(load("configs/contrastive/clip_quickstart.py:smoke", "image.attention=cudnn")).model
  message = "attention implementation 'cudnn' cannot run here: it needs an NVIDIA GPU; the platform is cpu"
  with pytest.raises(ValueError, match=message):
    fitting.abstract(model)
  with pytest.raises(ValueError, match="unknown attention implementation 'cuddn'; did you mean 'cudnn'"):
    fitting.abstract(recipes.build(load("configs/contrastive/clip_quickstart.py:smoke", "text.attention=cuddn")).model)
