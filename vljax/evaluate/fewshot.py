"""Tasks by examples in the prompt: open ones by what a model writes, closed ones by what it finds likeliest.

Functions take `generate(prompts) -> texts` and `score(prompt, options) -> log-likelihoods`, never a model. Every
result says which examples were shown and what was asked, so that it can be had again.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vljax import config
from vljax.data.interleave import CHUNK
from vljax.evaluate import captions, ranking, templates, vqa
from vljax.evaluate.features import check_batch
from vljax.evaluate.support import Choose, Example, describe
from vljax.evaluate.templates import Prompt, Template

Generate = Callable[[list[Prompt]], Sequence[str]]
Measure = Callable[[Sequence[str], Sequence[Sequence[str]]], Mapping[str, float]]

SHOTS = (0, 4, 8, 16, 32)
"""Flamingo's numbers of examples (arXiv 2204.14198)."""

ZERO_SHOT_TEXTS = 2
"""Examples without media that a prompt of an open task shows at zero shots: they tell the form of an answer."""

MEASURES: dict[str, Measure] = {
  "captions": captions.evaluate,
  "vqa": vqa.evaluate,
  "exact": lambda texts, answers: {"exact": float(np.mean([*map(vqa.exact, texts, answers)]))},
}
"""How texts are compared with the answers of each example."""


@dataclasses.dataclass(frozen=True)
class Result:
  """What a model did on a task.

  Attributes:
    settings: all that decides the prompts.
    metrics: name to number.
    rows: for each query its key, the keys of the examples shown, the prompt, what came out and what was right.
  """

  settings: Mapping[str, Any]
  metrics: Mapping[str, float]
  rows: Sequence[Mapping[str, Any]]

  def write(self, path: epath.PathLike) -> None:
    """JSON Lines: settings and metrics in the first line, then a line for each query."""
    lines = [{"settings": dict(self.settings), "metrics": dict(self.metrics)}, *map(dict, self.rows)]
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def prompt(template: Template, shown: Sequence[Example], query: Example, media: bool = True) -> Prompt:
  """The examples with their answers, each closed by `<EOC>`, and the query without.

  Args:
    media: whether the examples show theirs; the query always does.
  """
  parts: Prompt = []
  for example in shown:
    parts += [*(example.media if media else ()), template.shown(example.fields, example.answers[0]), CHUNK]
  return [*parts, *query.media, template.asked(query.fields)]


def open_ended(
  generate: Generate,
  template: Template,
  queries: Sequence[Example],
  support: Sequence[Example],
  choose: Choose,
  *,
  shots: int,
  measure: str = "captions",
  batch: int = 8,
  settings: Mapping[str, Any] | None = None,
) -> Result:
  """A task answered in free text: captions, open questions.

  At zero shots two examples are shown without their pictures, as Flamingo does it (arXiv 2204.14198).

  Args:
    measure: a key of MEASURES.
    batch: prompts per call of `generate`; the last call may have fewer.
    settings: what else is to be written with the result, such as the checkpoint and the way of generating.

  Raises:
    ValueError: no query, an unknown measure, a batch below 1, or `generate` did not give a text for each prompt.
  """
  compare = config.choose("measure of texts", measure, MEASURES)
  _check(queries)
  check_batch(batch)
  texts, rows = [], []
  for first in range(0, len(queries), batch):
    asked = [queries[i] for i in range(first, min(first + batch, len(queries)))]
    chosen = [[support[j] for j in choose(first + i, shots or ZERO_SHOT_TEXTS)] for i in range(len(asked))]
    prompts = [prompt(template, shown, query, shots > 0) for shown, query in zip(chosen, asked, strict=True)]
    found = list(generate(prompts))
    if len(found) != len(prompts):
      raise ValueError(f"generate gave {len(found)} texts for {len(prompts)} prompts")
    for query, shown, parts, text in zip(asked, chosen, prompts, found, strict=True):
      texts.append(finished(text))
      rows.append(_row(query, shown, parts) | {"output": texts[-1]})
  metrics = compare(texts, [row["answers"] for row in rows])
  told = _settings(template, shots, queries, support, choose) | {"measure": measure}
  return Result({**(settings or {}), **told}, dict(metrics), rows)


def close_ended(
  score: ranking.Score,
  template: Template,
  queries: Sequence[Example],
  support: Sequence[Example],
  choose: Choose,
  options: Sequence[str] | Callable[[Example], Sequence[str]],
  *,
  shots: int,
  permutations: int = 1,
  seed: int = 0,
  settings: Mapping[str, Any] | None = None,
) -> Result:
  """A task whose answers are given: classes, multiple choice. `top1`, its chance, and the options' log-likelihoods.

  Args:
    options: the same for all queries, or what each query's are.
    permutations: orders of the examples over which log-likelihoods are averaged; Flamingo takes 6.
    seed: of the orders.

  Raises:
    ValueError: no query, or one none of whose answers is among its options.
  """
  _check(queries)
  rows, right, chance = [], [], []
  for i, query in enumerate(queries):
    given = list(options(query) if callable(options) else options)
    answers = [number for number, option in enumerate(given) if option in query.answers]
    if not answers:
      raise ValueError(f"query {query.key!r}: none of the answers {query.answers} is among the options {given[:8]}")
    shown = [support[j] for j in choose(i, shots)]
    every = ranking.orders(len(shown), permutations, seed)
    prompts = [prompt(template, [shown[j] for j in order], query) for order in every]
    values = ranking.scores(score, prompts, [template.gap + option for option in given])
    number, hit = ranking.best(values, answers)
    right.append(hit)
    chance.append(len(answers) / len(given))
    ranked = {option: float(value) for option, value in zip(given, values, strict=True)}
    rows.append(_row(query, shown, prompts[0]) | {"output": given[number], "scores": ranked, "orders": len(every)})
  metrics = {"top1": float(np.mean(right)), "top1/chance": float(np.mean(chance))}
  told = _settings(template, shots, queries, support, choose) | {"permutations": permutations, "order_seed": seed}
  return Result({**(settings or {}), **told}, metrics, rows)


def average(results: Sequence[Result]) -> dict[str, float]:
  """The mean of each metric over results that differ in their seed, and `NAME/std` where there are several.

  Raises:
    ValueError: there is no result.
  """
  if not results:
    raise ValueError("there are no results to average")
  values = {name: np.array([result.metrics[name] for result in results]) for name in results[0].metrics}
  mean = {name: float(x.mean()) for name, x in values.items()}
  return mean | ({f"{name}/std": float(x.std(ddof=1)) for name, x in values.items()} if len(results) > 1 else {})


def finished(text: str) -> str:
  """A text up to its `<EOC>`, without blanks around it."""
  return text.partition(CHUNK)[0].strip()


def _settings(
  template: Template, shots: int, queries: Sequence[Example], support: Sequence[Example], choose: Choose
) -> dict[str, Any]:
  about = {"template": template.text, "shots": shots, **choose.settings}
  return about | {name: describe(part) for name, part in (("queries", queries), ("support", support))}


def _row(query: Example, shown: Sequence[Example], parts: Prompt) -> dict[str, Any]:
  about = {"query": query.key, "support": [example.key for example in shown], "prompt": templates.render(parts)}
  return about | {"answers": list(query.answers)}


def _check(queries: Sequence[Example]) -> None:
  if not len(queries):
    raise ValueError("a task needs at least one query")
