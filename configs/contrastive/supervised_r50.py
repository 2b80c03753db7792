"""Supervised ResNets: the measure of what pretraining without labels is worth.

  python launch/train.py --config=configs/contrastive/supervised_r50.py --workdir=runs/supervised
  python launch/train.py --config=configs/contrastive/supervised_r50.py:cifar=DATA/cifar10 --workdir=runs/cifar

Hardware: 8 accelerators, half a day (ImageNet, a TFDS directory); one for CIFAR-10 (ResNet-18). Expected: top-1 76.5
(SimCLR, arXiv 2002.05709, table B.3: crops alone, 90 epochs). Status: untested at this size; `:smoke` runs.
"""

from configs import common


def get_config(arg=""):
  """Arguments: train and val (sources), examples (of train), classes, size, cifar (folder), small (its network),
  fraction, batch and epochs (0: 1024 and 90), smooth (labels), mixup and cutmix (alpha), smoke."""
  a = common.parse_arg(arg, **common.LABELLED, smooth=0.0, mixup=0.0, cutmix=0.0)
  c = common.classification(a, batch=1024, epochs=90)
  # Outside of the gradient, the decay is not multiplied by momentum's 1 / (1 - 0.9): 1e-3 here is 1e-4 inside.
  decay = dict(name="sgd", nesterov=True)
  c.optim = [(common.NO_DECAY, dict(wd=0.0, **decay)), (".*", dict(wd=1e-3, **decay))]
  lr, epoch = 0.1 * c.streams.train.batch / 256, c.steps // (a.epochs or 90)
  c.schedule = dict(name="cosine", lr=lr, warmup=0 if a.smoke else min(5 * epoch, c.steps))
  c.label_smoothing, c.mixup, c.cutmix = a.smooth, a.mixup, a.cutmix
  c.preprocess = dict(normalize="imagenet")
  return c
