import re

import pytest
import toys

from vljax.train.recipe import Paired, Phase, Recipe
from vljax.train.step import Share, due_at


def phase(name="a", **fields):
  return Phase(name=name, loss=lambda *a: a, **fields)


def recipe(*phases, **fields):
  return Recipe(init=lambda rng, batch: ({}, {}), phases=phases, **fields)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: recipe(phase(), phase()), "phase names must differ; found ['a', 'a']"),
    (
      lambda: recipe(phase(opt="d", trains="x"), phase("b", opt="d", trains="y")),
      "phases that share the optimiser 'd' must train the same leaves; found 'x' and 'y'",
    ),
    (
      lambda: recipe(phase(opt="b", trains="x"), phase("b", trains="y")),
      "phases that share the optimiser 'b' must train the same leaves; found 'x' and 'y'",
    ),
    (
      lambda: recipe(phase(), evals={"a": 1}),
      "config.evals.a has the name of other metrics; legal: any but a, data",
    ),
    (lambda: recipe(), "a recipe needs one phase at least"),
    (lambda: phase(every=0), "phase 'a': every = 0; legal: 1 or more"),
    (lambda: phase(streams=()), "phase 'a' reads no stream"),
    (lambda: Phase(name="a"), "phase 'a' has no loss"),
    (lambda: recipe(phase()).phase("A"), "unknown phase 'A'; legal: a"),
  ],
)
def test_what_makes_no_recipe(make, message):
  with pytest.raises(ValueError, match="^" + re.escape(message)):
    make()


def test_slots_are_those_of_the_first_phase_that_uses_them():
  gan = toys.gan()
  g, d, r1 = gan.phases
  assert gan.slots == {"g": g, "d": d}
  assert r1.slot == "d"


def test_due_follows_every_and_combine():
  two = recipe(phase(streams=("x", "y")), phase("b", every=2, streams=("x",)))
  assert due_at(two, 0) == (("a", "x"), ("a", "y"), ("b", "x"))
  assert due_at(two, 1) == (("a", "x"), ("a", "y"))
  assert due_at(two, 1, "merge") == (("a", "x+y"),)
  assert [due_at(two, i, "round_robin") for i in (0, 1)] == [(("a", "x"), ("b", "x")), (("a", "y"),)]


def test_a_lazy_stream_is_in_every_nth_step():
  two = recipe(phase(streams=("x", "y")))
  due = [due_at(two, i, "accumulate", {"y": Share(every=3)}) for i in range(7)]
  assert [len(pairs) for pairs in due] == [2, 1, 1, 2, 1, 1, 2]
  assert due[1] == (("a", "x"),)


def test_what_a_recipe_says_is_due_must_exist():
  ask = lambda *due: due_at(recipe(phase(streams=("x", "y")), due=lambda step: due), 3)
  assert ask(("a", "y")) == (("a", "y"),)
  with pytest.raises(ValueError, match=r"^unknown phase 'b'; legal: a$"):
    ask(("b", "x"))
  with pytest.raises(ValueError, match=r"^unknown stream 'xx' of phase 'a'; did you mean 'x'\? legal: x, y$"):
    ask(("a", "xx"))
  with pytest.raises(ValueError, match=r"^no phase is due at step 3$"):
    ask()


def test_a_paired_phase_has_no_loss_of_its_own():
  paired = Paired(name="clip", embed=lambda *a: a, join=lambda *a: a)
  assert paired.loss is None
  assert paired.slot == "clip"
