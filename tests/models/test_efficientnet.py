import jax
import numpy as np
import pytest

from vljax import tree
from vljax.models import efficientnet, fitting

# timm's tf_efficientnet_* with 1,000 classes; the paper's table 2 in millions: 5.3, 7.8, 9.2, 12, 19, 30, 43, 66.
COUNTS = {"B0": 5_288_548, "B1": 7_794_184, "B7": 66_347_960, "Lite0": 4_652_008, "Lite4": 13_006_568}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
  assert tree.count(fitting.abstract(efficientnet.build(name, num_classes=1000))) == COUNTS[name]


@pytest.mark.slow
def test_training_moves_the_statistics_and_evaluation_does_not():
  model = efficientnet.build("test", num_classes=3, drop_path=0.5)
  image = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
  variables = jax.jit(model.init)(jax.random.key(0), image)
  run = lambda seed: model.apply(
    variables, image, train=True, mutable="batch_stats", rngs={"dropout": jax.random.key(seed)}
  )
  run = jax.jit(run)
  (a, new), (b, _) = run(0), run(1)
  assert a.shape == (4, 3)
  assert np.abs(np.asarray(a - b)).max() > 1e-4  # another path through the blocks
  assert jax.tree.structure(new["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
  assert np.abs(np.asarray(new["batch_stats"]["stem_norm"]["mean"])).max() > 0
  np.testing.assert_allclose(model.apply(variables, image[:1]), model.apply(variables, image)[:1], atol=1e-5)


def test_features_have_the_width_that_it_says():
  model = efficientnet.build("test")
  shape = jax.eval_shape(model.init_with_output, jax.random.key(0), *model.inputs(2))[0].shape
  assert shape == (2, model.width) == (2, 32)
  assert [efficientnet.build(name, head=0).width for name in ("B7", "L2")] == [640, 1376]  # ALIGN's
  assert "head_conv" not in fitting.abstract(efficientnet.build("test", head=0))
  assert efficientnet.build("b7").width == 2560
  assert efficientnet.build("lite4").width == 1280
