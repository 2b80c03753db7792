"""A tiny dual encoder with random weights, as every reader returns one."""

import dataclasses

import jax
import numpy as np
import pytest

from vljax import tree
from vljax.interop.imported import Imported, clip_preprocess
from vljax.models import dual_encoder, fitting


@dataclasses.dataclass
class Made:
  """What `make` makes, and the comparison of it with what was read again."""

  imported: Imported

  def assert_equal(self, other: Imported) -> None:
    """Bit-equal parameters and equal meaning."""
    wanted, found = tree.flatten(self.imported.params), tree.flatten(other.params)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[k], wanted[k]) and found[k].dtype == wanted[k].dtype for k in wanted)
    a, b = self.imported.model(), other.model()
    full = lambda tower: {**vars(tower), "mlp": tower.mlp or 4 * tower.width}
    for name in ("image", "text"):
      ours, theirs = full(getattr(a, name)), full(getattr(b, name))
      fields = [f.name for f in dataclasses.fields(getattr(a, name)) if f.name not in ("parent", "name")]
      assert {f: ours[f] for f in fields} == {f: theirs[f] for f in fields}
    assert other.preprocess == self.imported.preprocess
    assert other.tokenizer.get("kind") == self.imported.tokenizer.get("kind")


@pytest.fixture
def make():
  """make(image={...}, text={...}, preprocess={...}, tokenizer={...}): overrides of a tiny CLIP, heads 64 wide."""

  def make(image=(), text=(), preprocess=(), tokenizer=()) -> Made:
    activation = dict(activation="quick_gelu")
    config = dict(
      image=dict(image_size=16, patch=8, width=64, depth=2, heads=1, **activation) | dict(image),
      text=dict(vocab=40, length=7, width=64, depth=1, heads=1, **activation) | dict(text),
      dim=12,
    )
    rng = np.random.default_rng(0)
    shapes = fitting.abstract(dual_encoder.build_from(**config))
    params = jax.tree.map(lambda s: np.asarray(rng.normal(size=s.shape), np.float32), shapes)
    return Made(Imported(config, params, clip_preprocess(16) | dict(preprocess), dict(tokenizer)))

  return make
