"""The loader: order, sharding, resuming, broken examples, evaluation."""

import io
import itertools
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vljax.data import transforms
from vljax.data.loader import Loader, Stream
from vljax.data.tokenizers import train_sentencepiece


class Numbers:
  """Examples 0 to n-1; the broken ones raise."""

  name = "numbers"

  def __init__(self, n: int, broken=(), error=ValueError):
    self.n, self.broken, self.error, self.reads = n, frozenset(broken), error, []

  def __len__(self):
    return self.n

  def __getitem__(self, i):
    self.reads.append(i)
    return {"key": f"n{i}", "x": i, "bad": self.error("it is broken") if i in self.broken else None}


def noisy(example, rng):
  if example["bad"]:
    raise example["bad"]
  return {"x": np.int64(example["x"]), "noise": rng.random(2)}


def take(stream, batch, count, **options):
  with Loader(stream, batch, **options) as loader:
    return list(itertools.islice(loader, count))


def equal(a, b):
  return len(a) == len(b) and all(
    x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True)
  )


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 60), st.integers(1, 10), st.integers(0, 5), st.booleans())
def test_every_example_once_an_epoch(n, batch, seed, shuffled):
  batch = min(batch, n)
  seen = np.concatenate(
    [b["x"] for b in take(Stream(Numbers(n), noisy, seed, shuffled), batch, 3 * n // batch, threads=0)]
  )
  for epoch in range(len(seen) // n):
    part = seen[epoch * n : (epoch + 1) * n]
    assert sorted(part) == list(range(n))
    assert shuffled or part.tolist() == list(range(n))


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(st.sampled_from([1, 2, 3, 4, 6, 12]), st.sampled_from([0, 1, 3]), st.integers(0, 7), st.integers(12, 50))
def test_processes_together_read_the_global_batches(processes, threads, start, n):
  source = Numbers(n, broken=[3])
  options = {"start": start, "max_broken": 1.0}
  whole = take(Stream(source, noisy), 12, 4, threads=0, **options)
  parts = [
    take(Stream(source, noisy), 12, 4, threads=threads, process_index=p, process_count=processes, **options)
    for p in range(processes)
  ]
  joined = [{k: np.concatenate([part[i][k] for part in parts]) for k in whole[0]} for i in range(4)]
  assert equal(joined, whole)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 12), st.sampled_from([0, 1, 2, 5]), st.sampled_from([1, 2, 4]), st.integers(1, 4))
def test_resuming_gives_the_exact_next_batches(consumed, threads, processes, prefetch):
  source = Numbers(37, broken=[5, 6])
  straight = take(Stream(source, noisy, seed=1), 8, 16, threads=1, max_broken=1.0)
  width = 8 // processes
  for p in range(processes):
    options = {
      "threads": threads,
      "prefetch": prefetch,
      "process_index": p,
      "process_count": processes,
      "max_broken": 1.0,
    }
    resumed = take(Stream(source, noisy, seed=1), 8, 16 - consumed, start=8 * consumed, **options)
    expected = [{k: v[p * width : (p + 1) * width] for k, v in b.items()} for b in straight[consumed:]]
    assert equal(resumed, expected)


def pictures(count: int, broken=()) -> list[dict]:
  rng = np.random.default_rng(0)
  made = []
  for i in range(count):
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(file, "PNG")
    image = b"broken" if i in broken else file.getvalue()
    made.append({"key": f"n{i}", "x": i, "image": image, "captions": ["a dog", f"picture {i}"]})
  return made


@pytest.fixture(scope="module")
def crops() -> transforms.Pipeline:
  tokenizer = train_sentencepiece(["a dog", *(f"picture {i}" for i in range(40))], 284, length=8)
  steps = [("decode",), ("random_resized_crop", 4), ("flip_lr",), ("choose_caption",), ("tokenize",)]
  return transforms.build([*steps, ("keep", "image", "tokens", "x")], tokenizer)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "process", "processes"), [(1, 0, 1), (3, 1, 2)])
def test_worker_processes_change_nothing(crops, workers, process, processes):
  source = pictures(40, broken=[5])
  straight = take(Stream(source, crops), 8, 9, threads=0)
  width = 8 // processes
  expected = [{k: v[process * width : (process + 1) * width] for k, v in b.items()} for b in straight[2:]]
  with Loader(
    Stream(source, crops), 8, start=16, workers=workers, process_index=process, process_count=processes
  ) as loader:
    assert equal(list(itertools.islice(loader, 7)), expected)
    assert loader.broken.keys <= {"n5"}


@pytest.mark.slow
def test_a_worker_passes_its_error_on(crops):
  source = pictures(8, broken=range(8))
  with (
    Loader(Stream(source, crops), 8, workers=1) as loader,
    pytest.raises(ValueError, match="examples in a row are broken"),
  ):
    next(loader)


class Handlers(Numbers):
  """Whether this process ignores SIGINT."""

  def __getitem__(self, i):
    return {"ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN}


def as_it_is(example, rng):
  return example


@pytest.mark.slow
def test_workers_outlive_an_interrupt():
  [batch] = take(Stream(Handlers(8), as_it_is), 8, 1, workers=1)
  assert batch["ignored"].all()


def test_the_position_counts_from_the_start():
  with Loader(Stream(Numbers(20), noisy), 5, start=3) as loader:
    next(loader)
    assert loader.consumed == 8


def test_batches_of_another_size_go_on_with_the_next_example():
  whole, rest = (take(Stream(Numbers(20), noisy), size, n, start=s) for size, n, s in ((12, 1, 0), (4, 2, 4)))
  joined = {k: np.concatenate([b[k] for b in rest]) for k in whole[0]}
  assert equal([joined], [{k: v[4:] for k, v in whole[0].items()}])


def test_seeds_differ():
  a, b = (take(Stream(Numbers(30), noisy, seed), 10, 3) for seed in (0, 1))
  assert not equal(a, b)


@pytest.mark.parametrize("error", [ValueError, OSError, KeyError])
def test_broken_examples_are_replaced_and_counted(error):
  source = Numbers(200, broken=[7, 8], error=error)
  loader = Loader(Stream(source, noisy, shuffle=False), 10)
  with loader:
    batches = list(itertools.islice(loader, 20))
  seen = np.concatenate([b["x"] for b in batches])
  assert len(seen) == 200
  assert not {7, 8} & set(seen.tolist())
  assert np.delete(seen, [7, 8]).tolist() == [i for i in range(200) if i not in (7, 8)]
  assert (loader.broken.count, loader.broken.seen) == (2, 202)
  assert loader.broken.keys == {"n7", "n8"}
  assert "it is broken" in loader.broken.last.cause


def test_a_bug_is_not_a_broken_example():
  def buggy(example, rng):
    raise TypeError("a bug")

  with Loader(Stream(Numbers(10), buggy), 5) as loader, pytest.raises(TypeError, match="a bug"):
    next(loader)


def test_too_many_broken_examples_stop_the_run():
  source = Numbers(100, broken=range(0, 100, 10))
  message = r"6 of \d\d examples are broken .* max_broken = 0.05; the last one is n\d0: ValueError: it is broken"
  with Loader(Stream(source, noisy, shuffle=False), 10) as loader, pytest.raises(ValueError, match=message):
    list(itertools.islice(loader, 10))


def test_a_wholly_broken_source_stops_at_once():
  with (
    Loader(Stream(Numbers(10, broken=range(10)), noisy), 5) as loader,
    pytest.raises(ValueError, match=r"32 examples in a row are broken; the last one is n\d: ValueError: it is broken"),
  ):
    next(loader)


def test_a_source_that_fails_is_named_by_its_index():
  class Torn(Numbers):
    def __getitem__(self, i):
      if i == 4:
        raise OSError("tar cut in half")
      return super().__getitem__(i)

  with Loader(Stream(Torn(60), noisy, shuffle=False), 6) as loader:
    next(loader)
    assert loader.broken.last.key == "number 4 of source 'numbers'"
    assert loader.broken.last.cause == "OSError: tar cut in half"


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Loader(Stream(Numbers(7), noisy), 8), "source 'numbers' has 7 examples, fewer than one batch of 8"),
    (lambda: Stream(Numbers(0), noisy), "source 'numbers' has no examples: this host has nothing to read"),
    (lambda: Stream([], noisy), "a list has no examples"),
    (lambda: Stream(Numbers(3), noisy, seed=-1), "seed = -1; legal: 0 or more"),
    (lambda: Loader(Stream(Numbers(9), noisy), 9, process_count=2), "batch = 9 does not divide among 2 processes"),
    (lambda: Loader(Stream(Numbers(9), noisy), 9, start=-1), "start = -1; legal: 0 or more"),
    (lambda: Loader(Stream(Numbers(9), noisy), 9, prefetch=0), "prefetch = 0; legal: 1 or more"),
    (
      lambda: Loader(Stream(Numbers(9), noisy, cache=True), 9, workers=2),
      "cache=True .* workers = 2 processes; legal: workers = 0",
    ),
  ],
)
def test_refusals(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_texts_are_refused_in_training():
  keep_all = lambda example, rng: {"x": np.int64(example["x"]), "key": example["key"]}
  with Loader(Stream(Numbers(9), keep_all), 3) as loader, pytest.raises(ValueError, match="field 'key' is a str"):
    next(loader)


def test_cache_changes_nothing_but_the_reads(crops):
  class Counted(list):
    reads = 0

    def __getitem__(self, i):
      self.reads += 1
      return super().__getitem__(i)

  plain, cached = Counted(pictures(6, broken=[2])), Counted(pictures(6, broken=[2]))
  made = [
    take(Stream(s, crops, cache=c), 3, 20, threads=2, max_broken=1.0) for s, c in ((plain, False), (cached, True))
  ]
  assert equal(*made)
  assert cached.reads < plain.reads - 30
