"""What configs share: typed arguments after the colon, and settings that several recipes use."""

from typing import Any

import ml_collections


def parse_arg(arg: str, **defaults: Any) -> ml_collections.ConfigDict:
  """The arguments of `config.py:res=336,smoke`: each of the type of its default; a bare name means True.

  Raises:
    ValueError: an unknown argument, or a value of another type.
  """
  values = dict(defaults)
  for item in filter(None, arg.split(",")):
    name, equals, text = item.partition("=")
    if name not in defaults:
      raise ValueError(f"unknown config argument {name!r}; legal: {', '.join(sorted(defaults))}")
    kind = type(defaults[name])
    if kind is bool:
      values[name] = text.lower() not in ("false", "0") if equals else True
      continue
    try:
      values[name] = kind(text)
    except ValueError as error:
      raise ValueError(f"config argument {name} = {text!r} is not of type {kind.__name__}") from error
  return ml_collections.ConfigDict(values)


def row(table: dict[str, Any], name: str, what: str = "variant") -> Any:
  """The row of a variant, or of what else the table is of.

  Raises:
    ValueError: an unknown one.
  """
  if name not in table:
    raise ValueError(f"unknown {what} {name!r}; legal: {', '.join(table)}")
  return table[name]


def adamw(wd: float, no_decay: str, **rule: Any) -> list[tuple[str, dict]]:
  """AdamW groups: decay `wd` on everything but what the regex `no_decay` matches."""
  return [(no_decay, dict(wd=0.0, **rule)), (".*", dict(wd=wd, **rule))]


NO_DECAY = r".*(/bias|/scale|log_scale)"
"""Gains, biases and the logit scale, which CLIP does not decay (arXiv 2103.00020, section 2.5)."""


def pairs(size: int, scale: tuple[float, float], flip: bool = False) -> list[tuple]:
  """The host transforms of image-text pairs: decode, crop, maybe flip, one caption, tokens."""
  return [
    ("decode",),
    ("random_resized_crop", size, scale),
    *([("flip_lr",)] if flip else []),
    ("choose_caption", "random"),
    ("tokenize",),
    ("keep", "image", "tokens"),
  ]


MARKS = ("<image>", "<EOC>")
"""The two words that Flamingo adds to a vocabulary."""


FLAMINGO = [(".*(/bias|/scale|/gate_.*|gain)|resampler/.*|lm/extra_.*", dict()), (".*", dict(wd=0.1))]
"""AdamW groups of its appendix B.1.2: the resampler is not decayed."""


FILLS = dict(clip=(123, 117, 104), inception=(128, 128, 128), imagenet=(124, 116, 104), none=(0, 0, 0))
"""The mean that each normalization subtracts, as the color of the margins of pictures."""


def document(
  size: int, length: int, media: int, p_next: float = 0.0, frames: int = 1, normalize: str = "clip"
) -> list[tuple]:
  """A stretch of an interleaved document with its media as pixels, which some rows' words foretell (`p_next`)."""
  fill = row(FILLS, normalize, "normalization")
  squares = ("pictures", size, {"p_flip": 0.5, "frames": frames, "fill": fill})
  return [("interleave", length, media, {"p_next": p_next}), squares]


def held_out(size: int, length: int, normalize: str = "clip") -> list[tuple]:
  """The first caption of each picture, alone in its row."""
  pair = [("decode",), ("choose_caption", "first"), ("pair", 0.0)]
  squares = ("pictures", size, {"fill": row(FILLS, normalize, "normalization")})
  return [*pair, ("interleave", length, 1, {"rule": "first"}), squares, ("pack", length, 1)]


LARS_EXCLUDED = r".*norm.*|.*/bias|classifier/.*"
"""What SimCLR's LARS neither adapts nor decays: norms, biases and the classifier that only watches
(lars_optimizer.py)."""


def lars(wd: float) -> list[tuple[str, dict]]:
  """LARS groups: decay `wd` and adapted rates for all but LARS_EXCLUDED."""
  rule = dict(name="lars", b1=0.9)
  return [(LARS_EXCLUDED, dict(eta=None, **rule)), (".*", dict(wd=wd, **rule))]


SMALL = dict(variant="test", blocks=(1, 1, 1), width_multiplier=0.5)
"""A ResNet for two CPU cores: three basic blocks, features of 128."""


def views(size: int, smallest: float, strength: float, grayscale: float = 0.2) -> list[tuple]:
  """Device augmentations of small photographs: SimCLR's without blur, crops resized bilinearly."""
  return [
    ("random_resized_crop", size, (smallest, 1.0), {"interpolation": "bilinear"}),
    ("flip_lr",),
    ("color_jitter", strength),
    ("grayscale", grayscale),
  ]


def simclr(source: str, size: int, batch: int, steps: int, lr: float, smoke: bool) -> ml_collections.ConfigDict:
  """What SimCLR configs of small labelled photographs share: data, AdamW, schedule, kNN and a linear probe at the
  end. A `smoke` one has no labels and no evaluation."""
  c = ml_collections.ConfigDict(dict(recipe="simclr", steps=steps, seed=0))
  keep = ("keep", "image") if smoke else ("keep", "image", "label")
  train = f"{source}&split=train"
  c.streams = dict(train=dict(source=train, transforms=[("preprocess", size), keep], batch=batch, cache=True))
  c.optim = adamw(wd=1e-4, no_decay=NO_DECAY)
  c.schedule = dict(name="cosine", lr=lr, warmup=0 if smoke else steps // 100)
  c.checkpoint = dict(every=1000, keep=1)
  if not smoke:
    held = dict(every=0, labelled=train, source=f"{source}&split=val")
    c.evals = dict(knn=dict(kind="knn", **held), linear=dict(kind="linear", penalties=(0.01, 0.1, 1.0, 10.0), **held))
  return c


TRANSFORMATIONS = dict(
  color=dict(added=(), choices=((), (("grayscale", 1.0),)), shares=(0.8, 0.2)),
  rotation=dict(added=(("rotate",),), choices=tuple((("rotate", (turn,)),) for turn in (0, 90, 180, 270))),
  noise=dict(added=(("gaussian_noise", 0.1, 0.5),), choices=((), (("gaussian_noise", 0.1),))),
  sobel=dict(added=(("sobel", 0.5),), choices=((), (("sobel",),))),
)
"""Of SimCLR's table 3: what views go through besides, and what the features are then asked. The deviation of the noise
and the share of the views that are noisy or filtered are ours."""


def ask_transformation(c: ml_collections.ConfigDict, name: str, width: int, **evaluation: Any) -> None:
  """SimCLR's table 3: what do features of `width` and projections as wide know of a transformation of the views?"""
  asked = dict(row(TRANSFORMATIONS, name, "transformation"))
  c.augment = [*c.augment, *asked.pop("added")]
  c.head.dim = width
  c.evals = {**c.get("evals", {}), "transformation": dict(kind="transformation", **asked, **evaluation)}


def labelled(a: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Labelled pictures by the arguments smoke, cifar (folder of CIFAR-10 as index.jsonl and cifar10.tar), train and val
  (sources of `classes` classes, seen at `size` pixels) and fraction (of the training examples, the same in every run):
  train, val, classes, size, examples."""
  if a.smoke:
    part = "synthetic:pairs?n={}&size=16&seed={}"
    found = dict(train=part.format(64, 0), val=part.format(24, 1), classes=6, size=16, examples=64)
  elif a.cifar:
    pictures = f"pairs:{a.cifar}?table=index.jsonl&images=cifar10.tar&class=label"
    held = "2000" if a.fraction == 1 else f"{1 - a.fraction * 5 / 6:g}"  # of 12,000; the first 2,000 of them are val
    found = dict(train=f"{pictures}&split=train&holdout={held}", val=f"{pictures}&split=val&holdout=2000")
    found |= dict(classes=10, size=24 if a.small else 32, examples=int(10_000 * a.fraction))
  else:
    subset = f"&split=val&holdout={a.fraction:g}" if a.fraction < 1 else ""
    found = dict(train=f"{a.train}{subset}", val=a.val, classes=a.classes, size=a.size)
    found |= dict(examples=int(a.fraction * a.examples))
  return ml_collections.ConfigDict(found)


LABELLED = dict(
  train="tfds:imagenet2012?part=train", val="tfds:imagenet2012?part=validation", examples=1_281_167, classes=1000,
  size=224, cifar="", fraction=1.0, batch=0, epochs=0, small=False, smoke=False,
)  # fmt: skip
"""The arguments that configs of classification share, with their defaults."""


def classification(a: ml_collections.ConfigDict, batch: int, epochs: int) -> ml_collections.ConfigDict:
  """What configs of classification share: data, network, steps and the evaluation; ResNet-18 for small pictures."""
  data = labelled(a)
  batch = 8 if a.smoke else a.batch or batch
  steps = 2 if a.smoke else max(1, (a.epochs or epochs) * data.examples // batch)
  c = ml_collections.ConfigDict(dict(recipe="classification", steps=steps, classes=data.classes))
  c.backbone = dict(variant="test" if a.smoke else "resnet18" if a.cifar else "resnet50", image_size=data.size)
  if a.cifar and not a.smoke:
    c.backbone.stem = "cifar"
  if a.small:
    c.backbone.update(SMALL)
  crop = [("decode",), ("random_resized_crop", data.size, (0.08, 1.0)), ("flip_lr",), ("keep", "image", "label")]
  c.streams = dict(train=dict(source=data.train, transforms=crop, batch=batch, cache=bool(a.cifar)))
  c.evals = dict(val=dict(kind="top", source=data.val, batch=8 if a.smoke else 256))
  if not (a.smoke or a.cifar):
    c.evals.val.crop = 0.875
  c.workers = 0 if a.smoke or a.cifar else 8
  return c
