import itertools

import jax
import numpy as np
import pytest

from vljax.generate import DecoderSpeaker, Sampling, Writer
from vljax.generate.writer import padded, rounded
from vljax.models import decoder

PROMPTS = [[5, 9, 3, 7, 1], [2, 8], [11, 4, 6]]


@pytest.fixture(scope="module")
def model():
  return decoder.build("test")


@pytest.fixture(scope="module")
def params(model):
  params = jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])()
  leaves, structure = jax.tree.flatten(
    jax.tree.map(lambda x: x.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox"))
  )
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return structure.unflatten([p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)])


@pytest.fixture(scope="module")
def run(model, params):
  """Tokens [t] to logits [t v], without a cache."""
  jitted = jax.jit(lambda tokens: model.apply({"params": params}, tokens))

  def run(tokens):
    row = np.zeros((1, 16), np.int32)
    row[0, : len(tokens)] = tokens
    return np.asarray(jitted(row))[0, : len(tokens)]

  return run


@pytest.fixture(scope="module")
def writer(model, params):
  return Writer(DecoderSpeaker(model), params)


def inputs(prompts=PROMPTS):
  tokens, real = padded(prompts)
  return {"tokens": tokens, "real": real}


def greedy(run, prompt, limit, stops=()):
  text = []
  while len(text) < limit and (token := int(run([*prompt, *text])[-1].argmax())) not in stops:
    text.append(token)
  return text


@pytest.mark.slow
def test_greedy_is_the_likeliest_token_each_time(run, writer):
  want = [greedy(run, prompt, 6) for prompt in PROMPTS]
  assert writer.write(inputs(), 6) == want
  assert [writer.write(inputs([prompt]), 6)[0] for prompt in PROMPTS[:1]] == want[:1]


def test_padding_may_stand_in_front(writer):
  tokens, real = padded(PROMPTS)
  turn = lambda x: np.stack([np.roll(row, x.shape[1] - sum(r)) for row, r in zip(x, real, strict=True)])
  assert writer.write({"tokens": turn(tokens), "real": turn(real)}, 6) == writer.write(inputs(), 6)


@pytest.mark.slow
def test_a_text_ends_before_its_stop(run, writer, model, params):
  whole = writer.write(inputs(), 6)
  stops = (whole[0][3], whole[1][0])
  stopped = Writer(DecoderSpeaker(model), params, stops).write(inputs(), 6)
  assert stopped == [greedy(run, prompt, 6, stops) for prompt in PROMPTS]
  assert stopped[1] == []


@pytest.mark.slow
def test_what_is_streamed_is_what_is_written(writer):
  sampling = Sampling(temperature=1.5)
  whole = writer.write(inputs(), 7, sampling, seed=3)
  for every in (1, 3):
    pieces = list(writer.stream(inputs(), 7, sampling, seed=3, every=every))
    assert pieces[-1] == whole
    assert [len(p[0]) for p in pieces] == ([1, 2, 3, 4, 5, 6, 7] if every == 1 else [3, 6, 7])
    assert all(b[0][: len(a[0])] == a[0] for a, b in itertools.pairwise(pieces))


@pytest.mark.slow
@pytest.mark.parametrize(
  "sampling", [Sampling(2.0), Sampling(2.0, 3), Sampling(2.0, top_p=0.5), Sampling(2.0, 8, 0.6)]
)
def test_what_can_be_drawn_keeps_its_share(sampling):
  logits = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32) * 4
  got = np.asarray(jax.nn.softmax(sampling.filtered(logits)))
  for row, share in zip(logits / 2, got, strict=True):
    want, order = np.exp(row - row.max()), np.argsort(-row)[: sampling.top_k or 64]
    want /= want[order].sum()
    if sampling.top_p is not None:
      order = order[np.cumsum(want[order]) - want[order] < sampling.top_p]
    kept = np.isin(np.arange(64), order)
    np.testing.assert_allclose(share, np.where(kept, want, 0) / want[kept].sum(), atol=1e-5)


def test_draws_follow_the_distribution():
  logits = np.tile(np.log([[0.6, 0.3, 0.1]]), (4000, 1))
  drawn = np.bincount(Sampling(1.0).pick(jax.random.key(0), logits), minlength=3) / 4000
  np.testing.assert_allclose(drawn, [0.6, 0.3, 0.1], atol=4 * np.sqrt(0.25 / 4000))


def test_other_seeds_draw_otherwise(writer):
  draw = lambda seed: writer.write(inputs(), 6, Sampling(1.0), seed)
  assert draw(0) == draw(0)
  assert draw(0) != draw(1)


def brute_force(run, prompt, limit, stop, penalty):
  """The best of all texts: each ends at the stop or at `limit` tokens."""
  best = (-np.inf, None)

  def visit(text, total):
    nonlocal best
    logits = run([*prompt, *text])[-1].astype(np.float64)
    logp = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    for token in range(8):
      score, length = total + logp[token], len(text) + 1
      if token == stop or length == limit:
        best = max(best, (score / length**penalty, text + ([] if token == stop else [token])), key=lambda b: b[0])
      else:
        visit([*text, token], score)

  visit([], 0.0)
  return best[1]


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0.0, 1.0, -1.0])
def test_a_beam_as_wide_as_the_tree_finds_the_best_text(penalty):
  """Eight tokens, three places: with 64 beams nothing is lost before the last of them."""
  model = decoder.build("test", vocab=8, depth=1)
  params = jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])()
  params = jax.tree.map(lambda x: 4 * x.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox"))
  run = jax.jit(lambda tokens: model.apply({"params": params}, tokens))
  alone = lambda tokens: np.asarray(run(np.pad(tokens, (0, 8 - len(tokens)))[None]))[0, : len(tokens)]
  prompts = [[3, 1, 2], [6]]
  found = Writer(DecoderSpeaker(model), params, (5,)).search(inputs(prompts), 3, beams=64, penalty=penalty)
  # A stop ends a text only if it ranks among the beams; 64 beams rank everything within three places.
  assert found == [brute_force(alone, prompt, 3, 5, penalty) for prompt in prompts]
  assert Writer(DecoderSpeaker(model), params).search(inputs(prompts), 3, 64, penalty, stops=(5,)) == found


@pytest.mark.slow
def test_one_beam_without_stops_is_greedy(writer):
  assert writer.search(inputs(), 6, beams=1) == writer.write(inputs(), 6)


@pytest.mark.slow
def test_options_are_scored_as_texts(run, writer):
  options = [[4, 4], [9], [1, 2, 3, 4, 5]]
  want = []
  for option in options:
    logits = run([*PROMPTS[0], *option])[len(PROMPTS[0]) - 1 : -1].astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    want.append(logp[np.arange(len(option)), option].sum())
  np.testing.assert_allclose(writer.score(inputs(PROMPTS[:1]), options), want, atol=1e-4)
  np.testing.assert_allclose(writer.score(inputs(PROMPTS[:1]), options, at_once=2), want, atol=1e-4)


@pytest.mark.slow
def test_logits_are_those_of_the_model(run, writer):
  got = writer.logits(inputs())
  for row, prompt in zip(got, PROMPTS, strict=True):
    np.testing.assert_allclose(row[: len(prompt)], run(prompt), atol=1e-4)


@pytest.mark.slow
def test_learned_positions_end_after_real_tokens():
  """Of the 24 tokens that 18 are padded to and the 16 places for what follows, 20 may be real."""
  model = decoder.build("test", depth=1, positions="learned", length=20)
  params = jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])()
  params = jax.tree.map(lambda x: 4 * x.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox"))
  run = lambda tokens: np.asarray(model.apply({"params": params}, np.array([tokens])))[0]
  writer, prompt = Writer(DecoderSpeaker(model), params), list(range(1, 21))
  want = greedy(run, prompt[:18], 2)
  assert writer.write(inputs([prompt[:18]]), 2) == writer.search(inputs([prompt[:18]]), 2, beams=1) == [want]
  logp = jax.nn.log_softmax(run(prompt))[np.arange(19), prompt[1:]]
  np.testing.assert_allclose(writer.logits(inputs([prompt]))[0, :20], run(prompt), atol=1e-4)
  np.testing.assert_allclose(writer.losses(inputs([prompt])), [-logp.sum()], rtol=1e-4)
  np.testing.assert_allclose(writer.score(inputs([prompt[:18]]), [prompt[18:]]), [logp[17:].sum()], rtol=1e-4)
  for call in (
    lambda x: writer.write(x, 2),
    lambda x: writer.search(x, 2, beams=1),
    lambda x: writer.score(x, [[1], [1, 2]]),
  ):
    with pytest.raises(ValueError, match="a prompt of 19 tokens and 2 to follow; the model has positions for 20"):
      call(inputs([prompt[:19]]))
  for call in (writer.logits, writer.losses):
    with pytest.raises(ValueError, match="a prompt of 21 tokens; the model has positions for 20"):
      call(inputs([[*prompt, 1]]))


def test_lengths_are_rounded_to_few():
  assert [rounded(n) for n in (1, 16, 17, 25, 33, 50, 65, 1000)] == [16, 16, 24, 32, 48, 64, 96, 1024]


def test_what_is_legal(writer):
  for sampling, message in (
    (Sampling(top_k=3), "top_k without a temperature"),
    (Sampling(0.0), "temperature = 0.0; legal: above 0"),
    (Sampling(1.0, top_k=0), "top_k = 0; legal: 1 or more"),
    (Sampling(1.0, top_p=1.5), "top_p = 1.5; legal: above 0 and at most 1"),
  ):
    with pytest.raises(ValueError, match=message):
      writer.write(inputs(), 2, sampling)
  with pytest.raises(ValueError, match="limit = 0; legal: 1 or more"):
    writer.write(inputs(), 0)
  with pytest.raises(ValueError, match="beams = 0; legal: 1 or more"):
    writer.search(inputs(), 2, beams=0)
  with pytest.raises(ValueError, match="options of 3 prompts; legal: of one"):
    writer.score(inputs(), [[1]])
  for options in ([], [[1], []]):
    with pytest.raises(ValueError, match="no options, or an option without tokens"):
      writer.score(inputs(PROMPTS[:1]), options)
  with pytest.raises(ValueError, match="at_once = 0; legal: 1 or more"):
    writer.score(inputs(PROMPTS[:1]), [[1]], at_once=0)
