"""Constants that images are normalized with, by name; recipes apply them on the device."""

from vljax import config

Rgb = tuple[float, float, float]

MEAN_STD: dict[str, tuple[Rgb, Rgb]] = {
  "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
  "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Name to (mean, std) of values in [0, 1]: OpenAI CLIP's, the 0.5 of SigLIP and some LAION models, torchvision's."""


def mean_std(name: str) -> tuple[Rgb, Rgb]:
  """The (mean, std) of a name; raises a ValueError with the nearest legal one."""
  return config.choose("normalization", name, MEAN_STD)
