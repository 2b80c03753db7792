"""SimCLR on CIFAR-10 as the released code's README has it: ResNet-18, batch 512, 1000 epochs, LARS, temperature 0.5.

  python launch/train.py --config=configs/contrastive/simclr_cifar.py:source=tfds:cifar10 \
    --workdir=runs/simclr_cifar
  python launch/train.py --config=configs/contrastive/simclr_cifar.py:dir=DATA/cifar10,small --workdir=runs/small

DATA/cifar10 holds index.jsonl and cifar10.tar. `:small` is a ResNet of three blocks for 2 CPU cores and ten minutes.
It trains on crops of 16 px, which cost less than half of 24, and is evaluated at 24 px, where it is better than at 16
(the discrepancy of Touvron et al. 2019, arXiv 1906.06423: crops show things larger). Hardware: one GPU as published.
Expected: 91 % with all of CIFAR-10 (README of google-research/simclr); `:small` see docs/results.md. Status: runs as
`:small`, untested at the published size; `:smoke` is two steps on synthetic pictures.
"""

from configs import common


def get_config(arg=""):
  """Arguments: dir (of the data) or source, steps, batch (0: as published), temperature (0: by size), strength (of the
  colour jitter), transformation (that is added to the views and asked of the features, as in SimCLR's table 3: color,
  rotation, noise or sobel), small, smoke."""
  a = common.parse_arg(
    arg, dir="cifar10", source="", steps=0, batch=0, temperature=0.0, strength=0.5, transformation="", small=False,
    smoke=False,
  )  # fmt: skip
  tiny = a.small or a.smoke
  batch = a.batch or (8 if a.smoke else 128 if a.small else 512)
  steps = 2 if a.smoke else a.steps or (1800 if a.small else 50_000 * 1000 // batch + 1)
  size = 16 if a.smoke else 24 if a.small else 32
  photos = a.source or f"pairs:{a.dir}?table=index.jsonl&images=cifar10.tar&class=label"
  held_out = f"{photos}{'&' if '?' in photos else '?'}holdout=2000"
  source = f"synthetic:pairs?n=64&size={size}" if a.smoke else held_out

  c = common.simclr(source, size, batch, steps, 2e-3, smoke=a.smoke)
  c.backbone = dict(variant="test" if tiny else "resnet18", stem="cifar", image_size=size)
  if a.small:
    c.backbone.update(common.SMALL)
  c.head = dict(layers=2 if tiny else 3, dim=64 if tiny else 128)
  c.augment = common.views(16 if a.small else size, 0.2 if a.small else 0.08, a.strength)
  c.loss = dict(name="nt_xent", temperature=a.temperature or (0.2 if a.small else 0.5))
  if not tiny:
    c.backbone.conv_init = "fan_in"
    c.optim = common.lars(wd=1e-4)
    c.schedule = dict(name="cosine", lr=1.0, scaling="linear", warmup=min(10 * (50_000 // batch), steps // 10))
  if not a.smoke:
    c.classes = 10
    c.evals.online = dict(kind="online", source=f"{source}&split=val")
  if a.transformation:
    width = 128 if tiny else 512
    parts = dict(source=f"{source}&split=val", labelled=f"{source}&split=train")
    common.ask_transformation(c, a.transformation, width, **parts)
  return c
