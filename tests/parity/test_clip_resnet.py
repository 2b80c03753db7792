"""open_clip's RN models with the same weights: features, statistics, gradients, files both ways."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from vljax import interop
from vljax.interop import openai, torch_reader
from vljax.layers.batch_norm import variables
from vljax.objectives.contrastive import softmax_contrastive

pytestmark = pytest.mark.parity

TINY = dict(
  embed_dim=24,
  vision_cfg=dict(image_size=64, layers=[2, 1, 1, 1], width=16, patch_size=None),
  text_cfg=dict(context_length=12, vocab_size=99, width=64, heads=1, layers=2),
)


def build(torch, open_clip, config):
  """A model whose gains, biases and statistics all differ."""
  torch.manual_seed(0)
  model = open_clip.CLIP(**config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim == 1:
        parameter += 0.1 * torch.randn_like(parameter)
    for name, buffer in model.named_buffers():
      if name.endswith("running_mean"):
        buffer += 0.1 * torch.randn_like(buffer)
      if name.endswith("running_var"):
        buffer *= 0.5 + torch.rand_like(buffer)
  return model


@pytest.fixture(scope="module")
def tiny(torch, open_clip):
  return build(torch, open_clip, TINY)


def write(folder, model, config):
  from safetensors.torch import save_file

  folder.mkdir()
  save_file(model.state_dict(), folder / "open_clip_model.safetensors")
  content = dict(model_cfg=config, preprocess_cfg=dict(mean=[0.5] * 3, std=[0.5] * 3))
  (folder / "open_clip_config.json").write_text(json.dumps(content))
  return folder


def assert_same(compare, torch, model, imported, atol):
  compared = compare(imported, batch=3)
  ours = jax.jit(imported.model().apply)(variables(imported.params), compared.image, compared.tokens)
  with torch.no_grad():
    theirs = model.encode_image(compared.pixels()), model.encode_text(torch.tensor(compared.tokens).long())
  theirs = [(x / x.norm(dim=-1, keepdim=True)).numpy() for x in theirs]
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)
  scale = float(model.logit_scale.detach().exp())
  np.testing.assert_allclose(scale * ours[0] @ ours[1].T, scale * theirs[0] @ theirs[1].T, rtol=0, atol=1e-4)


def test_features_and_files_of_open_clip(torch, open_clip, compare, tiny, tmp_path):
  imported = interop.load(write(tmp_path / "a", tiny, TINY))
  assert imported.config["image"] == dict(
    tower="modified_resnet", blocks=(2, 1, 1, 1), base=16, image_size=64, heads=8
  )
  assert_same(compare, torch, tiny, imported, atol=1e-5)
  (note,) = interop.save(tmp_path / "b", imported, "open_clip")
  assert "num_batches_tracked" in note
  before, after = (load_file(tmp_path / n / "open_clip_model.safetensors") for n in "ab")
  assert before.keys() == after.keys()
  for name in before:
    np.testing.assert_array_equal(before[name], after[name], err_msg=name)
  again, *_ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'b'}")
  assert all(torch.equal(x, tiny.state_dict()[name]) for name, x in again.state_dict().items())


def test_openai_files(torch, open_clip, compare, tiny, tmp_path):
  model = open_clip.model.build_model_from_openai_state_dict(dict(tiny.state_dict()), cast_dtype=None).float().eval()
  half = open_clip.model.build_model_from_openai_state_dict(dict(tiny.state_dict()), cast_dtype=None).eval()
  open_clip.model.convert_weights_to_fp16(half)
  torch.save(half.state_dict(), tmp_path / "a.pt")
  imported = interop.load(tmp_path / "a.pt")
  assert_same(compare, torch, model, imported, atol=1e-4)
  openai.save(tmp_path / "b.pt", imported, half=True)
  before, after = (torch_reader.state_dict(tmp_path / f"{n}.pt") for n in "ab")
  assert before.keys() == after.keys()
  for name in before:
    assert before[name].dtype == after[name].dtype, name
    np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_gradients_and_statistics_in_training(torch, compare, tiny, tmp_path):
  """Of several batches the nearest counts: where a unit's input rounds to the other side of its ReLU's kink, all
  gradients below it move by some 1e-2, in either library."""
  imported = interop.load(write(tmp_path / "a", tiny, TINY))
  model, start, size = imported.model(), variables(imported.params), 4

  @jax.jit
  def ours(params, image, tokens):
    def loss(params):
      z, new = model.apply({**start, "params": params}, image, tokens, train=True, mutable=["batch_stats"])
      return softmax_contrastive(*z, model.apply({"params": params}, method="scale"))[0] / size, new

    return jax.value_and_grad(loss, has_aux=True)(params)

  cross, target = torch.nn.functional.cross_entropy, torch.arange(size)
  state = {name: x.clone() for name, x in tiny.state_dict().items()}
  apart: dict[str, list[float]] = {}
  for seed in range(4):
    compared = compare(imported, batch=size, seed=seed)
    (value, new), grads = ours(start["params"], compared.image, compared.tokens)
    found = openai.to_state(jax.tree.map(np.asarray, {**grads, **new}), model, "gradients")
    tiny.load_state_dict(state)
    tiny.zero_grad()
    image, text, scale = tiny.train()(compared.pixels(), torch.tensor(compared.tokens).long())
    logits = scale * image @ text.T
    loss = (cross(logits, target) + cross(logits.T, target)) / 2
    loss.backward()
    assert float(value) == pytest.approx(float(loss.detach()), rel=1e-4)
    for name, parameter in tiny.named_parameters():
      theirs = parameter.grad.numpy()
      error = np.abs(found[name] - theirs).max() / max(np.abs(theirs).max(), 1e-3)
      apart.setdefault(name, []).append(error)
    for name, buffer in tiny.named_buffers():
      if name.endswith("running_mean"):
        np.testing.assert_allclose(found[name], buffer.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
  tiny.load_state_dict(state)
  tiny.eval().zero_grad()
  assert {name: errors for name, errors in apart.items() if min(errors) > 1e-3} == {}


@pytest.mark.slow
def test_full_size(torch, open_clip, compare, tmp_path):
  config = open_clip.get_model_config("RN50")
  model = build(torch, open_clip, config)
  torch.save(model.state_dict(), tmp_path / "RN50.pt")
  imported = interop.load(tmp_path / "RN50.pt", activation="gelu")
  assert imported.config["image"] == dict(
    tower="modified_resnet", blocks=(3, 4, 6, 3), base=64, image_size=224, heads=32
  )
  assert imported.tokenizer == dict(kind="clip_bpe", length=77)
  assert_same(compare, torch, model, imported, atol=1e-4)
