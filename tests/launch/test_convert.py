"""launch/convert.py, every way that the formats allow."""

import itertools
import json
import runpy

import jax
import numpy as np
import pytest

from vljax import convert, hub, tree
from vljax.data import tokenizers
from vljax.data.tokenizers import clip_bpe
from vljax.interop.imported import Imported, clip_preprocess
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


def test_towers_of_unlike_activations(program, tmp_path, capsys):
  found = make(vocab=40, activation="gelu")
  found.tokenizer = {}
  convert.write(tmp_path / "x", found, "hf")
  program(["--from", str(tmp_path / "x"), "--to", str(tmp_path / "new/y"), "--format", "hf"])
  assert "differ by at most 0\n" in capsys.readouterr().out
  with pytest.raises(ValueError, match="the format open_clip cannot hold text.activation = 'gelu'"):
    program(["--from", str(tmp_path / "x"), "--to", str(tmp_path / "z"), "--format", "open_clip"])


def test_nothing_is_overwritten(imported, program, tmp_path):
  convert.write(tmp_path / "x.pt", imported, "openai")
  with pytest.raises(FileExistsError, match="exists already; name a new path"):
    program(["--from", str(tmp_path / "x.pt"), "--to", str(tmp_path), "--format", "hf"])


def test_no_source(program, tmp_path):
  with pytest.raises(FileNotFoundError, match="none does not exist"):
    program(["--from", str(tmp_path / "none"), "--to", str(tmp_path / "y"), "--format", "hf"])


def test_a_target_that_differs_is_found(imported):
  other = Imported(**vars(imported))
  other.params = jax.tree.map(lambda x: x * 1.01, imported.params)
  assert convert.compare(imported, imported) == 0
  assert convert.compare(imported, other) > 1e-4
