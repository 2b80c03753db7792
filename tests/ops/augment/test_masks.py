import jax
import jax.numpy as jnp
import numpy as np

from vljax.ops.augment import masks


def test_a_band_per_example_no_wider_than_asked():
  hidden = np.asarray(masks.band(jax.random.key(0), jnp.ones((200, 10, 6, 1)), 1, 4, -2.0)) == -2
  widths = hidden[:, :, 0, 0].sum(1)
  assert set(widths) == {0, 1, 2, 3}
  assert (hidden == hidden[:, :, :1]).all(), "the other axis is hidden whole"
  edges = np.diff(hidden[:, :, 0, 0].astype(int), axis=1, prepend=0, append=0)
  assert ((edges == 1).sum(1) <= 1).all(), "one band"
  assert hidden[:, 0].any()
  assert hidden[:, -1].any()


def test_a_band_wider_than_the_axis_is_cut():
  assert masks.band(jax.random.key(0), jnp.ones((4, 3, 2)), 2, 100).shape == (4, 3, 2)
