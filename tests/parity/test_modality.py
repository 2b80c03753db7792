"""The towers of further modalities against the same mathematics built of torch's own modules, on random weights."""

import jax
import numpy as np
import pytest
from flax.core import meta

from vljax.models import modality

pytestmark = pytest.mark.parity


def block_of(torch, width, heads, bias_kv):
  nn = torch.nn

  class Block(nn.Module):
    def __init__(self):
      super().__init__()
      self.norm_1, self.norm_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
      self.attention = nn.MultiheadAttention(width, heads, add_bias_kv=bias_kv, batch_first=True)
      self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
      y = self.norm_1(x)
      x = x + self.attention(y, y, y, need_weights=False)[0]
      return x + self.down(nn.functional.gelu(self.up(self.norm_2(x))))

  return Block()


def load(torch, module, params):
  """Our parameters into a module of torch."""
  put = lambda target, value: target.data.copy_(torch.tensor(np.array(value)))
  for i, block in enumerate(module["blocks"]):
    p = jax.tree.map(lambda x, i=i: np.asarray(x[i]), params["blocks"])
    width = p["norm_1"]["scale"].shape[0]
    a = p["attention"]
    put(block.attention.in_proj_weight, np.concatenate([a[n]["kernel"].reshape(width, -1).T for n in QKV]))
    put(block.attention.in_proj_bias, np.concatenate([a[n]["bias"].reshape(-1) for n in QKV]))
    put(block.attention.out_proj.weight, a["out"]["kernel"].reshape(-1, width).T)
    put(block.attention.out_proj.bias, a["out"]["bias"])
    if "key_token" in a:
      put(block.attention.bias_k, a["key_token"].reshape(1, 1, -1))
      put(block.attention.bias_v, a["value_token"].reshape(1, 1, -1))
    for name in ("norm_1", "norm_2"):
      put(getattr(block, name).weight, p[name]["scale"])
      put(getattr(block, name).bias, p[name]["bias"])
    for name in ("up", "down"):
      put(getattr(block, name).weight, p["mlp"][name]["kernel"].T)
      put(getattr(block, name).bias, p["mlp"][name]["bias"])
  for name in ("norm_stem", "norm_pre", "norm_post"):
    if name in module:
      put(module[name].weight, params[name]["scale"])
      put(module[name].bias, params[name]["bias"])
  return put


QKV = ("query", "key", "value")


@pytest.mark.parametrize("name", ["video", "audio", "depth", "imu"])
def test_towers_are_those_of_torch_modules(torch, name):
  nn = torch.nn
  model = modality.build(f"{name}-test")
  params = meta.unbox(model.init(jax.random.key(0), *model.inputs())["params"])
  keys = iter(jax.random.split(jax.random.key(1), 100))
  params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), params)
  x = np.random.default_rng(0).standard_normal((3, *model.shape)).astype(np.float32)

  width, rank = model.width, len(model.patch)
  norms = {"norm_post": nn.LayerNorm(width, eps=1e-6)}
  norms |= {"norm_stem": nn.LayerNorm(width)} if model.norm_stem else {}
  norms |= {"norm_pre": nn.LayerNorm(width, eps=1e-6)} if model.norm_pre else {}
  blocks = nn.ModuleList([block_of(torch, width, model.heads, model.bias_kv) for _ in range(model.depth)])
  module = nn.ModuleDict({"blocks": blocks, **norms}).eval()
  put = load(torch, module, params)
  kernel = np.moveaxis(np.asarray(params["patch"]["kernel"]), (-1, -2), (0, 1))
  signal = torch.tensor(np.moveaxis(x, -1, 1).copy())
  with torch.no_grad():
    if rank == 1:
      stem = nn.Linear(kernel.shape[1] * kernel.shape[2], width, bias=False)
      put(stem.weight, kernel.reshape(width, -1))
      windows = signal.unfold(-1, model.patch[0], model.patch[0]).permute(0, 2, 1, 3)
      y = stem(windows.reshape(*windows.shape[:2], -1))
    else:
      make = {2: nn.Conv2d, 3: nn.Conv3d}[rank]
      stem = make(kernel.shape[1], width, model.patch, stride=model.stride or model.patch, bias=False)
      put(stem.weight, kernel)
      y = stem(signal).flatten(2).transpose(1, 2)
    y = module["norm_stem"](y) if model.norm_stem else y
    cls = torch.tensor(np.array(params["cls"])).expand(3, 1, width)
    y = torch.cat([cls, y], dim=1) + torch.tensor(np.array(params["pos"]))
    y = module["norm_pre"](y) if model.norm_pre else y
    for block in module["blocks"]:
      y = block(y)
    expected = module["norm_post"](y)[:, 0].numpy()
  found = model.apply({"params": params}, x)
  np.testing.assert_allclose(found, expected, atol=1e-4)
