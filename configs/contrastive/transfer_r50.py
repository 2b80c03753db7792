"""Another run's features on other data: logistic regression, or fine-tuning (SimCLR, arXiv 2002.05709, appendix B.8).

  python launch/train.py --workdir=runs/transfer \
    --config=configs/contrastive/transfer_r50.py:init=runs/simclr,train=tfds:dtd?part=train,val=tfds:dtd?part=test,classes=47
  python launch/train.py --config=configs/contrastive/transfer_r50.py --workdir=runs/transfer

Nothing is trained but what L-BFGS fits at the end: 45 penalties from 1e-6 to 1e5 are tried on a fifth of the training
pictures, whose short side is resized to 224 and whose middle is cut out. `finetune` trains all of it for 20,000 steps
of 256; the paper tries seven of `lr` (1e-4 to 0.1) and eight of `wd` (0, 1e-6 to 1e-3), and a slower moving average of
the norms where an epoch is longer than 100 steps, which is not done here. Hardware: one accelerator, an hour.
Expected: top-1 74.5 on DTD, 90.6 on CIFAR-10 (table B.5). Status: untested at this size; `:smoke` runs.
"""

from configs import common


def get_config(arg=""):
  """Arguments: init (workdir; without it the features stay as drawn), finetune, lr and wd (of it), train and val
  (sources), examples (of train), classes, size, cifar (folder), small (its network), fraction, batch and epochs
  (unused but by finetune, 0: 256 and 20,000 steps), smoke."""
  a = common.parse_arg(arg, init="", finetune=False, lr=0.01, wd=0.0, **common.LABELLED)
  c = common.classification(a, batch=256, epochs=1)
  c.init = [(a.init, "((?:batch_stats/)?backbone/.*)", "")] if a.init else []
  c.preprocess = dict(normalize="none")
  sgd = dict(name="sgd", nesterov=True)
  if a.finetune:
    c.steps = 2 if a.smoke else c.steps if a.epochs else 20_000
    # Outside of the gradient, the decay is not multiplied by momentum's 1 / (1 - 0.9).
    c.optim = [(common.NO_DECAY, dict(wd=0.0, **sgd)), (".*", dict(wd=10 * a.wd, **sgd))]
    c.schedule = dict(name="cosine", lr=a.lr)
    return c
  c.trains, c.steps = "classifier/.*", 2 if a.smoke else 1
  c.optim, c.schedule = [(".*", sgd)], dict(name="constant", lr=0.0)
  crop = [("preprocess", c.backbone.image_size), ("keep", "image", "label")]
  c.streams.train.transforms = crop
  batch = 8 if a.smoke else 256
  penalties = (1.0,) if a.smoke else ()
  probe = dict(kind="probe", source=c.evals.val.source, labelled=c.streams.train.source, batch=batch)
  c.evals = dict(probe=probe | (dict(penalties=penalties) if penalties else {}))
  return c
