"""Held-out pictures with their captions, and what a dual encoder is asked about them."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from vljax.data import sources, tokenizers
from vljax.data.sources.source import in_words
from vljax.evaluate import accuracy, features, knn, probe, retrieval, zeroshot
from vljax.types import Int, Params

Encode = Callable[[Params, Any], Any]


@dataclasses.dataclass(frozen=True)
class Gallery:
  """Pictures and captions of a source, each decoded when it is asked for.

  Attributes:
    source: of the pictures.
    transform: (example, rng) -> example with `image`, uint8 [h w c].
    tokenizer: of the captions and prompts; pictures alone need none.
    batch: examples per call of a predict function.
    notes: of the checkpoint, such as why it has no tokenizer.
  """

  source: sources.Source
  transform: Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]
  tokenizer: tokenizers.Tokenizer | None
  batch: int = 256
  notes: tuple[str, ...] = ()

  @functools.cached_property
  def usable(self) -> tuple[int, ...]:
    """The examples of the source that can be read; the first call reads all of them and names the others.

    Raises:
      ValueError: there are none.
    """
    return tuple(self._digests)

  @functools.cached_property
  def _digests(self) -> dict[int, bytes]:
    good, last = {}, None
    for i in range(len(self.source)):
      try:
        good[i] = hashlib.blake2b(self._image(i).tobytes(), digest_size=16).digest()
      except (ValueError, OSError, KeyError) as error:
        last = error
        logging.warning("%s: number %d is left out of the evaluation: %s", self.source.name, i, error)
    if not good:
      raise ValueError(f"no example of {self.source.name} can be read; the last error: {last}")
    return good

  @functools.cached_property
  def pictures(self) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The first example of each picture, and for each example the number of its picture.

    Examples with one key and the same pixels are one picture: a table may have a row for each caption.
    """
    return _distinct([(self.row(i)["key"], digest) for i, digest in enumerate(self._digests.values())])

  @property
  def examples(self) -> sources.Source:
    """The usable examples as the source has them, each read when it is asked for."""
    return sources.Part(self.source, np.array(self.usable), self.source.name)

  def __len__(self) -> int:
    return len(self.usable)

  def row(self, index: int) -> dict[str, Any]:
    """The fields of one example, without its picture."""
    return self.source.row(self.usable[index])

  def image(self, index: int) -> np.ndarray:
    """One picture as the model sees it, uint8 [h w c]."""
    return self._image(self.usable[index])

  def captions(self) -> tuple[list[str], np.ndarray]:
    """All captions, and for each the number of its picture; see `pictures`.

    Raises:
      ValueError: the source has no captions.
    """
    found: list[Any] = [self.row(i).get("captions") for i in range(len(self))]
    if None in found:
      raise ValueError(f"retrieval needs captions; {self.source.name} has none")
    return [text for texts in found for text in texts], np.repeat(self.pictures[1], list(map(len, found)))

  def encode_images(
    self, predict: Mapping[str, Encode], params: Params, examples: Sequence[int] | None = None
  ) -> np.ndarray:
    """Unit vectors of the pictures of some examples, or of all, [n d]."""
    call = lambda indices: predict["encode_image"](params, np.stack([self.image(i) for i in indices]))
    return features.encode(call, range(len(self)) if examples is None else examples, self.batch)

  def encode_texts(self, predict: Mapping[str, Encode], params: Params, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors of texts, [m d]."""
    return features.encode(lambda part: self._text(predict, params, part), texts, self.batch)

  def retrieval(self, predict: Mapping[str, Encode], params: Params) -> dict[str, float]:
    """Recall@K of pictures and captions both ways."""
    texts, owner = self.captions()
    image_z = self.encode_images(predict, params, self.pictures[0])
    return retrieval.recall(image_z, self.encode_texts(predict, params, texts), owner)

  def zeroshot(
    self,
    predict: Mapping[str, Encode],
    params: Params,
    templates: Sequence[str] = ("a photo of a {}.",),
    names: Sequence[str] | None = None,
  ) -> dict[str, float]:
    """Zero-shot accuracy on the classes of the source; `names` are what prompts call them, in their order.

    Without `names` it is the classes themselves, `_` and `-` read as spaces.

    Raises:
      ValueError: the source has no classes.
    """
    if not self.source.classes:
      raise ValueError(f"zero-shot classification needs classes; {self.source.name} has none")
    encode = lambda part: self._text(predict, params, part)
    weights = zeroshot.classifier(encode, names or list(map(in_words, self.source.classes)), templates, self.batch)
    return zeroshot.evaluate(self.encode_images(predict, params), self.labels(), weights)

  def knn(self, labelled: "Gallery", predict: Mapping[str, Encode], params: Params, k: int = 20) -> dict[str, float]:
    """Accuracy when the nearest labelled pictures vote; both sources have the same classes.

    Raises:
      ValueError: they have not.
    """
    self._check_classes(labelled, "kNN")
    known, asked = labelled.encode_images(predict, params), self.encode_images(predict, params)
    return knn.evaluate(known, labelled.labels(), asked, self.labels(), k)

  def probe(
    self,
    labelled: "Gallery",
    predict: Mapping[str, Encode],
    params: Params,
    penalties: Sequence[float] = probe.PENALTIES,
  ) -> dict[str, float]:
    """Accuracy of logistic regression on the features of the labelled pictures; see `evaluate.probe.evaluate`.

    Raises:
      ValueError: the sources have other classes.
    """
    self._check_classes(labelled, "a probe")
    known, asked = labelled.encode_images(predict, params), self.encode_images(predict, params)
    return probe.evaluate(known, labelled.labels(), asked, self.labels(), penalties)

  def classify(self, predict: Mapping[str, Encode], params: Params) -> dict[str, float]:
    """Accuracy of the recipe's own classifier, `predict["logits"]`."""
    call = lambda indices: predict["logits"](params, np.stack([self.image(i) for i in indices]))
    return accuracy.top(features.encode(call, range(len(self)), self.batch), self.labels())

  def labels(self) -> np.ndarray:
    """The class of each picture, by number.

    Raises:
      ValueError: a picture has none.
    """
    return labels_of(map(self.row, range(len(self))), self.source.name)

  def _check_classes(self, labelled: "Gallery", what: str) -> None:
    if not self.source.classes or self.source.classes != labelled.source.classes:
      raise ValueError(
        f"{what} needs the same classes on both sides; {self.source.name} has {self.source.classes}, "
        f"{labelled.source.name} has {labelled.source.classes}"
      )

  def _image(self, number: int) -> np.ndarray:
    return self.transform(self.source[number], np.random.default_rng(0))["image"]

  def _text(self, predict: Mapping[str, Encode], params: Params, texts: Sequence[str]) -> Any:
    if self.tokenizer is None:
      why = f" ({'; '.join(self.notes)})" if self.notes else ""
      raise ValueError(f"{self.source.name} was opened without a tokenizer, which texts need{why}")
    return predict["encode_text"](params, self.tokenizer(list(texts)))


def labels_of(rows: Iterable[Mapping[str, Any]], where: str) -> np.ndarray:
  """The class of each example, by number.

  Raises:
    ValueError: an example has none.
  """
  labels = []
  for row in rows:
    if row.get("label") is None:
      raise ValueError(f"{where}: {row['key']!r} has no class; legal: a number as its field 'label'")
    labels.append(row["label"])
  return np.array(labels)


@dataclasses.dataclass(frozen=True)
class FeatureGallery:
  """Features of pictures and of their texts that frozen towers gave before; what is left to do are projections.

  Attributes:
    source: of `image_features` [e] and `text_features` [m e].
    batch: examples per call of a predict function.
  """

  source: sources.Source
  batch: int = 256

  def retrieval(self, predict: Mapping[str, Encode], params: Params) -> dict[str, float]:
    """Recall@K of pictures and captions both ways.

    Raises:
      ValueError: the features are of pictures alone.
    """
    rows = [self.source[i] for i in range(len(self.source))]
    if "text_features" not in rows[0]:
      raise ValueError(f"retrieval needs features of texts; {self.source.name} has none")
    firsts, pictures = _distinct([(row["key"], np.asarray(row["image_features"]).tobytes()) for row in rows])
    owner = np.repeat(pictures, [len(row["text_features"]) for row in rows])
    found = {
      "image": [rows[i]["image_features"] for i in firsts],
      "text": [z for row in rows for z in row["text_features"]],
    }
    call = lambda name: lambda part: predict[f"project_{name}"](params, np.stack(part))
    image, text = (features.encode(call(name), z, self.batch) for name, z in found.items())
    return retrieval.recall(image, text, owner)


def _distinct(items: Sequence[Any]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
  """Where each different item stands first, and for each item the number of its like among these."""
  numbers: dict[Any, int] = {}
  of = np.array([numbers.setdefault(item, len(numbers)) for item in items])
  return np.unique(of, return_index=True)[1], of
