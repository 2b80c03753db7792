"""Prompts and results of tasks, with stubs in place of a model."""

import json

import numpy as np
import pytest

from vljax.evaluate import fewshot
from vljax.evaluate.support import AtRandom, Example, Nearest
from vljax.evaluate.templates import render, template

ANIMALS = ("cat", "dog", "cow")
CAPTION, QUESTION = template("caption"), template("question")


def example(i: int, prefix: str = "s") -> Example:
  animal = ANIMALS[i % 3]
  return Example(
    f"{prefix}{i}", (np.full((2, 2, 3), i, np.uint8),), {"question": f"which {i}?"}, (animal, f"a {animal}")
  )


SUPPORT = [example(i) for i in range(12)]
QUERIES = [example(i, "q") for i in range(5)]


def sees(prompt) -> str:
  """The animal of the last picture of a prompt: a model that is right."""
  last = [part for part in prompt if not isinstance(part, str)][-1]
  return ANIMALS[int(last[0, 0, 0]) % 3]


def generate(prompts):
  return [f" {sees(prompt)}<EOC> and more" for prompt in prompts]


def score(prompt, options):
  return [0.0 if option == f" {sees(prompt)}" else -1.0 for option in options]


def test_a_prompt_shows_examples_and_asks():
  parts = fewshot.prompt(QUESTION, SUPPORT[:2], QUERIES[4])
  assert [part for part in parts if isinstance(part, str)] == [
    "Question: which 0? Answer: cat", "<EOC>", "Question: which 1? Answer: dog", "<EOC>", "Question: which 4? Answer:",
  ]  # fmt: skip
  assert render(parts) == (
    "<image>Question: which 0? Answer: cat<EOC><image>Question: which 1? Answer: dog<EOC>"
    "<image>Question: which 4? Answer:"
  )


def test_zero_shots_show_two_texts():
  found = fewshot.open_ended(generate, CAPTION, QUERIES, SUPPORT, AtRandom(12), shots=0, measure="exact")
  for row in found.rows:
    assert row["prompt"].count("<image>") == 1
    assert row["prompt"].endswith("<EOC><image>Output:")
    assert row["prompt"].count("Output: ") == len(row["support"]) == 2


@pytest.mark.parametrize("shots", [0, 4, 8])
def test_open_answers(shots):
  found = fewshot.open_ended(generate, QUESTION, QUERIES, SUPPORT, AtRandom(12, 5), shots=shots, measure="exact")
  assert found.metrics == {"exact": 1.0}
  assert [row["output"] for row in found.rows] == ["cat", "dog", "cow", "cat", "dog"]
  assert found.settings == {
    "template": QUESTION.text,
    "shots": shots,
    "retrieval": "random",
    "seed": 5,
    "queries": {"count": 5},
    "support": {"count": 12},
    "measure": "exact",
  }
  chosen = AtRandom(12, 5)
  assert [row["support"] for row in found.rows] == [[f"s{j}" for j in chosen(i, shots or 2)] for i in range(5)]


def test_batches_change_nothing():
  sizes = []

  def counting(prompts):
    sizes.append(len(prompts))
    return generate(prompts)

  options = dict(shots=4, measure="captions")
  whole = fewshot.open_ended(counting, CAPTION, QUERIES, SUPPORT, AtRandom(12), batch=99, **options)
  parts = fewshot.open_ended(counting, CAPTION, QUERIES, SUPPORT, AtRandom(12), batch=2, **options)
  assert sizes == [5, 2, 2, 1]
  assert whole == parts
  assert sorted(whole.metrics) == ["bleu4", "cider"]


def test_measures():
  blind = lambda prompts: ["cat"] * len(prompts)
  run = lambda measure: fewshot.open_ended(blind, CAPTION, QUERIES, SUPPORT, AtRandom(12), shots=4, measure=measure)
  assert run("exact").metrics == {"exact": 0.4}
  assert run("vqa").metrics["accuracy"] == pytest.approx(2 / 5 / 3)
  with pytest.raises(ValueError, match="unknown measure of texts 'bleu'"):
    run("bleu")


@pytest.mark.parametrize(("shots", "permutations", "orders"), [(0, 6, 1), (2, 6, 2), (4, 6, 6), (4, 1, 1)])
def test_closed_answers(shots, permutations, orders):
  asked = []

  def counting(prompt, options):
    asked.append(render(prompt))
    return score(prompt, options)

  found = fewshot.close_ended(
    counting, CAPTION, QUERIES, SUPPORT, AtRandom(12), ANIMALS, shots=shots, permutations=permutations, seed=9
  )
  assert found.metrics == {"top1": 1.0, "top1/chance": pytest.approx(1 / 3)}
  assert len(asked) == 5 * orders
  assert found.rows[1]["scores"] == {"cat": -1.0, "dog": 0.0, "cow": -1.0}
  assert [row["orders"] for row in found.rows] == [orders] * 5
  assert (found.settings["permutations"], found.settings["order_seed"]) == (permutations, 9)


def test_options_of_each_query():
  mine = lambda query: [query.answers[0], "horse"]
  found = fewshot.close_ended(score, CAPTION, QUERIES, SUPPORT, AtRandom(12), mine, shots=1)
  assert found.metrics == {"top1": 1.0, "top1/chance": 0.5}
  with pytest.raises(ValueError, match=r"query 'q0': none of the answers \('cat', 'a cat'\) is among the options"):
    fewshot.close_ended(score, CAPTION, QUERIES, SUPPORT, AtRandom(12), ["horse"], shots=1)


def test_a_model_that_copies_the_nearest_example():
  z = np.eye(3)[[i % 3 for i in range(12)]] + 0.01 * np.random.default_rng(0).normal(size=(12, 3))

  def copies(prompts):
    return [[p for p in prompt if isinstance(p, str) and p.startswith("Output: ")][-1][8:] for prompt in prompts]

  near = Nearest(z[:5], z)
  run = lambda choose: fewshot.open_ended(copies, CAPTION, QUERIES, SUPPORT, choose, shots=3, measure="exact")
  assert run(near).metrics == {"exact": 1.0}
  assert run(near).settings["retrieval"] == "rices"
  assert run(AtRandom(12)).metrics["exact"] < 1.0


def test_results_are_written(tmp_path):
  found = fewshot.open_ended(
    generate, CAPTION, QUERIES, SUPPORT, AtRandom(12), shots=4, measure="exact", settings={"beams": 3}
  )
  found.write(tmp_path / "deep" / "exact.jsonl")
  head, *rows = map(json.loads, (tmp_path / "deep" / "exact.jsonl").read_text().splitlines())
  assert head == {"settings": found.settings, "metrics": {"exact": 1.0}}
  assert head["settings"]["beams"] == 3
  assert rows == list(found.rows)
  assert sorted(rows[0]) == ["answers", "output", "prompt", "query", "support"]


def test_seeds_are_averaged():
  made = [fewshot.Result({}, {"exact": value}, []) for value in (0.2, 0.4, 0.6)]
  assert fewshot.average(made) == {"exact": pytest.approx(0.4), "exact/std": pytest.approx(0.2)}
  assert fewshot.average(made[:1]) == {"exact": 0.2}
  with pytest.raises(ValueError, match="no result"):
    fewshot.average([])


def test_what_cannot_be_evaluated():
  with pytest.raises(ValueError, match="at least one query"):
    fewshot.open_ended(generate, CAPTION, [], SUPPORT, AtRandom(12), shots=4)
  with pytest.raises(ValueError, match="generate gave 1 texts for 5 prompts"):
    fewshot.open_ended(lambda prompts: ["x"], CAPTION, QUERIES, SUPPORT, AtRandom(12), shots=4)
  with pytest.raises(ValueError, match="^batch = -1; legal: 1 or more"):
    fewshot.open_ended(generate, CAPTION, QUERIES, SUPPORT, AtRandom(12), shots=4, batch=-1)
