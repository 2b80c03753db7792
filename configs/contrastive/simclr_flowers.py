"""SimCLR on a few thousand photographs of flowers: a ResNet of three blocks at 48 px, made for 2 CPU cores.

  python launch/train.py --config=configs/contrastive/simclr_flowers.py:dir=DATA/flowers --workdir=runs/flowers

DATA/flowers holds index.jsonl (image, label) and flowers_96.tar. Another folder of photographs goes into `source`.
Colour tells flowers apart, so the views keep most of it. It trains on crops of two thirds of the size, for the reason
in simclr_cifar.py. Hardware: 2 CPU cores, ten minutes. Expected: see docs/results.md. Status: runs; `:smoke` is two
steps on synthetic pictures.
"""

from configs import common


def get_config(arg=""):
  """Arguments: dir (of the data), source (in its place, a URI without split), classes, size, steps, batch,
  temperature, strength (of the colour jitter), smoke."""
  a = common.parse_arg(
    arg,
    dir="flowers",
    source="",
    classes=5,
    size=48,
    steps=1500,
    batch=128,
    temperature=0.2,
    strength=0.1,
    smoke=False,
  )
  size, steps, batch = (16, 2, 8) if a.smoke else (a.size, a.steps, a.batch)
  photos = a.source or f"pairs:{a.dir}?table=index.jsonl&images=flowers_96.tar&class=label&holdout=800"
  source = f"synthetic:pairs?n=64&size={size}" if a.smoke else photos
  c = common.simclr(source, size, batch, steps, 2e-3, smoke=a.smoke)
  c.backbone = dict(common.SMALL, stem="imagenet", image_size=size)
  c.classes = 0 if a.smoke else a.classes
  c.head = dict(layers=2, dim=64)
  c.augment = common.views(size * 2 // 3, 0.2, a.strength, grayscale=0.05)
  c.loss = dict(name="nt_xent", temperature=a.temperature)
  return c
