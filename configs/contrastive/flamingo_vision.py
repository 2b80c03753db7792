"""Flamingo's vision encoder: an NFNet and a BERT on ALIGN and LTIP, gradients added (arXiv 2204.14198, app. B.1.3).

  python launch/train.py --config=configs/contrastive/flamingo_vision.py:variant=f6 --workdir=runs/flamingo_vision

Both towers are pooled by the mean, the joint space has 1376 dimensions, labels are smoothed by 0.1, pictures have 288
pixels; Adam falls linearly from 1e-3; the NFNet's gradient is clipped by its units to 0.01, BERT's by its norm to 10.
`variant=f0` is the pair of table 11 (NFNet-F0, BERT-mini, a million gradients of batches of 2,048), whose rows are
`sets=ltip`, `sets=align`, and of both `combine=accumulate`, `merge` and `round_robin`: a step of `accumulate` computes
a gradient for each set, one of the others a single gradient, of `merge` with half a batch of each set. Both sets are
DeepMind's own: `align` and `ltip` name any sources of pairs; `imagenet` and `coco` (Karpathy's test pictures), unless
empty, are asked at the end. Not stated, and so ours: how large BERT is (`text`, ALIGN's large), the weights of the
sets, how strongly colors are changed, the first temperature, the rule for the projections; blocks are not skipped.
`vocab` is BERT's vocab.txt, in place of ALIGN's own.

Hardware: TPU pods (the paper: 512 TPUv4 chips). Expected: ImageNet zero-shot top-1 of 77.9 for F6, of 45.6 for F0 with
accumulation (tables 10 and 11). Status: untested at this size; `:smoke` runs.
"""

import ml_collections

from configs import common

VARIANTS = {
  "f6": dict(image="F6", text="large", batch=16_384, gradients=2_400_000),
  "f0": dict(image="F0", text="mini", batch=2_048, gradients=1_000_000),
}
"""F6's 1.2 million updates take two gradients each."""


def get_config(arg=""):
  """Arguments: variant (f6 or f0), align and ltip (sources), sets (of these, joined by +), combine, imagenet and coco
  (sources that are asked), vocab (BERT's vocab.txt), text (of models.bert), batch (of a gradient) and steps (0: the
  variant's), smoke."""
  a = common.parse_arg(
    arg, variant="f6", align="tfds:align", ltip="tfds:ltip", sets="align+ltip", combine="accumulate",
    imagenet="tfds:imagenet2012?part=validation", coco="tfds:coco_captions?caption=captions.text&part=test",
    vocab="vocab.txt", text="", batch=0, steps=0, smoke=False,
  )  # fmt: skip
  row = common.row(VARIANTS, a.variant)
  size, length = (32, 16) if a.smoke else (288, 64)
  sources = dict(align=a.align, ltip=a.ltip, imagenet=a.imagenet, coco=a.coco)
  if a.smoke:
    sources = {name: f"synthetic:pairs?n=32&size=32&seed={i}" for i, name in enumerate(sources)}
  sets = a.sets.split("+")
  steps = a.steps or row["gradients"] // (len(sets) if a.combine == "accumulate" else 1)

  c = ml_collections.ConfigDict(dict(recipe="clip", steps=2 if a.smoke else steps))
  c.label_smoothing, c.dim, c.combine = 0.1, 1376, a.combine
  c.image = dict(tower="nfnet", variant="test" if a.smoke else row["image"], image_size=size, drop_path=0.0)
  c.text = dict(tower="bert", variant=a.text or row["text"], pool="mean")
  c.tokenizer = dict(kind="wordpiece", length=length, path=a.vocab)
  if a.smoke:
    c.dim = 16
    c.image.depths = (1, 2, 1, 1)
    c.text = dict(tower="bert", variant="test", vocab=300, length=length, pool="mean")
    c.tokenizer = dict(kind="sentencepiece", length=length, learn=sources["align"], size=300)
  else:
    c.image.dtype = c.text.dtype = "bfloat16"
    c.image.remat = c.text.remat = "full"
  c.preprocess = dict(normalize="imagenet")

  crop = common.pairs(size, (0.7, 1.0), flip=True)
  batch = (4 if a.smoke else a.batch or row["batch"]) // (len(sets) if a.combine == "merge" else 1)
  pairs = dict(align=sources["align"], ltip=sources["ltip"])
  c.streams = {name: dict(source=common.row(pairs, name, "set"), transforms=crop, batch=batch) for name in sets}
  c.evals = evaluations(sources, a.smoke)
  c.augment = [("color_jitter", 0.5)]
  c.optim = [(r"image/.*", dict(agc=0.01)), (r"text/.*", dict(clip=10.0)), (r".*", dict())]
  c.schedule = dict(name="wsd", lr=1e-3, decay=1.0)  # linear from the first step to 0
  c.workers = 0 if a.smoke else 8
  return c


def evaluations(sources, smoke):
  """Zero-shot classification of ImageNet and retrieval on COCO, of those whose sources are not empty."""
  ask = dict(
    imagenet=dict(kind="zeroshot", templates=("{}",)) if smoke else dict(kind="zeroshot", names="imagenet"),
    coco=dict(kind="retrieval"),
  )
  batch = 8 if smoke else 256
  return {name: dict(source=sources[name], batch=batch, **how) for name, how in ask.items() if sources[name]}
