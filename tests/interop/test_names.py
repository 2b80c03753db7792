"""The tables of names, read both ways, and the errors of keys that are not in them."""

import jax
import numpy as np
import pytest

from vljax import tree
from vljax.interop import hugging_face, names, openai
from vljax.models import dual_encoder, fitting

TABLES = {"openai": openai.TABLE, "hf": hugging_face.TABLE}


@pytest.fixture(scope="module")
def model():
  image = dict(image_size=16, patch=8, width=32, depth=3, heads=4, mlp=48, activation="quick_gelu")
  text = dict(vocab=40, length=7, width=16, depth=2, heads=2, mlp=24, activation="quick_gelu")
  return dual_encoder.build_from(image=image, text=text, dim=12)


@pytest.fixture(scope="module")
def params(model):
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda s: np.asarray(rng.normal(size=s.shape), np.float32), fitting.abstract(model))


@pytest.mark.parametrize("name", TABLES)
def test_there_and_back(name, model, params):
  theirs = names.to_theirs(TABLES[name], params, "x")
  ours = names.to_ours(TABLES[name], theirs, model, "x")
  wanted = tree.flatten(params)
  assert tree.flatten(ours).keys() == wanted.keys()
  assert all(np.array_equal(x, wanted[k]) and x.shape == wanted[k].shape for k, x in tree.flatten(ours).items())
  assert all(x.flags.c_contiguous for x in theirs.values())


@pytest.mark.parametrize("name", TABLES)
def test_dimensions_are_read_off_the_shapes(name, params):
  found = names.infer(TABLES[name], names.to_theirs(TABLES[name], params, "x"), "x")
  assert found == dict(
    image=dict(image_size=16, patch=8, width=32, depth=3, mlp=48),
    text=dict(vocab=40, length=7, width=16, depth=2, mlp=24),
    dim=12,
  )


def test_the_layouts(model, params):
  """Torch's rules written out: out = x @ W.T + b, query, key and value one after the other, heads inside each."""
  theirs = names.to_theirs(openai.TABLE, params, "x")
  layer = {k: v[1] for k, v in tree.flatten(params["image"]["blocks"]).items()}
  fused = theirs["visual.transformer.resblocks.1.attn.in_proj_weight"]
  assert fused.shape == (96, 32)
  x = np.random.default_rng(1).normal(size=32).astype(np.float32)
  value = np.einsum("w,wkd->kd", x, layer["attention/value/kernel"]).reshape(-1)
  np.testing.assert_allclose(fused[64:] @ x, value, rtol=1e-5, atol=1e-5)
  out = theirs["visual.transformer.resblocks.1.attn.out_proj.weight"]
  np.testing.assert_allclose(
    out @ x, np.einsum("kd,kdw->w", x.reshape(4, 8), layer["attention/out/kernel"]), rtol=1e-5, atol=1e-5
  )
  conv = theirs["visual.conv1.weight"]
  assert conv[5, 2, 3, 1] == params["image"]["patch"]["kernel"][3, 1, 2, 5]


def test_unknown_key(model, params):
  theirs = names.to_theirs(openai.TABLE, params, "x")
  theirs["visual.ln_prE.weight"] = theirs.pop("visual.ln_pre.weight")
  with pytest.raises(ValueError, match="unknown") as raised:
    names.to_ours(openai.TABLE, theirs, model, "f.pt")
  assert str(raised.value) == "f.pt: the key 'visual.ln_prE.weight' is unknown; the nearest is 'visual.ln_pre.weight'"


def test_missing_key(model, params):
  theirs = names.to_theirs(openai.TABLE, params, "x")
  del theirs["ln_final.bias"]
  with pytest.raises(ValueError, match=r"f.pt: the key 'ln_final.bias' is missing; the nearest is 'ln_final.weight'"):
    names.to_ours(openai.TABLE, theirs, model, "f.pt")


def test_a_layer_that_is_missing(params):
  theirs = names.to_theirs(openai.TABLE, params, "x")
  theirs = {k: v for k, v in theirs.items() if "visual.transformer.resblocks.1." not in k}
  found = names.infer(openai.TABLE, theirs, "x")
  image = {**found["image"], "heads": 4}
  model = dual_encoder.build_from(image=image, text={**found["text"], "heads": 2}, dim=12)
  with pytest.raises(ValueError, match=r"the key 'visual.transformer.resblocks.1.ln_1.weight' is missing"):
    names.to_ours(openai.TABLE, theirs, model, "f.pt")


def test_dropped_keys(model, params):
  theirs = names.to_theirs(openai.TABLE, params, "x")
  extra = dict(input_resolution=16, context_length=7, vocab_size=40)
  theirs |= {k: np.asarray(v) for k, v in extra.items()}
  theirs["transformer.resblocks.0.attn_mask"] = np.zeros((7, 7))
  assert set(names.to_ours(openai.TABLE, theirs, model, "x")) == set(params)


def test_wrong_shape(model, params):
  theirs = names.to_theirs(openai.TABLE, params, "x")
  theirs["visual.transformer.resblocks.0.attn.in_proj_bias"] = np.zeros(95)
  with pytest.raises(ValueError, match=r"in_proj_bias of shape \(95,\) is no head_bias of this model"):
    names.to_ours(openai.TABLE, theirs, model, "f.pt")


def test_a_parameter_without_a_place(params):
  wrong = {**params, "image": {**params["image"], "patch": {**params["image"]["patch"], "bias": np.zeros(32)}}}
  with pytest.raises(ValueError, match="f.pt: the format has no place for the parameter 'image/patch/bias'"):
    names.to_theirs(openai.TABLE, wrong, "f.pt")


def test_positions_that_are_no_square(params):
  theirs = names.to_theirs(openai.TABLE, params, "x")
  theirs["visual.positional_embedding"] = np.zeros((7, 32))
  with pytest.raises(ValueError, match="f.pt: 7 image positions are not a class token and a square of patches"):
    names.infer(openai.TABLE, theirs, "f.pt")
