"""SimCLR on CIFAR-10: ResNet-18, batch 512, temperature 0.5, no blur (the released code's recipe, about 91 % linear).

  python launch/train.py --config=configs/contrastive/simclr_cifar.py:dir=DATA/cifar10 --workdir=runs/simclr_cifar
  python launch/train.py --config=configs/contrastive/simclr_cifar.py:dir=DATA/cifar10,small --workdir=runs/small

DATA/cifar10 holds index.jsonl and cifar10.tar. `:small` is a ResNet of three blocks for 2 CPU cores and ten minutes.
It trains on crops of 16 px, which cost less than half of 24, and is evaluated at 24 px, where it is better than at 16
(the discrepancy of Touvron et al. 2019, arXiv 1906.06423: crops show things larger). Hardware: one GPU as published.
Expected: 91 % with all of CIFAR-10 (README of google-research/simclr); `:small` see docs/results.md. Status: runs as
`:small`, untested at the published size; `:smoke` is two steps on synthetic pictures.
"""

from configs import common


def get_config(arg=""):
  """Arguments: dir (of the data), steps, batch (0: as published), temperature (0: by size), strength (of the colour
  jitter), small, smoke."""
  a = common.parse_arg(arg, dir="cifar10", steps=0, batch=0, temperature=0.0, strength=0.5, small=False, smoke=False)
  tiny = a.small or a.smoke
  batch = a.batch or (8 if a.smoke else 128 if a.small else 512)
  steps = 2 if a.smoke else a.steps or (1800 if a.small else 50_000 * 1000 // batch)
  size = 16 if a.smoke else 24 if a.small else 32
  photos = f"pairs:{a.dir}?table=index.jsonl&images=cifar10.tar&class=label&holdout=2000"
  source = f"synthetic:pairs?n=64&size={size}" if a.smoke else photos

  c = common.simclr(source, size, batch, steps, 2e-3 if tiny else 1e-3, smoke=a.smoke)
  c.backbone = dict(variant="test" if tiny else "resnet18", stem="cifar", image_size=size)
  if a.small:
    c.backbone.update(common.SMALL)
  c.classes = 0 if a.smoke else 10
  c.head = dict(layers=2, dim=64 if tiny else 128)
  c.augment = common.views(16 if a.small else size, 0.2 if a.small else 0.08, a.strength)
  c.loss = dict(name="nt_xent", temperature=a.temperature or (0.2 if a.small else 0.5))
  return c
