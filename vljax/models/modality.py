"""One tower for pictures, clips, spectrograms, depth, heat and motion: only its stem differs (ImageBind)."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vljax import parallel
from vljax.layers.block import Block, Stack
from vljax.layers.embed import positions
from vljax.layers.norm import LayerNorm
from vljax.layers.patch import ConvPatch
from vljax.models import variants
from vljax.parallel import Axis

STEM_EPSILON = 1e-5


class ModalityTower(nn.Module):
  """Patches of an array of any rank, a class token, positions, pre-norm blocks (ImageBind, arXiv 2305.05665, 3.3).

  The feature is norm(class token) after the last block. Attention sees one more learned key and value (`bias_kv`),
  and blocks are passed by at random in training (`drop_path`), as the released model's towers beside image and text
  have them.

  Attributes:
    shape: extents of the input, channels last: [mel frames 1] of sound, [frames h w 3] of clips, [time 6] of motion.
    patch, stride: of the stem, one number for each axis but the channels; stride None means the patch.
    mlp: hidden width of the feed-forward halves; None means 4 * width.
    norm_stem: a norm after the stem.
    norm_pre: a norm before the blocks.
    repeat: a single picture [h w c] makes all frames of a clip.
    drop_path: see `layers.block.Stack`.
    dropout_head: of the feature, in training.
    epsilon: of the norms but the stem's.
    dtype, remat, unroll, attention: as of `vit.ViT`.
  """

  shape: tuple[int, ...]
  patch: tuple[int, ...]
  width: int
  depth: int
  heads: int
  stride: tuple[int, ...] | None = None
  mlp: int | None = None
  activation: str = "gelu"
  norm_stem: bool = True
  norm_pre: bool = False
  repeat: bool = False
  bias_kv: bool = True
  drop_path: float = 0.0
  dropout: float = 0.0
  dropout_head: float = 0.0
  epsilon: float = 1e-6
  dtype: Any = "float32"
  remat: str = "none"
  unroll: int | None = None
  attention: str | None = None

  def setup(self):
    block = Block(
      self.heads, self.mlp or 4 * self.width, self.activation, self.dropout, (2 * self.depth) ** -0.5, self.epsilon,
      self.dtype, self.attention, self.bias_kv, parent=None,
    )  # fmt: skip
    self.stem = ConvPatch(self.patch, self.width, self.stride, self.dtype, name="patch")
    self.norm_first = LayerNorm(STEM_EPSILON, self.dtype, name="norm_stem") if self.norm_stem else None
    self.norm_second = LayerNorm(self.epsilon, self.dtype, name="norm_pre") if self.norm_pre else None
    self.blocks = Stack(block, self.depth, self.remat, self.unroll, drop_path=self.drop_path)
    self.norm_post = LayerNorm(self.epsilon, self.dtype)
    self.drop = nn.Dropout(self.dropout_head)
    std = self.width**-0.5
    self.pos = self.param("pos", positions(std), (math.prod(self.stem.grid(self.shape[:-1])) + 1, self.width))
    init = nn.with_logical_partitioning(nn.initializers.normal(std), (Axis.EMBED,))
    self.cls: Any = self.param("cls", init, (self.width,))

  def __call__(self, x: Float[Array, "b ..."], *, train: bool = False) -> Float[Array, "b d"]:
    """The feature of each example of `shape`; of a single picture, too, where the model repeats it.

    Raises:
      ValueError: an input of another shape.
    """
    if self.repeat and x.ndim == len(self.shape):
      x = jnp.broadcast_to(x[:, None], (x.shape[0], self.shape[0], *x.shape[1:]))
    if x.shape[1:] != self.shape:
      raise ValueError(f"the tower takes inputs of {self.shape} each; found {x.shape[1:]}")
    x = self.stem(x)
    x = x if self.norm_first is None else self.norm_first(x)
    x = jnp.concatenate([jnp.broadcast_to(self.cls.astype(x.dtype), (x.shape[0], 1, self.width)), x], axis=1)
    x += self.pos.astype(x.dtype)
    x = x if self.norm_second is None else self.norm_second(x)
    x = parallel.constrain(x, Axis.BATCH, Axis.POSITION, Axis.EMBED)
    x = self.norm_post(self.blocks(x, train=train)[:, 0])
    return self.drop(x, deterministic=not train) if self.dropout_head else x

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Float[Array, "b ..."]]:
    """Zeros of the shape that the model takes, for `init`."""
    return (jnp.zeros((batch, *self.shape)),)


def _variant(shape: tuple, patch: tuple, width: int, depth: int, heads: int, **more: Any) -> dict[str, Any]:
  return {"shape": shape, "patch": patch, "width": width, "depth": depth, "heads": heads, **more}


CLIP = dict(norm_stem=False, norm_pre=True, bias_kv=False, repeat=True)
AUDIO = dict(stride=(10, 10), drop_path=0.1)
IMU = dict(drop_path=0.7, dropout_head=0.5)

VARIANTS: dict[str, dict[str, Any]] = {
  "video-huge": _variant((2, 224, 224, 3), (2, 14, 14), 1280, 32, 16, **CLIP),
  "audio-huge": _variant((128, 204, 1), (16, 16), 768, 12, 12, **AUDIO),
  "depth-huge": _variant((224, 224, 1), (16, 16), 384, 12, 8),
  "thermal-huge": _variant((224, 224, 1), (16, 16), 768, 12, 12),
  "imu-huge": _variant((2000, 6), (8,), 512, 6, 8, **IMU),
  "video-small": _variant((2, 32, 32, 3), (2, 8, 8), 192, 4, 3, **CLIP),
  "audio-small": _variant((64, 256, 1), (64, 8), 192, 4, 3),
  "depth-small": _variant((32, 32, 1), (8, 8), 192, 4, 3),
  "thermal-small": _variant((32, 32, 1), (8, 8), 192, 4, 3),
  "imu-small": _variant((400, 6), (8,), 192, 4, 3, drop_path=0.1),
  "video-test": _variant((2, 8, 8, 3), (2, 4, 4), 16, 2, 2, **CLIP),
  "audio-test": _variant((16, 24, 1), (6, 6), 16, 2, 2, **(AUDIO | dict(stride=(5, 5)))),
  "depth-test": _variant((8, 8, 1), (4, 4), 16, 2, 2),
  "thermal-test": _variant((8, 8, 1), (4, 4), 16, 2, 2),
  "imu-test": _variant((40, 6), (8,), 16, 2, 2, **IMU),
}
"""`huge` are the released model's towers; motion is [time 6] here, [6 time] there."""


def build(variant: str | None = None, **overrides: Any) -> ModalityTower:
  """The tower of a variant, upper and lower case alike, with some fields overridden.

  Raises:
    ValueError: an unknown variant or field, with the nearest name, or patches that do not fit the shape.
  """
  for name in ("shape", "patch", "stride"):
    if isinstance(overrides.get(name), list):
      overrides[name] = tuple(overrides[name])
  model = variants.make(ModalityTower, variant, VARIANTS, overrides)
  ConvPatch(model.patch, model.width, model.stride, parent=None).grid(model.shape[:-1])
  return model
