"""Streams of packed rows: pure functions of (seed, i), resumable, whatever the neighbors."""

import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from tests.data.test_interleave import BYTES
from vljax.data import loader, sources, transforms
from vljax.data.packed import Packed, packed
from vljax.train.recipe import Phase, Recipe
from vljax.train.run import Run, Stream
from vljax.train.trainer import Trainer

STEPS = [
  ("choose_caption",),
  ("pair",),
  ("interleave", 60, 1),
  ("pictures", 8, {"p_flip": 0.5}),
  ("pack", 120, 4),
]


def stream(steps=STEPS, **options):
  source = sources.open("synthetic:pairs?n=24&size=8")
  return loader.Stream(source, transforms.build(steps, BYTES), **{"seed": 3, **options})


def equal(a, b):
  assert a.keys() == b.keys()
  for name, value in a.items():
    np.testing.assert_array_equal(value, b[name])


def test_a_row_packs_the_rows_of_the_stream():
  rows = packed(stream(), 2)
  assert len(rows) == 12
  alone = stream()
  for i in (0, 5, 30):
    row, (first, second) = rows[i].example, (alone[2 * i].example, alone[2 * i + 1].example)
    n, m = (int((x["segments"] > 0).sum()) for x in (first, second))
    np.testing.assert_array_equal(row["tokens"][:n], first["tokens"][:n])
    np.testing.assert_array_equal(row["tokens"][n : n + m], second["tokens"][:m])
    np.testing.assert_array_equal(row["images"][:2], [first["images"][0], second["images"][0]])


@pytest.mark.parametrize("documents", [3, 0])
def test_rows_are_pure_and_travel(documents):
  rows = packed(stream(), documents)
  again = pickle.loads(pickle.dumps(packed(stream(cache=True), documents)))
  for i in (7, 0, 40):
    equal(rows[i].example, again[i].example)


def test_a_plan_shows_every_document_once_an_epoch():
  rows = packed(stream(), 0)
  assert len(rows) < 24
  found = np.concatenate([np.concatenate(rows.plan)])
  assert sorted(found.tolist()) == list(range(24))
  shown = [rows[i].example["media_mask"].sum() for i in range(len(rows))]
  assert sum(shown) == 24


def test_batches_go_on_where_another_run_stopped():
  def read(start, count):
    with loader.Loader(packed(stream(), 2), 3, start=start, threads=0) as batches:
      return [next(batches) for _ in range(count)]

  straight, rest = read(0, 4), read(6, 2)
  assert straight[0]["tokens"].shape == (3, 120)
  equal(straight[3], rest[1])


def test_a_broken_document_is_replaced_or_left_out():
  class Broken:
    name = "broken"

    def __init__(self, source):
      self.source = source

    def __len__(self):
      return len(self.source)

    def row(self, index):
      return self.source.row(index)

    def __getitem__(self, index):
      if index == 5:
        raise ValueError("no picture")
      return self.source[index]

  source = Broken(sources.open("synthetic:pairs?n=24&size=8"))
  damaged = loader.Stream(source, transforms.build(STEPS, BYTES), seed=3)
  fixed, planned = packed(damaged, 2), packed(damaged, 0)
  rows = [fixed[i] for i in range(12)]
  assert sum(len(row.failures) for row in rows) >= 1
  assert all(row.example["segments"].max() == 2 for row in rows)
  rows = [planned[i] for i in range(len(planned))]
  assert sum(len(row.failures) for row in rows) == 1
  assert sum(row.example["media_mask"].sum() for row in rows) == 23


@pytest.mark.parametrize(
  ("steps", "documents", "message"),
  [
    (STEPS[:-1], 2, r'documents = 2 needs transforms that end with \("pack", length, media\)'),
    (STEPS, 25, "documents = 25; legal: 1 to 24 in a row, or 0"),
    (STEPS, -1, "documents = -1; legal"),
    ([STEPS[-1]], 0, "documents = 0 plans by the lengths of texts; the transforms hold no"),
  ],
)
def test_what_cannot_be_packed(steps, documents, message):
  with pytest.raises(ValueError, match=message):
    Packed(stream(steps), documents)


def test_one_document_needs_no_packing():
  alone = stream()
  assert packed(alone, 1) is alone


def test_a_config_asks_for_packed_rows():
  recipe = Recipe(
    init=lambda rng, batch: ({"w": jnp.zeros(())}, {}), phases=(Phase(name="lm", loss=lambda *_: ({}, {}, {})),)
  )
  steps = ("choose_caption",), ("pair",), ("interleave", 60, 1), ("pictures", 8), ("pack", 120, 4)
  stream = Stream(source="synthetic:pairs?n=24&size=8", batch=8, transforms=steps, documents=2)
  trainer = Trainer(recipe, Run(recipe="toy", steps=1, streams={"train": stream}), BYTES)
  assert isinstance(trainer.streams["train"], Packed)
  assert {name: x.shape for name, x in trainer.example.items()} == {
    **dict.fromkeys(("tokens", "phi", "first", "segments", "positions", "loss_mask"), (1, 120)),
    "images": (1, 4, 1, 8, 8, 3),
    "media_mask": (1, 4),
  }
