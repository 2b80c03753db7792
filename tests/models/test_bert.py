import jax
import numpy as np
import pytest

from vljax import tree
from vljax.models import bert, fitting

# transformers' BertModel, pooler included.
COUNTS = {"base": 109_482_240, "large": 335_141_888, "minilm-l6": 22_713_216}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
  assert tree.count(fitting.abstract(bert.build(name, pool="pooler"))) == COUNTS[name]


@pytest.fixture(scope="module", params=bert.POOLS)
def model(request):
  return bert.build("test", pool=request.param)


@pytest.fixture(scope="module")
def params(model):
  return model.init(jax.random.key(0), *model.inputs())["params"]


TOKENS = np.array([[5, 9, 3, 7, 0, 0, 0, 0], [5, 9, 0, 0, 0, 0, 0, 0], [5, 2, 8, 1, 4, 6, 9, 3]], np.int32)


@pytest.mark.slow
def test_padding_changes_nothing(model, params):
  run = lambda tokens: model.apply({"params": params}, tokens)
  np.testing.assert_allclose(run(TOKENS)[:2], run(TOKENS[:2, :5]), atol=1e-5)
  alone = run(TOKENS[1:2, :2])
  np.testing.assert_allclose(run(TOKENS)[1:2], alone, atol=1e-5)
  mask = TOKENS != 0
  mask[2, 3:] = False
  given = model.apply({"params": params}, TOKENS, None, mask)
  np.testing.assert_allclose(given[2:], run(TOKENS[2:, :3]), atol=1e-5)


@pytest.mark.slow
def test_words_and_others_go_through_one_stream(model, params):
  """What models do that put regions of a picture behind the words."""
  bound = model.bind({"params": params})
  words = bound.embed(TOKENS)
  both = np.concatenate([words, np.ones((3, 2, 32), np.float32)], 1)
  seen, hidden = (np.pad(TOKENS != 0, [(0, 0), (0, 2)], constant_values=visible) for visible in (True, False))
  out = bound.encode(both, seen)
  assert out.shape == (3, 10, 32)
  np.testing.assert_allclose(bound.encode(both, hidden)[2, :8], bound.tokens(TOKENS)[2], atol=1e-5)
  assert np.abs(np.asarray(out)[2, :8] - np.asarray(bound.tokens(TOKENS))[2]).max() > 1e-3


@pytest.mark.slow
def test_segments_matter(model, params):
  run = lambda segments: model.apply({"params": params}, TOKENS, segments)
  np.testing.assert_array_equal(run(None), run(np.zeros_like(TOKENS)))
  assert np.abs(np.asarray(run(np.ones_like(TOKENS)) - run(None))).max() > 1e-3


@pytest.mark.slow
def test_dropout_only_when_training():
  model = bert.build("test", dropout=0.5)
  params = model.init(jax.random.key(0), *model.inputs())["params"]
  run = lambda **options: np.asarray(model.apply({"params": params}, TOKENS, **options))
  np.testing.assert_array_equal(run(), run())
  first, second = (run(train=True, rngs={"dropout": jax.random.key(i)}) for i in range(2))
  assert np.abs(first - second).max() > 0.1


@pytest.mark.slow
def test_a_shorter_model_takes_the_first_positions(model, params):
  short = bert.build("test", pool=model.pool, length=4)
  cut = bert.adapt_params(jax.tree.map(lambda x: x.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox")), short)
  np.testing.assert_allclose(
    short.apply({"params": cut}, TOKENS[:, :4]), model.apply({"params": params}, TOKENS[:, :4]), atol=1e-6
  )


def test_errors_name_what_is_legal():
  with pytest.raises(ValueError, match="pool of Bert 'men'; did you mean 'mean'"):
    fitting.abstract(bert.build("test", pool="men"))
  model = bert.build("test", segments=0)
  params = model.init(jax.random.key(0), *model.inputs())["params"]
  with pytest.raises(ValueError, match="legal: None, or Bert\\(segments=2\\)"):
    model.apply({"params": params}, TOKENS, TOKENS)
  with pytest.raises(ValueError, match="texts of 9 tokens; the model has positions for 8"):
    model.apply({"params": params}, np.ones((1, 9), np.int32))
