"""launch/convert.py, every way that the formats allow."""

import itertools
import json
import runpy

import jax
import numpy as np
import pytest

from vljax import config as config_lib
from vljax import convert, hub, interop, recipes, tree
from vljax.checkpoint import Manager, Metadata
from vljax.data import tokenizers
from vljax.data.tokenizers import clip_bpe
from vljax.interop import hf_tokenizer, hugging_face, torchvision
from vljax.interop.imported import Imported, clip_preprocess
from vljax.layers.batch_norm import STATISTICS
from vljax.models import dual_encoder, fitting

TARGETS = {"vljax": "x", "hf": "x", "openai": "x.pt", "open_clip": "x"}


@pytest.fixture(scope="session")
def program(root):
  return runpy.run_path(str(root / "launch/convert.py"))["main"]


@pytest.fixture(scope="module")
def imported() -> Imported:
  """A tiny CLIP that every format can hold."""
  try:
    clip_bpe.find()
  except FileNotFoundError as error:
    pytest.skip(str(error))
  return make(vocab=49_408)


def make(**text) -> Imported:
  activation = dict(activation="quick_gelu")
  config = dict(
    image=dict(image_size=16, patch=8, width=64, depth=1, heads=1, **activation),
    text=dict(length=8, width=64, depth=1, heads=1, **activation) | text,
    dim=12,
  )
  rng = np.random.default_rng(0)
  shapes = fitting.abstract(dual_encoder.build_from(**config))
  params = jax.tree.map(lambda s: np.asarray(rng.normal(size=s.shape) * 0.3, np.float32), shapes)
  return Imported(config, params, clip_preprocess(16), dict(kind="clip_bpe", length=8))


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(TARGETS, 2)))
def test_every_way(imported, program, tmp_path, capsys, first, second):
  source, target = tmp_path / "a" / TARGETS[first], tmp_path / "b" / TARGETS[second]
  for folder in ("a", "b"):
    (tmp_path / folder).mkdir()
  convert.write(source, imported, first)
  program(["--from", str(source), "--to", str(target), "--format", second])
  printed = capsys.readouterr().out
  assert f"parameters as {second}" in printed
  assert "differ by at most 0\n" in printed
  wanted, found = tree.flatten(imported.params), tree.flatten(convert.read(target).params)
  assert found.keys() == wanted.keys()
  assert all(np.array_equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.slow
def test_the_hub_opens_what_was_converted(imported, program, tmp_path):
  convert.write(tmp_path / "x.pt", imported, "openai")
  program(["--from", str(tmp_path / "x.pt"), "--to", str(tmp_path / "run"), "--format", "vljax"])
  ours, theirs = hub.load(tmp_path / "run"), hub.load(tmp_path / "x.pt")
  texts = ["a photo of a dog", "two cats"]
  assert np.array_equal(ours.encode_text(texts), theirs.encode_text(texts))
  picture = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
  assert np.array_equal(ours.encode_image(picture), theirs.encode_image(picture))


@pytest.fixture
def with_sentencepiece(tmp_path):
  tokenizer = tokenizers.train_sentencepiece(
    [f"a {c} thing" for c in "abcdefghijklm"], vocab_size=20, length=8, byte_fallback=False
  )
  tokenizer.save(tmp_path / "spm")
  found = make(vocab=tokenizer.vocab_size, pool="eos", eos_id=tokenizer.eos_id)
  found.tokenizer = dict(kind="sentencepiece", path=str(tmp_path / "spm"), length=8)
  return found


@pytest.mark.slow
@pytest.mark.parametrize("format", ["hf", "openai", "open_clip"])
def test_a_tokenizer_that_the_format_cannot_hold(with_sentencepiece, program, tmp_path, format):
  convert.write(tmp_path / "run", with_sentencepiece, "vljax")
  arguments = ["--from", str(tmp_path / "run"), "--to", str(tmp_path / "y"), "--format", format]
  with pytest.raises(
    ValueError, match=f"the format {format} cannot hold .*'sentencepiece'.*--drop_tokenizer leaves it out"
  ):
    program(arguments)
  assert not (tmp_path / "y").exists()
  if format == "openai":
    with pytest.raises(ValueError, match="text.pool = 'eos'"):
      program([*arguments, "--drop_tokenizer"])
  else:
    program([*arguments, "--drop_tokenizer"])
    assert convert.read(tmp_path / "y").tokenizer == {}


def test_a_source_without_tokenizer_becomes_no_workdir(program, tmp_path):
  found = make(vocab=40)
  found.tokenizer = {}
  convert.write(tmp_path / "x", found, "hf")
  with pytest.raises(ValueError, match="the format vljax holds a tokenizer, and the source brings none"):
    program(["--from", str(tmp_path / "x"), "--to", str(tmp_path / "y"), "--format", "vljax"])


@pytest.mark.slow
def test_an_activation_that_is_not_told(imported, program, tmp_path, capsys):
  convert.write(tmp_path / "x", imported, "open_clip")
  (tmp_path / "x/open_clip_config.json").unlink()
  file = tmp_path / "x/open_clip_model.safetensors"
  arguments = ["--from", str(file), "--to", str(tmp_path / "y"), "--format", "hf"]
  with pytest.raises(ValueError, match="weights do not tell QuickGELU from GELU"):
    program(arguments)
  program([*arguments, "--activation", "gelu"])
  assert "note: " in capsys.readouterr().out
  config = json.loads((tmp_path / "y/config.json").read_text())
  assert config["vision_config"]["hidden_act"] == config["text_config"]["hidden_act"] == "gelu"


@pytest.mark.slow
def test_towers_of_unlike_activations(program, tmp_path, capsys):
  found = make(vocab=40, activation="gelu")
  found.tokenizer = {}
  convert.write(tmp_path / "x", found, "hf")
  program(["--from", str(tmp_path / "x"), "--to", str(tmp_path / "new/y"), "--format", "hf"])
  assert "differ by at most 0\n" in capsys.readouterr().out
  with pytest.raises(ValueError, match="the format open_clip cannot hold text.activation = 'gelu'"):
    program(["--from", str(tmp_path / "x"), "--to", str(tmp_path / "z"), "--format", "open_clip"])


@pytest.mark.slow
def test_a_tokenizer_that_does_not_come_back_is_noted(imported, tmp_path):
  found = Imported(**vars(imported))
  found.tokenizer = {**imported.tokenizer, "clean": "whitespace", "strict": True}
  convert.write(tmp_path / "run", found, "vljax")
  notes = convert.convert(tmp_path / "run", tmp_path / "x", "hf").notes
  assert f"{tmp_path}/x is read with another tokenizer than its source: {convert.TEXTS[1]!r} gets other ids" in notes
  assert convert.convert(tmp_path / "run", tmp_path / "y", "open_clip").notes == ()


@pytest.mark.slow
def test_a_tokenizer_that_is_lost_is_noted(imported, tmp_path, monkeypatch):
  convert.write(tmp_path / "x.pt", imported, "openai")
  monkeypatch.setattr(hf_tokenizer, "save", lambda *arguments, **options: [])
  monkeypatch.setattr(hugging_face, "own_clip_tokenizer", lambda *arguments: {})
  notes = convert.convert(tmp_path / "x.pt", tmp_path / "y", "hf").notes
  assert f"{tmp_path}/y is read without the tokenizer of its source" in notes


def test_nothing_is_overwritten(imported, program, tmp_path):
  convert.write(tmp_path / "x.pt", imported, "openai")
  with pytest.raises(FileExistsError, match="exists already; name a new path"):
    program(["--from", str(tmp_path / "x.pt"), "--to", str(tmp_path), "--format", "hf"])


@pytest.mark.parametrize("format", ["hf", "torchvision", "llama"])
def test_no_source(program, tmp_path, format):
  with pytest.raises(FileNotFoundError, match="none does not exist"):
    program(["--from", str(tmp_path / "none"), "--to", str(tmp_path / "y"), "--format", format])


def test_a_target_that_differs_is_found(imported):
  other = Imported(**vars(imported))
  other.params = jax.tree.map(lambda x: x * 1.01, imported.params)
  assert convert.compare(imported, imported) == 0
  assert convert.compare(imported, other) > 1e-4


@pytest.fixture(scope="module", params=["simclr_cifar", "supervised_r50"])
def seeing(request, root, tmp_path_factory):
  """The workdir of a run without texts, whose every leaf is random."""
  workdir = tmp_path_factory.mktemp("seeing") / "run"
  raw = config_lib.load(f"{root}/configs/contrastive/{request.param}.py:smoke", ())
  parsed = recipes.parse(raw)
  rng = np.random.default_rng(0)
  shapes = fitting.abstract_weights(recipes.build(parsed).model)
  params = jax.tree.map(lambda s: jax.numpy.asarray(rng.uniform(0, 0.1, s.shape), "float32"), shapes)
  extras = {STATISTICS: params.pop(STATISTICS)}
  manager = Manager(workdir, metadata=Metadata(config=config_lib.to_dict(raw), meaning=recipes.meaning(parsed)))
  manager.save(0, {"params": params, "extras": extras}, force=True)
  manager.close()
  return workdir


@pytest.mark.slow
def test_the_trunk_of_a_run_without_texts(seeing, program, tmp_path, capsys):
  program(["--from", str(seeing), "--to", str(tmp_path / "x.pt"), "--format", "torchvision"])
  printed = capsys.readouterr().out
  assert "parameters as torchvision" in printed
  assert "differ by at most 0\n" in printed
  assert "tells no preprocessing: pictures have" in printed
  found, bundle = torchvision.load(tmp_path / "x.pt")[1], hub.load(seeing)
  jax.tree.map(np.testing.assert_array_equal, found[STATISTICS], dict(bundle.params[STATISTICS]["backbone"]))
  wanted = dict(bundle.params["backbone"])
  if bundle.config["recipe"] == "classification":
    wanted["classifier"] = bundle.params["classifier"]
  else:
    assert "leaves out head" in printed
    assert "conv1 of 3 x 3" in printed
  jax.tree.map(np.testing.assert_array_equal, {k: x for k, x in found.items() if k != STATISTICS}, wanted)


def test_a_run_without_texts_is_no_dual_encoder(seeing, program, tmp_path):
  with pytest.raises(
    ValueError, match=r"is a run of the recipe \w+, which knows no texts; legal formats: torchvision"
  ):
    program(["--from", str(seeing), "--to", str(tmp_path / "x"), "--format", "hf"])
  with pytest.raises(ValueError, match=r"run holds no language model, .* llama is for; .*legal formats: torchvision$"):
    program(["--from", str(seeing), "--to", str(tmp_path / "x"), "--format", "llama"])
  with pytest.raises(ValueError, match=r"unknown ending of a file of torch's '.npz'"):
    program(["--from", str(seeing), "--to", str(tmp_path / "x.npz"), "--format", "torchvision"])


def test_a_vit_has_no_torchvision_trunk(imported, program, tmp_path):
  convert.write(tmp_path / "a", imported, "hf")
  with pytest.raises(ValueError, match="a holds a ViT; the format torchvision takes the ResNet of a run of simclr"):
    program(["--from", str(tmp_path / "a"), "--to", str(tmp_path / "x.pt"), "--format", "torchvision"])


def test_a_flamingo_is_written_in_no_other_format(program, tmp_path):
  manager = Manager(tmp_path / "run", metadata=Metadata(config=dict(recipe="flamingo")))
  manager.save(0, {"params": {"x": jax.numpy.zeros(1)}}, force=True)
  manager.close()
  with pytest.raises(ValueError, match="run is a run of the recipe flamingo, which is written in no other format"):
    program(["--from", str(tmp_path / "run"), "--to", str(tmp_path / "x"), "--format", "hf"])
  with pytest.raises(ValueError, match="llama is for; .*flamingo, which is written in no other format"):
    program(["--from", str(tmp_path / "run"), "--to", str(tmp_path / "x"), "--format", "llama"])


@pytest.mark.slow
def test_a_language_model(language_folder, program, tmp_path, capsys):
  program(["--from", str(language_folder), "--to", str(tmp_path / "x"), "--format", "llama"])
  assert "differ by at most 0\n" in capsys.readouterr().out
  before, after = interop.load_tower(language_folder), interop.load_tower(tmp_path / "x")
  jax.tree.map(np.testing.assert_array_equal, before.weights, after.weights)
  text = "that a thing"
  before, after = (tokenizers.build(**x.tokenizer) for x in (before, after))
  assert before.encode(text) == after.encode(text)
  arguments = ["--from", str(language_folder), "--to", str(tmp_path / "y"), "--format"]
  program([*arguments, "llama", "--drop_tokenizer"])
  assert f"note: {tmp_path}/y holds no tokenizer files" in capsys.readouterr().out


def test_a_language_model_in_a_format_that_is_not_its_own(language_folder, program, tmp_path):
  arguments = ["--from", str(language_folder), "--to", str(tmp_path / "y"), "--format"]
  with pytest.raises(ValueError, match="the format opt cannot hold "):
    program([*arguments, "opt"])
  with pytest.raises(ValueError, match="is a language model; legal formats: opt, gpt_neox, llama"):
    program([*arguments, "hf"])
  with pytest.raises(ValueError, match="activation = 'gelu' of a dual encoder, which the format llama does not hold"):
    program([*arguments, "llama", "--activation", "gelu"])
  assert not (tmp_path / "y").exists()
