"""SimCLR on ImageNet as published: ResNet-50 of width 1, 2 or 4, batch 4096, LARS (arXiv 2002.05709); `v2` is
SimCLRv2 (arXiv 2006.10029): other depths, selective kernels, a head of three layers, a higher rate.

  python launch/train.py --config=configs/contrastive/simclr_r50.py:source=tfds:imagenet2012 --workdir=runs/simclr

The host decodes and cuts a square of 256 px; crops, colours and blur are drawn on the device. With `crops=host` the
host draws both crops, from the whole picture as published; the rest stays on the device. Hardware: 32 to 128 TPU v3
cores in the paper. Expected: linear evaluation top-1 of 69.3, 74.2 and 76.5 % for width 1, 2 and 4 after 1000 epochs,
64.5 % for width 1 after 100. Status: untested at this size; `:smoke` is two steps on synthetic pictures.
"""

import ml_collections

from configs import common

IMAGENET = 1_281_167

BROADER = [("motion_blur", 9, 0.2), ("equalize", 0.2), ("solarize", 0.5, 0.2), ("sobel", 0.1)]
"""What appendix B.2 adds; how often and how strong it does not say, and is ours."""


def get_config(arg=""):
  """Arguments: source, val (of transformation), width (1, 2 or 4), depth (18 to 200), v2, sk (v2 with selective
  kernels), broader (the augmentations of appendix B.2), transformation (that is added to the views and asked of the
  features, as in table 3: color, rotation, noise or sobel), epochs, batch, strength, temperature, crops (device or
  host), smoke."""
  a = common.parse_arg(
    arg, source="tfds:imagenet2012", val="tfds:imagenet2012?part=validation", width=1, depth=50, v2=False, sk=False,
    broader=False, transformation="", epochs=1000, batch=4096, strength=1.0, temperature=0.1, crops="device",
    smoke=False,
  )  # fmt: skip
  v2 = a.v2 or a.sk
  batch, size = (8, 16) if a.smoke else (a.batch, 224)
  steps = 2 if a.smoke else IMAGENET * a.epochs // batch + 1
  source = "synthetic:pairs?n=64&size=20" if a.smoke else a.source

  c = ml_collections.ConfigDict(dict(recipe="simclr", steps=steps, seed=0, classes=0 if a.smoke else 1000))
  if a.smoke:
    c.backbone = dict(variant="test")
  else:
    c.backbone = dict(variant=f"resnet{a.depth}", width_multiplier=a.width, conv_init="fan_in", dtype="bfloat16")
    c.backbone.remat = "none" if a.width == 1 else "full"
  if a.sk:
    c.backbone.update(dict(sk_ratio=0.0625, stem="deep"))
  c.head = dict(layers=3 if v2 else 2, dim=128)
  box = (size, (0.08, 1.0))
  keep = ("image",) if a.smoke else ("image", "label")
  places = dict(
    device=([("preprocess", 20 if a.smoke else 256), ("keep", *keep)], [("random_resized_crop", *box)]),
    host=([("decode",), ("two_crops", *box), ("keep", "image_other", *keep)], []),
  )
  transforms, crop = common.row(places, a.crops, "crops")
  c.augment = [
    *crop,
    ("flip_lr",),
    ("color_jitter", a.strength, {"brightness": "multiply" if v2 else "add"}),
    ("grayscale", 0.2),
    ("gaussian_blur", 0.5),
  ]
  if a.broader:
    c.augment = [*c.augment, *BROADER]
  if a.transformation:
    tenth = f"{source}{'&' if '?' in source else '?'}split=val&holdout=0.1"
    parts = dict(source=source if a.smoke else a.val, labelled=tenth, crop=0.875)
    width = 128 if a.smoke else (512 if a.depth < 50 else 2048) * a.width
    common.ask_transformation(c, a.transformation, width, **parts)
  c.loss = dict(name="nt_xent", temperature=a.temperature)
  c.streams = dict(train=dict(source=source, transforms=transforms, batch=batch))
  c.optim = common.lars(wd=1e-4 if v2 else 1e-6)
  warmup = steps // 20 if v2 else min(10 * (IMAGENET // batch), steps // 10)
  c.schedule = dict(name="cosine", lr=0.1 if v2 else 0.075, scaling="sqrt", warmup=0 if a.smoke else warmup)
  c.workers = 0 if a.smoke else 8
  return c
