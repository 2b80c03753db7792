"""The one suite that every implementation of the convolution passes, and standardized kernels against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.layers.mlp import ACTIVATIONS
from vljax.ops import nfnet
from vljax.ops.nfnet import GAINS, IMPLEMENTATIONS, choose, conv, padding, standardize
from vljax.ops.nfnet.shapes import SHAPES


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(params=IMPLEMENTATIONS)
def run(request):
  return jax.jit(
    lambda x, kernel, **options: conv(x, kernel, implementation=request.param, **options),
    static_argnames=("stride", "groups", "padding"),
  )


def by_definition(x, kernel, stride=1, groups=1, padding="same"):
  """One output pixel and one group at a time, in float64."""
  (b, height, width, c), (size, _, inner, o) = x.shape, kernel.shape
  outer = o // groups
  if padding == "same":
    rows, columns = -(-height // stride), -(-width // stride)
    top, left = (max((n - 1) * stride + size - m, 0) // 2 for n, m in ((rows, height), (columns, width)))
  else:
    top = left = size // 2
    rows, columns = ((n + 2 * top - size) // stride + 1 for n in (height, width))
  big = np.zeros((b, height + 3 * size, width + 3 * size, c))
  big[:, size : size + height, size : size + width] = x
  y = np.zeros((b, rows, columns, o))
  for i, j, g in np.ndindex(rows, columns, groups):
    at = size - top + i * stride, size - left + j * stride
    patch = big[:, at[0] : at[0] + size, at[1] : at[1] + size, g * inner : (g + 1) * inner]
    y[:, i, j, g * outer : (g + 1) * outer] = np.einsum(
      "bmnc,mnco->bo", patch, kernel[..., g * outer : (g + 1) * outer]
    )
  return y


CASES = {
  "one group": dict(),
  "groups": dict(groups=2),
  "strided groups": dict(groups=2, stride=2),
  "strided groups, symmetric": dict(groups=2, stride=2, padding="symmetric"),
  "each channel apart": dict(groups=4),
  "one by one": dict(size=1),
  "one by one, strided": dict(size=1, stride=2),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("image", [(6, 8), (5, 7)])
def test_equals_the_definition(run, case, image):
  options = {**case}
  size, groups = options.pop("size", 3), options.get("groups", 1)
  x, kernel = draw(0, 2, *image, 4), draw(1, size, size, 4 // groups, 8)
  wanted = by_definition(x, kernel, **options)
  np.testing.assert_allclose(run(x, kernel, **options), wanted, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_equal_the_reference(run, stride):
  x, kernel, weight = draw(0, 2, 6, 6, 4), draw(1, 3, 3, 2, 8), draw(2, 2, 6 // stride, 6 // stride, 8)
  loss = lambda f: jax.jit(jax.grad(lambda *xs: (weight * f(*xs, stride=stride, groups=2)).sum(), (0, 1)))
  reference = lambda *xs, **options: conv(*xs, implementation="reference", **options)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), loss(run)(x, kernel), loss(reference)(x, kernel)
  )


def test_half_precision_stays(run):
  x, kernel = jnp.asarray(draw(0, 1, 4, 4, 4), jnp.bfloat16), jnp.asarray(draw(1, 3, 3, 2, 4), jnp.bfloat16)
  y = run(x, kernel, groups=2)
  assert y.dtype == jnp.bfloat16
  wanted = by_definition(*(np.asarray(v, np.float32) for v in (x, kernel)), groups=2)
  np.testing.assert_allclose(y.astype(jnp.float32), wanted, atol=0.1)


@pytest.mark.parametrize(
  ("platform", "groups", "name"),
  [("cpu", 6, "split"), ("cpu", 1, "native"), ("cpu", 65, "native"), ("gpu", 6, "split"), ("tpu", 6, "native")],
)
def test_choice(platform, groups, name):
  assert choose(platform, groups) == name


def test_a_named_one_is_obeyed_or_says_why_not():
  assert choose("cpu", 6, "native") == "native"
  with pytest.raises(ValueError, match="'split' cannot run here: 65 groups; legal: 64 at most"):
    choose("cpu", 65, "split")
  with pytest.raises(ValueError, match="unknown convolution implementation 'splt'; did you mean 'split'"):
    choose("cpu", 2, "splt")


@pytest.mark.parametrize(
  ("shapes", "groups", "message"),
  [
    (((4, 4, 2), (3, 3, 2, 4)), 1, "takes images"),
    (((1, 4, 4, 2), (3, 1, 2, 4)), 1, "a square kernel"),
    (((1, 4, 4, 2), (3, 3, 2, 4)), 2, "times groups must be the image's"),
    (((1, 4, 4, 6), (3, 3, 2, 4)), 3, "groups divide o"),
  ],
)
def test_shapes_that_do_not_fit(shapes, groups, message):
  with pytest.raises(ValueError, match=message):
    conv(*map(jnp.zeros, shapes), groups=groups)


def test_an_unknown_padding_names_the_nearest():
  with pytest.raises(ValueError, match="unknown padding 'sam'; did you mean 'same'"):
    conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 4)), padding="sam")
  assert padding.pads("same", (7, 8), 3, 2) == ((1, 1), (0, 1))
  assert padding.pads("symmetric", (7, 8), 3, 2) == ((1, 1), (1, 1))


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_real_models_trace(name):
  s = SHAPES[name]
  x = jax.ShapeDtypeStruct((2, s.size, s.size, s.channels), jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((s.kernel, s.kernel, s.channels // s.groups, s.features), jnp.bfloat16)
  out = jax.eval_shape(lambda x, k: conv(x, k, stride=s.stride, groups=s.groups), x, kernel)
  assert out.shape == (2, s.size // s.stride, s.size // s.stride, s.features)


def standardized(kernel, gain, eps):
  """One output channel at a time, in float64."""
  out = np.zeros(kernel.shape)
  for o in range(kernel.shape[-1]):
    w = kernel[..., o].astype(np.float64)
    under = max(w.var() * w.size, 1e-4) if eps == "deepmind" else (w.var() + 1e-5) * w.size
    out[..., o] = (w - w.mean()) * gain[o] / np.sqrt(under)
  return out


@pytest.mark.parametrize("eps", nfnet.EPSILONS)
@pytest.mark.parametrize("scale", [1.0, 3e-3, 1e-4], ids=["usual", "small", "below the floor"])
def test_standardized_kernels(eps, scale):
  kernel, gain = scale * draw(0, 3, 3, 4, 5) + 0.1, draw(1, 5)
  found = standardize(kernel, gain, eps=eps)
  np.testing.assert_allclose(found, standardized(kernel, gain, eps), atol=2e-5)
  np.testing.assert_allclose(standardize(kernel, gain, eps=eps, gamma=1.7), 1.7 * found, rtol=1e-5, atol=1e-7)


def test_the_two_floors_differ_where_kernels_are_small():
  kernel, gain = 3e-3 * draw(0, 3, 3, 4, 5), np.ones(5, np.float32)
  a, b = (np.asarray(standardize(kernel, gain, eps=eps)) for eps in ("deepmind", "timm"))
  assert 1.2 < np.abs(a).max() / np.abs(b).max() < 2


def test_stacked_kernels_are_those_of_the_layers():
  kernel, gain = draw(0, 2, 3, 3, 4, 5), draw(1, 2, 5)
  apart = [standardize(k, g) for k, g in zip(kernel, gain, strict=True)]
  np.testing.assert_allclose(standardize(kernel, gain), np.stack(apart), atol=1e-6)


def test_half_precision_kernels_are_standardized_in_float32():
  kernel = jnp.asarray(1 + 0.01 * draw(0, 3, 3, 8, 4), jnp.bfloat16)
  found = standardize(kernel, jnp.ones(4, jnp.bfloat16))
  assert found.dtype == jnp.float32
  wanted = standardized(np.asarray(kernel, np.float32), np.ones(4), "deepmind")
  np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_unknown_eps_names_the_nearest():
  with pytest.raises(ValueError, match="unknown eps of scaled weight standardization 'tim'; did you mean 'timm'"):
    standardize(jnp.zeros((1, 1, 2, 2)), jnp.ones(2), eps="tim")


@pytest.mark.parametrize("name", [name for name in GAINS if name != "identity"])
def test_gains_keep_the_variance(name):
  """By the integral over the normal density, to the accuracy of the released estimates."""
  x = np.linspace(-8, 8, 40_001)
  density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
  y = GAINS[name] * np.asarray(ACTIVATIONS[name](x.astype(np.float32)), np.float64)
  assert (density * y**2).sum() - (density * y).sum() ** 2 == pytest.approx(1, abs=2e-3)


def test_a_convolution_of_standardized_kernels_keeps_the_variance():
  x = draw(0, 64, 8, 8, 32)
  kernel = standardize(0.5 + 7 * draw(1, 3, 3, 32, 16), np.ones(16, np.float32))
  y = np.asarray(conv(x, kernel))[:, 1:-1, 1:-1]
  assert y.var() == pytest.approx(1, abs=0.05)
  assert abs(y.mean()) < 0.05
