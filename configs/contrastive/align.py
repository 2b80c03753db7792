"""ALIGN: an EfficientNet and a BERT on noisy pairs, temperature learned from 1, smoothed labels (arXiv 2102.05918).

  python launch/train.py --config=configs/contrastive/align.py:variant=L2,source=tfds:my_pairs --workdir=runs/align

The paper's pair is EfficientNet-L2 with BERT-Large; its ablations have B7 with BERT-Base. The image feature is the
mean of the last stage, as wide as the joint space; the text gets a linear map. `vocab` is BERT's vocab.txt. The paper
crops 289 of 346 pixels, a share of 0.7 of the area. Hardware: TPU pods (the paper: 1,024 TPUv3 cores). Expected:
ImageNet zero-shot top-1 of 76.4 for L2 on the paper's 1.8 billion pairs (table 4). Status: untested at this size;
`:smoke` runs.
"""

import ml_collections

from configs import common

TABLE = {"L2": dict(dim=1376, text="large"), "B7": dict(dim=640, text="base")}
"""Width of the joint space, and which BERT goes with an EfficientNet."""


def get_config(arg=""):
  """Arguments: variant (L2 or B7), source, vocab (BERT's vocab.txt), batch, steps, smoke."""
  a = common.parse_arg(
    arg, variant="L2", source="tfds:my_pairs", vocab="vocab.txt", batch=16_384, steps=1_200_000, smoke=False
  )
  row = common.row(TABLE, a.variant)
  size, length = (16, 24) if a.smoke else (289, 64)
  source = "synthetic:pairs?n=64&size=16" if a.smoke else a.source

  c = ml_collections.ConfigDict(dict(recipe="clip", steps=2 if a.smoke else a.steps, label_smoothing=0.1))
  c.dim = 16 if a.smoke else row["dim"]
  c.joint = dict(scale_init=0.0, max_scale=None, image_projection="none", text_projection="affine")
  c.image = dict(tower="efficientnet", variant="test" if a.smoke else a.variant, image_size=size, head=0)
  c.text = dict(tower="bert", variant="test" if a.smoke else row["text"])
  c.tokenizer = dict(kind="wordpiece", length=length, path=a.vocab)
  if a.smoke:
    c.text = dict(tower="bert", variant="test", vocab=300, length=length)
    c.tokenizer = dict(kind="sentencepiece", length=length, learn=source, size=300)
  else:
    c.image.dtype = c.text.dtype = "bfloat16"
    c.text.remat = "dots"
  c.preprocess = dict(normalize="imagenet")

  steps = common.pairs(size, (0.7, 1.0), flip=True)
  c.streams = dict(train=dict(source=source, transforms=steps, batch=8 if a.smoke else a.batch))
  c.optim = common.adamw(wd=1e-5, no_decay=common.NO_DECAY, name="lamb", eps=1e-6)
  warmup = 0 if a.smoke else min(10_000, a.steps // 10)
  c.schedule = dict(name="wsd", lr=1e-3, warmup=warmup, decay=1 - warmup / c.steps)  # linear to 0 after the warm-up
  c.workers = 0 if a.smoke else 8
  return c
