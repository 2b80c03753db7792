"""NFNets on ImageNet as published: SGD with Nesterov's momentum, adaptive clipping, 360 epochs (arXiv 2102.06171).

  python launch/train.py --config=configs/contrastive/nfnet_imagenet.py:variant=F0 --workdir=runs/nfnet_f0

Batch 4096, learning rate 0.1 * batch / 256 after 5 epochs of warm-up, cosine to 0, label smoothing 0.1, mixup and
CutMix on half of the pictures each, four operations of RandAugment, whose magnitude goes by variant as dropout does,
stochastic depth (0.25), averaged weights. Two things differ. RandAugment's operations are those of its own paper: the
released code has inversion, cutout and added solarizing as well, and blends colors one way only, which lets it go
beyond the end of the scale from F3 on, where ours stops. Weight decay, which the paper has in the gradient, is outside
of it; not multiplied by momentum's 1 / (1 - 0.9), 2e-4 is their 2e-5. The classifier is not clipped; it starts at 0
here, they draw it.

Hardware: TPU pods (the paper: 32 TPUv3 cores for F0). Expected: top-1 83.6 (F0) to 86.0 (F5) at the larger test
resolution (table 6). Status: untested at this size; `:smoke` runs.
"""

from configs import common

SIZES = {
  "F0": (192, 0.2, 5), "F1": (224, 0.3, 10), "F2": (256, 0.4, 10), "F3": (320, 0.4, 15), "F4": (384, 0.5, 15),
  "F5": (416, 0.5, 15), "F6": (448, 0.5, 15), "F7": (480, 0.5, 15),
}  # fmt: skip
"""Training resolution, dropout, and magnitude of RandAugment, of 10."""

VECTORS = r".*(/bias|gain)"


def get_config(arg=""):
  """Arguments: variant (F0 to F7), train and val (sources), examples (of train), batch and epochs (0: 4096 and 360),
  smoke; also common.classification's cifar, fraction and small, for trials."""
  a = common.parse_arg(arg, **common.LABELLED, variant="F0")
  size, dropout, magnitude = common.row(SIZES, a.variant)
  c = common.classification(a, batch=4096, epochs=360)
  c.backbone = dict(tower="nfnet", variant=a.variant, image_size=size)
  if a.smoke or a.cifar:
    c.backbone.update(dict(variant="test", image_size=common.labelled(a).size))
  else:
    c.backbone.update(dict(dtype="bfloat16", remat="full"))
    c.streams.train.transforms = [
      ("decode",), ("random_resized_crop", size, (0.08, 1.0)), ("flip_lr",), ("keep", "image", "label"),
    ]  # fmt: skip
  sgd = dict(name="sgd", b1=0.9, nesterov=True)
  c.optim = [
    (r"classifier/bias", dict(**sgd)),
    (r"classifier/.*", dict(wd=2e-4, **sgd)),
    (VECTORS, dict(agc=0.01, **sgd)),
    (r".*", dict(agc=0.01, wd=2e-4, **sgd)),
  ]
  epoch = max(1, c.steps // (a.epochs or 360))
  c.schedule = dict(name="cosine", lr=0.1, scaling="linear", warmup=0 if a.smoke else min(5 * epoch, c.steps))
  c.ema = dict(halflife=c.streams.train.batch * 69_314.4)  # a decay of 0.99999 per step
  c.label_smoothing, c.dropout, c.mixup, c.cutmix = 0.1, dropout, 0.2, 1.0
  # Ours is of 30, where brightness is 0.1 or 1.9 times what it was; beyond, it would be nothing at all.
  c.augment = [("rand_augment", 4, min(3 * magnitude, 30), {"fill": 0.5})]
  c.preprocess = dict(normalize="imagenet")
  return c
