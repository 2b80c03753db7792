"""Examples of a task, and which of them a prompt shows before it asks."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, overload

import numpy as np

from vljax.data import pictures, sources, transforms
from vljax.data.sources.source import lookup
from vljax.evaluate import features, knn
from vljax.types import Float, Int

SIZE = 2048
"""Support examples that Flamingo draws for each task (arXiv 2204.14198); of classes, 32 each."""


class Choose(Protocol):
  """Which support examples a query is shown."""

  @property
  def settings(self) -> Mapping[str, Any]:
    """All that decides the choice, fit for JSON."""
    ...

  def __call__(self, query: int, shots: int) -> Sequence[int]:
    """The numbers of the support examples in the order of the prompt, from the number of the query."""
    ...


@dataclasses.dataclass(frozen=True)
class Example:
  """One example of a task.

  Attributes:
    media: pictures, and lists of pictures, which are videos.
    fields: what its template asks for besides the answer.
    answers: right ones; the first is shown where the example supports another.
  """

  key: str
  media: tuple[Any, ...]
  fields: Mapping[str, str]
  answers: tuple[str, ...]


class Examples(Sequence[Example]):
  """Examples of a source, each opened when it is asked for.

  Args:
    answer: the field with the answer or answers.
    fields: of the template.
    steps: transforms that make `medium` of a raw example, such as [("clip", 30, 3.0, {"rule": "middle"})].
    medium: the field of the picture or video.
    indices: which examples of the source; None: all.
    chosen: how these were chosen, fit for JSON.
  """

  def __init__(
    self,
    source: sources.Source,
    answer: str = "captions",
    fields: Sequence[str] = (),
    steps: Sequence[Sequence[Any]] = (("decode",),),
    medium: str = "image",
    indices: Int[np.ndarray, " n"] | None = None,
    chosen: Mapping[str, Any] | None = None,
  ):
    self.source, self.answer, self.fields, self.medium = source, answer, tuple(fields), medium
    self.transform = transforms.build(steps)
    self.indices = np.arange(len(source)) if indices is None else np.asarray(indices)
    self.chosen = dict(chosen or {})

  def __len__(self) -> int:
    return len(self.indices)

  @overload
  def __getitem__(self, index: int) -> Example: ...
  @overload
  def __getitem__(self, index: slice) -> "Examples": ...
  def __getitem__(self, index):
    if isinstance(index, slice):
      return self.only(np.arange(len(self))[index])
    row = self.source[int(self.indices[index])]
    made = self.transform(row, np.random.default_rng(0))
    if self.medium not in made:
      raise ValueError(f"{self.source.name}: the steps make no {self.medium!r} of {row['key']!r}, but {sorted(made)}")
    return self._example(row, (made[self.medium],))

  def told(self, index: int) -> Example:
    """An example without its media, at the cost of a table row."""
    return self._example(self.source.row(int(self.indices[index])), ())

  def only(self, numbers: Int[np.ndarray, " k"], **chosen: Any) -> "Examples":
    """Some of the examples, by number; `chosen` says how."""
    indices = self.indices[np.asarray(numbers, int)]
    made = Examples(self.source, self.answer, self.fields, (), self.medium, indices, self.chosen | chosen)
    made.transform = self.transform
    return made

  def subset(self, size: int = SIZE, seed: int = 0) -> "Examples":
    """So many of the examples at random, in the order of the source; all of a smaller set."""
    chosen = np.random.default_rng(seed).permutation(len(self))[:size]
    return self.only(np.sort(chosen), subset=size, subset_seed=seed)

  def per_class(self, count: int = 32, seed: int = 0) -> "Examples":
    """So many of each first answer at random, in the order of the source."""
    answers = np.array([self.told(i).answers[0] for i in range(len(self))])
    order = np.random.default_rng(seed).permutation(len(self))
    chosen = [order[answers[order] == answer][:count] for answer in np.unique(answers)]
    return self.only(np.sort(np.concatenate(chosen)), per_class=count, class_seed=seed)

  def encode(self, function: Callable[[list[Any]], Any], batch: int = 64) -> Float[np.ndarray, "n d"]:
    """Features of the first medium of each example: `function` takes lists of `batch` media, or of all if fewer."""
    media = _First(self)
    return features.encode(function, media, min(batch, len(media)))

  def _example(self, row: Mapping[str, Any], media: tuple[Any, ...]) -> Example:
    found = lookup(row, self.answer, self.source.name)
    answers = tuple(map(str, found)) if isinstance(found, list | tuple) else (str(found),)
    if not answers:
      raise ValueError(f"{self.source.name}: {row['key']!r} has no {self.answer}")
    fields = {name: str(lookup(row, name, self.source.name)) for name in self.fields}
    return Example(str(row["key"]), media, fields, answers)


class _First(Sequence[Any]):
  """The first medium of each example."""

  def __init__(self, examples: Sequence[Example]):
    self.examples = examples

  def __len__(self) -> int:
    return len(self.examples)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self.examples[i].media[0] for i in range(*index.indices(len(self)))]
    return self.examples[index].media[0]


@dataclasses.dataclass(frozen=True)
class AtRandom:
  """Different examples for each query, out of `count`, drawn from (seed, number of the query) alone."""

  count: int
  seed: int = 0

  @property
  def settings(self) -> Mapping[str, Any]:
    return {"retrieval": "random", "seed": self.seed}

  def __call__(self, query: int, shots: int) -> list[int]:
    _check(shots, self.count)
    return np.random.default_rng((self.seed, query)).permutation(self.count)[:shots].tolist()


class Nearest:
  """RICES: the support examples whose features have the greatest cosine with the query's, the nearest one last.

  Yang et al. 2021 (arXiv 2109.05014), with Flamingo's order (arXiv 2204.14198).
  """

  def __init__(self, query_z: Float[np.ndarray, "n d"], support_z: Float[np.ndarray, "m d"]):
    self.query_z, self.support_z = knn.unit(query_z), knn.unit(support_z)

  @property
  def settings(self) -> Mapping[str, Any]:
    return {"retrieval": "rices"}

  def __call__(self, query: int, shots: int) -> list[int]:
    _check(shots, len(self.support_z))
    if not shots:
      return []
    _, found = knn.neighbors(self.query_z[query : query + 1], self.support_z, shots)
    return found[0, ::-1].tolist()


def over_frames(
  encode_image: Callable[[list[Any]], Float[np.ndarray, "k d"]],
) -> Callable[[Sequence[Any]], Float[np.ndarray, "n d"]]:
  """A model of pictures as one of pictures and clips: the mean over each medium's frames, of length 1."""

  def encode(media: Sequence[Any]) -> Float[np.ndarray, "n d"]:
    clips = [pictures.frames_of(medium) for medium in media]
    z = np.asarray(encode_image([frame for clip in clips for frame in clip]), np.float32)
    ends = np.cumsum([len(clip) for clip in clips])[:-1]
    return knn.unit(np.stack([part.mean(axis=0) for part in np.split(z, ends)]))

  return encode


def describe(examples: Sequence[Example]) -> dict[str, Any]:
  """Where examples come from and how many there are, fit for JSON."""
  if not isinstance(examples, Examples):
    return {"count": len(examples)}
  return {"source": examples.source.name, "count": len(examples), **examples.chosen}


def _check(shots: int, count: int) -> None:
  if not 0 <= shots <= count:
    raise ValueError(f"shots = {shots}; legal: 0 to {count}, the size of the support set")
