import jax.numpy as jnp
import numpy as np
import pytest

from vljax.train import ema
from vljax.train.ema import Ema


def test_half_is_forgotten_after_the_half_life_whatever_the_batch():
  for batch in (4, 16, 64):
    average = {"w": jnp.zeros(2)}
    for step in range(64 // batch):
      average = ema.update(average, {"w": jnp.ones(2)}, Ema(halflife=64.0).decay(jnp.int32(step), batch))
    np.testing.assert_allclose(average["w"], 0.5, rtol=1e-6)


def test_decay_per_step_as_the_docstring_says():
  decay = 0.999
  halflife = 32 * np.log(2) / -np.log(decay)
  assert float(Ema(halflife=halflife).decay(jnp.int32(5), 32)) == pytest.approx(decay, rel=1e-6)


@pytest.mark.parametrize("fields", [dict(halflife=0.999), dict(halflife=float("nan")), dict(halflife=9.0, ramp=0.0)])
def test_an_average_that_would_not_be_one(fields):
  with pytest.raises(ValueError, match=r"^config.ema.\w+ = .*; legal: "):
    Ema(**fields)


def test_ramp_shortens_the_half_life_at_the_start_only():
  ramped, plain = Ema(halflife=1000.0, ramp=0.05), Ema(halflife=1000.0)
  assert float(ramped.decay(jnp.int32(9), 10)) == pytest.approx(0.5 ** (10 / (0.05 * 100)))
  assert float(ramped.decay(jnp.int32(10_000), 10)) == pytest.approx(float(plain.decay(jnp.int32(0), 10)))


def test_average_of_low_precision_parameters_is_float32():
  average = ema.update({"w": jnp.ones(2)}, {"w": jnp.full(2, 2, jnp.bfloat16)}, jnp.float32(0.9999))
  assert average["w"].dtype == jnp.float32
  np.testing.assert_allclose(average["w"], 1.0001, rtol=1e-6)
