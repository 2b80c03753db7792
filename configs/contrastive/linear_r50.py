"""Linear evaluation: a classifier on the frozen features of another run (SimCLR, arXiv 2002.05709, appendix B.6).

  python launch/train.py --config=configs/contrastive/linear_r50.py:init=runs/simclr --workdir=runs/linear

`init` is the workdir of a run whose tower is `backbone` (SimCLR); for CLIP's image tower give
`--config.init="[('runs/clip', 'image/(.*)', 'backbone')]"` with the tower in `--config.backbone`, and its mean and
deviation in `--config.preprocess.normalize`. Hardware: one accelerator, hours. Expected: top-1 69.3 from SimCLR's
ResNet-50 after 1000 epochs. Status: untested at this size; `:smoke` runs, on features that are not trained.
"""

from configs import common


def get_config(arg=""):
  """Arguments: init (workdir; without it the features stay as drawn), train and val (sources), examples (of train),
  classes, size, cifar (folder), small (its network), fraction, batch and epochs (0: 4096 and 90), smoke."""
  a = common.parse_arg(arg, init="", **common.LABELLED)
  c = common.classification(a, batch=4096, epochs=90)
  c.trains = "classifier/.*"
  c.init = [(a.init, "((?:batch_stats/)?backbone/.*)", "")] if a.init else []
  c.optim = [(".*", dict(name="sgd", nesterov=True))]
  c.schedule = dict(name="cosine", lr=0.1 * c.streams.train.batch / 256)
  c.preprocess = dict(normalize="none")
  return c
