"""Flamingo: a frozen language model that looks at pictures and clips between its words (arXiv 2204.14198)."""

import dataclasses
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vljax import config
from vljax.layers.decoder import Insert
from vljax.models import decoder, gated_xattn, nfnet, resampler, variants, vit
from vljax.models.decoder import Decoder
from vljax.models.gated_xattn import GatedXattn
from vljax.models.resampler import Resampler
from vljax.ops.attention import Cache

VISION_TOWERS: dict[str, ModuleType] = {"nfnet": nfnet, "vit": vit}
"""`tower` of the vision encoder's overrides to its module; all have a method `grid`. The first is the default."""

PARTS: dict[str, Any] = {"lm": decoder, "resampler": resampler, "xattn": gated_xattn}
FIELDS = ("class_token", "silent")
SHARED = ("dtype", "remat", "unroll")
"""Overrides that go to all parts that have them."""

HIDDEN = -1e30
"""The logit of a token that is never foretold."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
  """What was read and seen so far, for decoding token by token.

  Attributes:
    lm: keys and values of the language model; `graft`: of the layers on top of it, if there are any.
    visual: keys and values of the visual tokens in each gated block, made once; [layers b n s k c] each.
    phi: the medium that each text looks at since its last token.
  """

  lm: Cache
  graft: Cache | None
  visual: tuple[Float[Array, "l b n s k c"], Float[Array, "l b n s k c"]]
  phi: Int[Array, "b"]

  def take(self, rows: Int[Array, "c"]) -> "Memory":
    """The memory of these examples, each as often as it is named."""
    return dataclasses.replace(self.reorder(rows), visual=tuple(x[:, rows] for x in self.visual), phi=self.phi[rows])

  def reorder(self, rows: Int[Array, "b"]) -> "Memory":
    """The memory where each text goes on from text `rows`, of the same prompt: what it sees stays where it is."""
    graft = None if self.graft is None else self.graft.take(rows)
    return dataclasses.replace(self, lm=self.lm.take(rows), graft=graft)


class Flamingo(nn.Module):
  """logits(lm(tokens, gated blocks in between that see resampler(vision(images)))).

  Attributes:
    vision: an image tower with a method `grid`.
    lm: its `extra` tokens are those that the language model did not know: `<image>`, `<EOC>`.
    graft: a decoder's blocks on top of the language model, before which the gated ones stand instead (the ablation
      "grafting" of table 3).
    class_token: whether the resampler also gets the class token of a ViT (IDEFICS), before the positions.
    silent: of the extra tokens, the first so many are never foretold: `<image>` comes from outside.
  """

  vision: nn.Module
  resampler: Resampler
  xattn: GatedXattn
  lm: Decoder
  graft: Decoder | None = None
  class_token: bool = False
  silent: int = 0

  def __call__(
    self,
    tokens: Int[Array, "b t"],
    images: Float[Array, "b n f h w c"] | None,
    phi: Int[Array, "b t"] | None,
    *,
    frames: Bool[Array, "b n f"] | None = None,
    **options: Any,
  ) -> Float[Array, "b t v"]:
    """The logits of the token after each.

    Args:
      images: normalized media, each of f frames; None: there are none, and only the dense halves of gated blocks work.
      phi: the medium that each token looks at, counted from 1 over its row; 0: none.
      frames: which frames are real; None: all are.
      options: of `hidden`.
    """
    visual = None if images is None else self.encode_image(images, frames)
    return self.logits(self.hidden(tokens, visual, phi, **options))

  def features(self, images: Float[Array, "b n f h w c"], *, train: bool = False) -> Float[Array, "b n f s e"]:
    """What the vision encoder gives of each frame by itself, for each position that it does not drop in training."""
    return self._features(images, train)[0]

  def resample(
    self, features: Float[Array, "b n f s e"], frames: Bool[Array, "b n f"] | None = None
  ) -> Float[Array, "b n l d"]:
    """The visual tokens of features."""
    return self.resampler(features, frames)

  def encode_image(
    self, images: Float[Array, "b n f h w c"], frames: Bool[Array, "b n f"] | None = None, *, train: bool = False
  ) -> Float[Array, "b n l d"]:
    """The visual tokens of each medium."""
    return self.resample(self.features(images, train=train), frames)

  def hidden(
    self,
    tokens: Int[Array, "b t"],
    visual: Float[Array, "b n l d"] | None,
    phi: Int[Array, "b t"] | None,
    *,
    positions: Int[Array, "b t"] | None = None,
    segments: Int[Array, "b t"] | None = None,
    first: Int[Array, "b t"] | None = None,
    key_padding: Bool[Array, "b t"] | None = None,
    bypass: bool = False,
    train: bool = False,
    frozen: bool = False,
  ) -> Float[Array, "b t d"]:
    """What `logits` takes; the arguments are those of `Decoder.run` and of `GatedXattn`.

    Args:
      bypass: leaves the gated blocks out: the language model as it was.
      frozen: the language model runs without dropout, whatever `train` says.

    Raises:
      ValueError: images without phi, or segments without `first` where a row sees all media of its document.
    """
    options = dict(positions=positions, segments=segments, key_padding=key_padding)
    own = train and not frozen
    insert = None if bypass else self._insert(tokens, visual, phi, segments, first)
    x = self.lm.embed(tokens)
    if self.graft is None or bypass:
      return self.lm.run(x, insert=insert, train=own, **options)[0]
    return self.graft.run(self.lm.run(x, train=own, **options)[0], insert=insert, train=train, **options)[0]

  def logits(self, x: Float[Array, "*b t d"]) -> Float[Array, "*b t v"]:
    """float32 logits of what `hidden` gave."""
    y, first = self.lm.logits(x), self.lm.vocab
    return y.at[..., first : first + self.silent].set(HIDDEN) if self.silent else y

  def begin(
    self,
    tokens: Int[Array, "b t"],
    visual: Float[Array, "b n l d"] | None,
    phi: Int[Array, "b t"] | None,
    *,
    room: int,
    key_padding: Bool[Array, "b t"] | None = None,
  ) -> tuple[Float[Array, "b t d"], Memory]:
    """(what `logits` takes, memory) after reading prompts, of which `key_padding` tells the real tokens.

    Args:
      room: for how many tokens in all.
    """
    b, t = tokens.shape
    visual, phi = self._media(tokens, visual, phi)
    real = jnp.ones((b, t), bool) if key_padding is None else key_padding
    last = t - 1 - jnp.argmax(real[:, ::-1], axis=1)
    graft = None if self.graft is None else self.graft.cache(b, room)
    seen = self.xattn.remember(visual)
    memory = Memory(self.lm.cache(b, room), graft, seen, jnp.take_along_axis(phi, last[:, None], axis=1)[:, 0])
    return self.go_on(tokens, memory, phi=phi, key_padding=key_padding)

  def go_on(
    self,
    tokens: Int[Array, "b t"],
    memory: Memory,
    *,
    phi: Int[Array, "b t"] | None = None,
    key_padding: Bool[Array, "b t"] | None = None,
  ) -> tuple[Float[Array, "b t d"], Memory]:
    """(what `logits` takes, memory) with the next tokens read, too; phi: None goes on looking at the last medium."""
    phi = jnp.broadcast_to(memory.phi[:, None], tokens.shape) if phi is None else phi
    insert, options = self.xattn(None, phi, None, memory.visual), dict(key_padding=key_padding)
    x, graft = self.lm.embed(tokens), memory.graft
    if self.graft is None:
      x, lm = self.lm.run(x, cache=memory.lm, insert=insert, **options)
    else:
      x, lm = self.lm.run(x, cache=memory.lm, **options)
      x, graft = self.graft.run(x, cache=memory.graft, insert=insert, **options)
    return x, dataclasses.replace(memory, lm=lm, graft=graft)

  def prefill(
    self, tokens: Int[Array, "b t"], visual: Float[Array, "b n l d"] | None, phi: Int[Array, "b t"] | None, **more: Any
  ) -> tuple[Float[Array, "b t v"], Memory]:
    """(logits, memory) of `begin`."""
    x, memory = self.begin(tokens, visual, phi, **more)
    return self.logits(x), memory

  def decode(self, tokens: Int[Array, "b t"], memory: Memory, **more: Any) -> tuple[Float[Array, "b t v"], Memory]:
    """(logits, memory) of `go_on`."""
    x, memory = self.go_on(tokens, memory, **more)
    return self.logits(x), memory

  def attention_map(
    self,
    tokens: Int[Array, "b t"],
    images: Float[Array, "b n f h w c"],
    phi: Int[Array, "b t"],
    layer: int,
    *,
    first: Int[Array, "b t"] | None = None,
    frames: Bool[Array, "b n f"] | None = None,
    **options: Any,
  ) -> Float[Array, "b t f i j"]:
    """Where in its medium each token looks in a gated block: shares of the positions of all frames, zeros without one.

    A token attends to latents and the latents to positions, so its map is the product of both: the weights of gated
    block `layer` (the mean of its heads) times those of the resampler's last layer. Latents also carry what earlier
    layers read, which the product leaves out.

    Raises:
      ValueError: no such gated block, or a resampler without latents.
    """
    if not 0 <= layer < self.xattn.depth:
      raise ValueError(f"gated block {layer} of {self.xattn.depth}; legal: 0 to {self.xattn.depth - 1}")
    b, n, f = images.shape[:3]
    seen, grid = self._features(images)
    looks, visual = self.resampler.attention_map(seen, frames), self.resample(seen, frames)
    insert = self._insert(tokens, visual, phi, options.get("segments"), first)
    x = self._before(layer, self.lm.embed(tokens), insert, options)
    weights = self.xattn.weights(layer, x, visual, phi).mean(1)
    positions = looks[..., -math.prod(grid) :].reshape(b, n, looks.shape[2], -1)
    own = jnp.take_along_axis(positions, jnp.maximum(phi - 1, 0)[..., None, None], axis=1)
    out = jnp.einsum("btl,btlp->btp", weights, own)
    return (out / jnp.maximum(out.sum(-1, keepdims=True), 1e-30)).reshape(b, -1, f, *grid)

  def _features(
    self, images: Float[Array, "b n f h w c"], train: bool = False
  ) -> tuple[Float[Array, "b n f s e"], tuple[int, int]]:
    """(features, rows and columns of the positions, without meaning where a ViT drops some in training)."""
    lead, flat = images.shape[:3], images.reshape(-1, *images.shape[3:])
    if self.class_token or (train and getattr(self.vision, "patch_dropout", 0)):
      x = self.vision.tokens(flat, train=train)
      grid = (math.isqrt(x.shape[1] - 1),) * 2
      x = x if self.class_token else x[:, self.vision.extra :]
    else:
      x = self.vision.grid(flat, train=train)
      grid = x.shape[1:3]
    return x.reshape(*lead, -1, x.shape[-1]), grid

  def _before(self, layer: int, x: Float[Array, "b t d"], insert: Insert, options: dict[str, Any]) -> Array:
    """The rows that reach a gated block."""
    if self.graft is not None:
      x = self.lm.run(x, **options)[0]
    stack, depth = self.graft or self.lm, insert.at[layer]
    params = dict(stack.variables["params"])
    params["blocks"] = jax.tree.map(lambda p: p[:depth], params["blocks"])
    cut = dataclasses.replace(insert, at=insert.at[:layer], params=jax.tree.map(lambda p: p[:layer], insert.params))
    short = stack.clone(parent=None, name=None, depth=depth, held=0)
    return short.apply({"params": params}, x, insert=cut, method="run", **options)[0]

  def _insert(
    self, tokens: Array, visual: Array | None, phi: Array | None, segments: Array | None, first: Array | None
  ) -> Insert:
    if self.xattn.previous and visual is not None and segments is not None and first is None:
      raise ValueError("segments without first: where do the media of each document begin? legal: both or neither")
    visual, phi = self._media(tokens, visual, phi)
    return self.xattn(visual, phi, first)

  def _media(self, tokens: Array, visual: Array | None, phi: Array | None) -> tuple[Array, Array]:
    if phi is None and visual is not None:
      raise ValueError("images without phi: which one does each token look at? legal: both or neither")
    phi = jnp.zeros_like(tokens) if phi is None or visual is None else phi
    none = jnp.zeros((tokens.shape[0], 0, 1, self.xattn.visual_width), self.lm.dtype)
    return none if visual is None else visual, phi

  @nn.nowrap
  def inputs(self, batch: int = 1) -> tuple[Any, ...]:
    """What the model takes, for `init`: a text with one picture."""
    tokens, images = self.lm.inputs(batch)[0], self.vision.inputs(batch)[0]
    return tokens, images[:, None, None], jnp.ones_like(tokens)


def build_vision(tower: str | None = None, **overrides: Any) -> nn.Module:
  """The vision encoder of a kind, by its own `build`.

  Raises:
    ValueError: an unknown tower, variant or field, with the nearest name.
  """
  return config.choose("vision tower", tower or next(iter(VISION_TOWERS)), VISION_TOWERS).build(**overrides)


def _paper(size: str, lm: str) -> dict[str, Any]:
  vision = dict(tower="nfnet", variant="F6", image_size=320)
  parts = dict(
    lm=dict(variant=lm, extra=2), resampler=dict(variant="flamingo"), xattn=dict(variant=f"flamingo-{size}")
  )
  return dict(vision=vision, silent=1, **parts)


VARIANTS: dict[str, dict[str, Any]] = {
  "test": dict(
    vision=dict(tower="vit", variant="test"),
    lm=dict(variant="test", extra=2),
    resampler=dict(variant="test"),
    xattn=dict(variant="test"),
    silent=1,
  ),
  "flamingo-3b": _paper("3b", "chinchilla-1.4b"),
  "flamingo-9b": _paper("9b", "chinchilla-7b"),
  "flamingo-9b-table4": _paper("9b-table4", "chinchilla-9b-table4"),
  "flamingo-80b": _paper("80b", "chinchilla-70b"),
  "smollm2": dict(
    vision=dict(tower="vit", variant="small", image_size=64, patch=8),
    lm=dict(variant="smollm2-135m", extra=2),
    resampler=dict(width=192, depth=2, heads=4, head_dim=48, latents=16),
    xattn=dict(heads=9, every=5),
    silent=1,
  ),
}
"""The paper's models see 320 x 320 pixels. `smollm2` is one that trains on a CPU."""


def build(variant: str, **overrides: Any) -> Flamingo:
  """The Flamingo of a variant, upper and lower case alike.

  Overrides are dicts of the parts' own overrides, `vision`, `lm`, `resampler` and `xattn`, those named in SHARED,
  which go to all of them, and what `build_from` takes besides. A `vision` that names a `tower` replaces the variant's.

  Raises:
    ValueError: an unknown variant or override, with the nearest name.
  """
  parts = ("vision", *PARTS)
  variants.check("Flamingo", overrides, (*parts, "graft", *FIELDS, *SHARED))
  base = variants.resolve("Flamingo variant", variant, VARIANTS)
  shared = {name: overrides.pop(name) for name in SHARED if name in overrides}
  own = {name: dict(overrides.pop(name, None) or {}) for name in parts}
  merged = {name: own[name] if "tower" in own[name] else {**base[name], **own[name]} for name in parts}
  return build_from(**merged, shared=shared, **{n: v for n, v in base.items() if n not in parts} | overrides)


def build_from(
  vision: Mapping[str, Any],
  lm: Mapping[str, Any],
  resampler: Mapping[str, Any],
  xattn: Mapping[str, Any],
  *,
  graft: int = 0,
  shared: Mapping[str, Any] | None = None,
  **fields: Any,
) -> Flamingo:
  """The Flamingo of four parts, each a dict of overrides, maybe of a `variant`.

  What one part must know of another follows: the resampler takes the vision encoder's width, the gated blocks the
  widths of both sides and the depth of the language model.

  Args:
    graft: blocks on top of the language model, see Flamingo.
    shared: overrides that go to each part that has them; its own go before.
    fields: Flamingo's.

  Raises:
    ValueError: an unknown variant or field, with the nearest name.
  """
  variants.check("Flamingo", fields, FIELDS)

  def make(build: Any, own: Mapping[str, Any], **derived: Any) -> Any:
    legal = {field.name for field in dataclasses.fields(build(**{**derived, **own}))}
    return build(**{**derived, **{n: v for n, v in (shared or {}).items() if n in legal}, **own})

  sees, reads = make(build_vision, vision), make(decoder.build, lm)
  samples = make(PARTS["resampler"].build, {**resampler, "media_width": sees.width})
  on_top = _grafted(reads, graft) if graft else None
  sides = dict(visual_width=samples.width, width=reads.width, layers=(on_top or reads).depth)
  gates = make(PARTS["xattn"].build, {**xattn, **sides})
  return Flamingo(sees, samples, gates, reads, on_top, **fields)


def _grafted(lm: Decoder, depth: int) -> Decoder:
  """Blocks like the language model's; learned positions are in what they read already."""
  positions = "none" if lm.positions == "learned" else lm.positions
  return lm.clone(depth=depth, extra=0, held=0, positions=positions)
