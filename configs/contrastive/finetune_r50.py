"""Fine-tuning of another run's features on all labels, 10 % or 1 % of them (SimCLR, arXiv 2002.05709, appendix B.5).

  python launch/train.py --config=configs/contrastive/finetune_r50.py:init=runs/simclr,fraction=0.01 --workdir=runs/1

`init` is the workdir of a SimCLR run; `tap=1` keeps the first layer of its projection head of `layers` layers, as
SimCLRv2 does (arXiv 2006.10029). The subset is drawn by the hash of an example's key: the same in every run, but not
the released list, and not balanced over classes. Hardware: 8 accelerators, under an hour. Expected: top-1 48.3 with
1 % and 65.6 with 10 % of ImageNet's labels (table B.4). Status: untested at this size; `:smoke` runs.
"""

from configs import common


def get_config(arg=""):
  """Arguments: init (workdir; without it training starts from nothing), tap and layers (of the head), train and val
  (sources), examples (of train), classes, size, cifar (folder), small (its network), fraction, batch and epochs (0:
  4096, and 60 for under 5 % of the labels, else 30), smoke."""
  a = common.parse_arg(arg, init="", tap=0, layers=3, **common.LABELLED)
  c = common.classification(a, batch=4096, epochs=60 if a.fraction < 0.05 else 30)
  if a.tap:
    c.head, c.tap = dict(layers=a.layers), a.tap
  layers = "".join(f"|head/(?:linear|norm)_{i}/.*" for i in range(a.tap))
  c.init = [(a.init, f"((?:batch_stats/)?(?:backbone/.*{layers}))", "")] if a.init else []
  c.optim = [(".*", dict(name="sgd", nesterov=True))]
  c.schedule = dict(name="cosine", lr=0.05 * c.streams.train.batch / 256)
  c.preprocess = dict(normalize="none")
  return c
