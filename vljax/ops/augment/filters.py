"""What pixels make of their neighbors."""

import jax
import jax.numpy as jnp

from vljax.ops.augment.chance import some
from vljax.types import Array, Float, Rng


def gaussian_blur(
  rng: Rng, images: Float[Array, "b h w c"], p: float = 0.5, sigma: tuple[float, float] = (0.1, 2.0)
) -> Float[Array, "b h w c"]:
  """A Gaussian of random deviation in pixels, as wide as a tenth of the image, with probability p (SimCLR, app. A).

  What lies outside of the image counts as zero, as in the released code. Below 20 pixels, where that code's kernel is
  one pixel and changes nothing, it is three here.
  """
  draw, chance = jax.random.split(rng)
  radius = max(images.shape[1] // 20, 1)
  deviation = jax.random.uniform(draw, images.shape[:1], minval=sigma[0], maxval=sigma[1])
  return some(chance, p, blur(images, deviation, radius), images)


def blur(images: Float[Array, "b h w c"], deviation: Float[Array, " b"], radius: int) -> Float[Array, "b h w c"]:
  """Each image blurred by a Gaussian of its own deviation, cut at `radius` pixels."""
  offsets = jnp.arange(-radius, radius + 1)
  taps = jnp.exp(-jnp.square(offsets) / (2 * jnp.square(deviation[:, None])))
  taps /= taps.sum(1, keepdims=True)
  for axis in (1, 2):
    length = images.shape[axis]
    padded = jnp.pad(images, [(radius, radius) if i == axis else (0, 0) for i in range(4)])
    parts = [jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(2 * radius + 1)]
    images = sum(taps[:, k, None, None, None] * part for k, part in enumerate(parts))  # type: ignore[assignment]
  return images


def motion_blur(rng: Rng, images: Float[Array, "b h w c"], length: int = 9, p: float = 0.5) -> Float[Array, "b h w c"]:
  """The mean over a line of up to `length` pixels through each one, in a random direction, with probability p.

  SimCLR's broader policy (appendix B.2) blurs so, without saying how. The edge's pixels stand for those outside.

  Raises:
    ValueError: a length that is even or less than 1, which has no middle.
  """
  if length < 1 or length % 2 == 0:
    raise ValueError(f"length = {length} of motion_blur; legal: odd numbers of pixels")
  draw, reach, chance = jax.random.split(rng, 3)
  b, h, w, c = images.shape
  radius = length // 2
  angle = jax.random.uniform(draw, (b,), maxval=jnp.pi)
  half = jax.random.uniform(reach, (b,), maxval=radius)
  places = jnp.stack([jnp.sin(angle), jnp.cos(angle)], 1) * half[:, None]
  padded = jnp.pad(images, ((0, 0), (radius, radius), (radius, radius), (0, 0)), mode="edge")

  def shifted(share: float) -> Float[Array, "b h w c"]:
    corner = radius + jnp.round(share * places).astype(jnp.int32)
    return jax.vmap(lambda x, at: jax.lax.dynamic_slice(x, (at[0], at[1], 0), (h, w, c)))(padded, corner)

  blurred = sum(shifted(i / max(radius, 1)) for i in range(-radius, radius + 1)) / length
  return some(chance, p, jnp.asarray(blurred), images)


def gaussian_noise(
  rng: Rng, images: Float[Array, "b h w c"], deviation: float = 0.1, p: float = 1.0
) -> Float[Array, "b h w c"]:
  """Normal noise added and the result clipped, with probability p."""
  noise, chance = jax.random.split(rng)
  return some(chance, p, jnp.clip(images + deviation * jax.random.normal(noise, images.shape), 0, 1), images)


def sobel(rng: Rng, images: Float[Array, "b h w c"], p: float = 1.0) -> Float[Array, "b h w c"]:
  """The length of Sobel's gradient per channel, cut at 1, with probability p."""
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
  at = lambda i, j: padded[:, i : i + images.shape[1], j : j + images.shape[2]]
  across = at(0, 2) + 2 * at(1, 2) + at(2, 2) - at(0, 0) - 2 * at(1, 0) - at(2, 0)
  down = at(2, 0) + 2 * at(2, 1) + at(2, 2) - at(0, 0) - 2 * at(0, 1) - at(0, 2)
  return some(rng, p, jnp.clip(jnp.sqrt(across**2 + down**2 + 1e-12), 0, 1), images)
