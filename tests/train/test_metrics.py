"""Late metrics, time buckets, rates, and counted floating-point work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vljax.train import metrics


class Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def test_metrics_come_one_step_late():
  late = metrics.Late()
  assert late.flush() is None
  assert late.push(1, {"loss": jnp.float32(3)}) is None
  assert late.push(2, {"loss": jnp.float32(2), "n": np.int32(7)}) == (1, {"loss": 3.0})
  assert late.flush() == (2, {"loss": 2.0, "n": 7.0})
  assert late.flush() is None


def test_a_metric_that_is_no_scalar_is_named():
  late = metrics.Late()
  late.push(1, {"loss": jnp.ones(3)})
  with pytest.raises(ValueError, match=r"the metric 'loss' has the shape \(3,\)"):
    late.flush()


def test_goodput_pauses_the_outer_bucket():
  clock = Clock()
  goodput = metrics.Goodput(clock)
  clock.now += 1
  with goodput.track("step"):
    clock.now += 2
    with goodput.track("compile"):
      clock.now += 4
    clock.now += 8
  report = goodput.report()
  assert (report["time/step"], report["time/compile"], report["time/other"]) == (10, 4, 1)
  assert report["time/elapsed"] == 15
  assert report["time/goodput"] == pytest.approx(10 / 15)


def test_goodput_counts_a_block_that_raised():
  clock = Clock()
  goodput = metrics.Goodput(clock)

  def fail():
    with goodput.track("data"):
      clock.now += 3
      raise KeyError("x")

  with pytest.raises(KeyError):
    fail()
  clock.now += 5
  assert goodput.seconds("data") == 3


def test_an_unknown_bucket_is_named():
  with (
    pytest.raises(ValueError, match="no time bucket 'lunch'; legal: init, compile, data"),
    metrics.Goodput().track("lunch"),
  ):
    pass


def test_rates_leave_out_compiling_and_evaluations():
  clock = Clock()
  goodput = metrics.Goodput(clock)
  meter = metrics.Meter(goodput, total=20, start=10)

  def step(number, bucket="step", seconds=2.0):
    with goodput.track("data"):
      clock.now += 0.5
    with goodput.track(bucket):
      clock.now += seconds
    meter.tick(number, 100, flops=5e12)

  step(11, "compile", 60.0)
  assert meter.report() == {}
  step(12)
  with goodput.track("eval"):
    clock.now += 10
  step(13)
  report = meter.report()
  assert report["throughput/examples_per_second"] == pytest.approx(100 / 2.5)
  assert report["throughput/examples_per_second_mean"] == pytest.approx(100 / 2.5)
  assert report["throughput/tflops_per_second"] == pytest.approx(2.0)
  assert report["time/left"] == pytest.approx(7 * 15 / 2)
  step(14, "compile", 60.0)
  assert meter.report()["throughput/examples_per_second"] == pytest.approx(100 / 2.5)


def test_the_smoothed_rate_follows_and_the_mean_remembers():
  clock = Clock()
  goodput = metrics.Goodput(clock)
  meter = metrics.Meter(goodput, total=1000, horizon=5.0)
  for number in range(200):
    with goodput.track("step"):
      clock.now += 1.0 if number < 100 else 0.1
    meter.tick(number + 1, 10)
  report = meter.report()
  assert "throughput/tflops_per_second" not in report
  assert report["throughput/examples_per_second"] > 60
  assert report["throughput/examples_per_second_mean"] == pytest.approx(1990 / 109)


def count(function, *args):
  return metrics.flops(jax.jit(function).trace(*args).jaxpr)


def test_flops_of_products_and_convolutions():
  x, w = jnp.ones((8, 16)), jnp.ones((16, 32))
  assert count(jnp.matmul, x, w) == 2 * 8 * 16 * 32
  assert count(jax.grad(lambda x, w: jnp.sin(x @ w).sum(), argnums=(0, 1)), x, w) == 3 * 2 * 8 * 16 * 32
  assert count(lambda x: jnp.einsum("bik,bjk->bij", x, x), jnp.ones((3, 4, 5))) == 2 * 3 * 4 * 4 * 5
  image, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 2, 6))
  convolve = lambda x, k: lax.conv_general_dilated(
    x, k, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
  )
  assert count(convolve, image, kernel) == 2 * (2 * 6 * 6 * 6) * (3 * 3 * 2)


def test_flops_follow_control_flow():
  x = jnp.ones((8, 8))
  one = 2 * 8**3
  layer = lambda c, _: (jnp.tanh(c @ c), None)
  assert count(lambda x: lax.scan(layer, x, None, length=10)[0], x) == 10 * one
  assert count(lambda x: lax.scan(layer, x, None, length=10, unroll=5)[0], x) == 10 * one
  assert count(lambda x: lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x), x) == 2 * one
  rematerialised = jax.grad(lambda x: jax.checkpoint(lambda x: jnp.sin(jnp.sin(x @ x) @ x))(x).sum())
  assert count(rematerialised, x) == (2 + 2 + 4) * one


def test_flops_of_shard_map_count_all_devices():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec("data")
  local = jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=spec, out_specs=spec)
  assert count(local, jnp.ones((16, 4))) == 8 * 2 * 2 * 2 * 4
