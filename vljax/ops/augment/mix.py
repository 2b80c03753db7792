"""Two examples in one picture, and in one target."""

import jax
import jax.numpy as jnp

from vljax.types import Array, Float, Rng

Mixed = tuple[Float[Array, "b h w c"], Float[Array, "b k"]]


def mixup(rng: Rng, images: Float[Array, "b h w c"], targets: Float[Array, "b k"], alpha: float) -> Mixed:
  """s * x + (1 - s) * x' with s ~ Beta(alpha, alpha), for pictures and targets (arXiv 1710.09412).

  x' is the example before x in the batch, whose order is random; s is drawn for each example, where the paper's code
  draws one for the batch.
  """
  share = jax.random.beta(rng, alpha, alpha, (len(images),))
  return _blend(images, share[:, None, None, None]), _blend(targets, share[:, None])


def cutmix(rng: Rng, images: Float[Array, "b h w c"], targets: Float[Array, "b k"], alpha: float) -> Mixed:
  """A box of the example before in each picture; targets mix by the area that it covers (arXiv 1905.04899).

  The box's share of the area is 1 - s with s ~ Beta(alpha, alpha), its aspect the picture's, its middle uniform; what
  lies outside of the picture is cut off and does not count.
  """
  b, h, w, _ = images.shape
  a, y, x = jax.random.split(rng, 3)
  side = jnp.sqrt(1.0 - jax.random.beta(a, alpha, alpha, (b,)))
  rows = _inside(jax.random.uniform(y, (b,)), side, h)
  columns = _inside(jax.random.uniform(x, (b,)), side, w)
  box = rows[:, :, None, None] & columns[:, None, :, None]
  share = 1.0 - box.mean((1, 2, 3))
  return _blend(images, jnp.where(box, 0.0, 1.0)), _blend(targets, share[:, None])


def mix(rng: Rng, images: Float[Array, "b h w c"], targets: Float[Array, "b k"], alphas: tuple[float, float]) -> Mixed:
  """Mixup and CutMix of these alphas; of an alpha of 0 neither, of two others each on half of the examples."""
  first, second = alphas
  a, b, coin = jax.random.split(rng, 3)
  if not first and not second:
    return images, targets
  if not second:
    return mixup(a, images, targets, first)
  cut = cutmix(b, images, targets, second)
  if not first:
    return cut
  heads = jax.random.bernoulli(coin, shape=(len(images),))
  pick = lambda x, y: jnp.where(heads.reshape(-1, *(1,) * (x.ndim - 1)), x, y)
  both = mixup(a, images, targets, first)
  return pick(both[0], cut[0]), pick(both[1], cut[1])


def _blend(x: Float[Array, "b ..."], share: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
  return share * x + (1.0 - share) * jnp.roll(x, 1, axis=0)


def _inside(middle: Float[Array, " b"], side: Float[Array, " b"], length: int) -> Array:
  """Which of `length` pixels lie within side / 2 of the middle, both in shares of the length; [b length]."""
  at = (jnp.arange(length) + 0.5) / length
  return jnp.abs(at - middle[:, None]) < side[:, None] / 2
