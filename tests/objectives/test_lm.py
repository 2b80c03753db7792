"""The loss of next tokens against numpy, in pieces and whole, with its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax.objectives import lm

B, T, D, V = 2, 7, 4, 11


@pytest.fixture(scope="module")
def case():
  draw = np.random.default_rng(0)
  x, matrix = draw.normal(size=(B, T, D)).astype("f"), draw.normal(size=(D, V)).astype("f")
  return x, matrix, draw.integers(0, V, (B, T)), draw.random((B, T)).astype("f")


def by_hand(x, matrix, tokens, weights):
  total = 0.0
  for row in range(B):
    for i in range(T - 1):
      logits = (x[row, i] @ matrix).astype("d")
      total -= weights[row, i + 1] * (logits[tokens[row, i + 1]] - np.log(np.exp(logits).sum()))
  return total


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 3 * B * V, 10**9])
def test_the_sum_is_that_of_numpy_in_any_pieces(case, chunk):
  x, matrix, tokens, weights = case
  loss, metrics = lm.next_token(lambda x: x @ matrix, x, tokens, weights, chunk=chunk)
  np.testing.assert_allclose(loss, by_hand(*case), rtol=1e-5)
  right = ((x @ matrix).argmax(-1)[:, :-1] == tokens[:, 1:]) * weights[:, 1:]
  np.testing.assert_allclose(metrics["token_accuracy"], right.sum() / weights[:, 1:].sum(), rtol=1e-5)


@pytest.mark.slow
def test_rows_add_up(case):
  x, matrix, tokens, weights = case
  loss, right = lm.rows(lambda x: x @ matrix, x, tokens, weights, chunk=B * V)
  for row in range(B):
    alone = [y[row : row + 1] for y in (x, tokens, weights)]
    sum_alone, metrics = lm.next_token(lambda x: x @ matrix, *alone)
    np.testing.assert_allclose(loss[row], sum_alone, rtol=1e-5)
    np.testing.assert_allclose(right[row], metrics["token_accuracy"] * weights[row, 1:].sum(), rtol=1e-5)


@pytest.mark.slow
def test_gradients_in_pieces_are_those_of_the_whole(case):
  x, matrix, tokens, weights = case

  def slope(chunk):
    loss = lambda x, m: lm.next_token(lambda x: x @ m, x, tokens, weights, chunk=chunk)[0]
    return jax.grad(loss, (0, 1))(jnp.asarray(x), jnp.asarray(matrix))

  for one, other in zip(slope(2 * B * V), slope(10**9), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_hidden_token_changes_nothing(case):
  x, matrix, tokens, weights = case
  weights, other = weights.copy(), tokens.copy()
  weights[:, 3] = 0
  other[:, 3] = (other[:, 3] + 1) % V
  head = lambda x: x @ matrix
  assert lm.next_token(head, x, tokens, weights)[0] == lm.next_token(head, x, other, weights)[0]


def test_no_weight_at_all_gives_zero_and_a_denominator_of_one(case):
  x, matrix, tokens, weights = case
  loss, metrics = lm.next_token(lambda x: x @ matrix, x, tokens, 0 * weights)
  assert loss == 0
  assert metrics["token_accuracy"] == 0
  assert lm.token_weight(0 * weights) == 1
  np.testing.assert_allclose(lm.token_weight(weights), weights[:, 1:].sum(), rtol=1e-6)
