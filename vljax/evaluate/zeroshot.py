"""Zero-shot classification: class names in prompts make the weights of a linear classifier (CLIP, section 3.1)."""

from collections.abc import Callable, Sequence

import numpy as np

from vljax.evaluate import accuracy, features
from vljax.types import Array, Float, Int


def classifier(
  encode_text: Callable[[list[str]], Float[Array, "b d"]],
  class_names: Sequence[str],
  templates: Sequence[str] = ("a photo of a {}.",),
  batch: int = 256,
) -> Float[np.ndarray, "d c"]:
  """The weights whose product with an image's unit vector is its cosine with each class.

  Per class: encode each prompt, L2-normalise each, average, L2-normalise (CLIP, arXiv 2103.00020, section 3.1.4).

  Args:
    encode_text: a list of exactly `batch` texts -> features; they need not be normalised.
    templates: each with one `{}` for the name; sets lie in `vljax.evaluate.prompts`.

  Raises:
    ValueError: no class, no template, one text in place of a list, or a template without `{}`.
  """
  if not len(class_names) or not len(templates) or isinstance(class_names, str) or isinstance(templates, str):
    raise ValueError(
      f"a classifier needs a list of class names and one of templates; found {class_names!r}, {templates!r}"
    )
  for template in templates:
    if template.count("{}") != 1:
      raise ValueError(f"the template {template!r} must hold '{{}}' once, where the class name goes")
  prompts = [template.replace("{}", name) for name in class_names for template in templates]
  each = _unit(features.encode(encode_text, prompts, min(batch, len(prompts))).astype(np.float32))
  return _unit(each.reshape(len(class_names), len(templates), -1).mean(axis=1)).T


def evaluate(
  image_z: Float[Array | np.ndarray, "n d"],
  labels: Int[Array | np.ndarray, " n"],
  weights: Float[Array | np.ndarray, "d c"],
  class_names: Sequence[str] | None = None,
  ks: Sequence[int] = (1, 5),
  block: int = 4096,
) -> dict[str, float]:
  """`top1`, `top5`, their chance, `mean_per_class`, and with `class_names` also `per_class/NAME`.

  A class that ties with the true one is counted as before it: a collapsed model gets 0. Only classes that occur enter
  `mean_per_class` and `per_class`.

  Raises:
    ValueError: shapes that do not fit, or a label that is no class.
  """
  image_z, labels, weights = np.asarray(image_z, np.float32), np.asarray(labels), np.asarray(weights, np.float32)
  classes = weights.shape[1]
  if labels.shape != (len(image_z),) or image_z.shape[1:] != weights.shape[:1] or not len(labels):
    found = f"{image_z.shape}, {labels.shape}, {weights.shape}"
    raise ValueError(f"zero-shot needs images [n d], labels [n], weights [d c]; found {found}")
  if labels.min() < 0 or labels.max() >= classes:
    raise ValueError(f"labels hold {labels.min()} to {labels.max()}; legal: 0 to {classes - 1}")
  if class_names is not None and len(class_names) != classes:
    raise ValueError(f"{len(class_names)} class names for weights of {classes} classes")
  blocks = range(0, len(labels), block)
  rank = np.concatenate([accuracy.rank(image_z[i : i + block] @ weights, labels[i : i + block]) for i in blocks])
  results = {f"top{k}": float(np.mean(rank < k)) for k in ks}
  results |= {f"top{k}/chance": min(1.0, k / classes) for k in ks}
  present = np.unique(labels)
  of_class = {int(c): float(np.mean(rank[labels == c] < 1)) for c in present}
  results["mean_per_class"] = float(np.mean(list(of_class.values())))
  results["mean_per_class/chance"] = 1.0 / classes
  if class_names is not None:
    results |= {f"per_class/{class_names[c]}": value for c, value in of_class.items()}
  return results


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
