"""SigLIP and SigLIP 2's towers: the sigmoid loss on pairs, batch 32,768 (arXiv 2303.15343, arXiv 2502.14786).

  python launch/train.py --config=configs/contrastive/siglip.py:source=tfds:my_pairs --workdir=runs/siglip

The tokenizer of the paper is a 32,000-piece sentencepiece model of C4, that of SigLIP 2 is Gemma's with 256,000;
`vocab` is the path of one, without which one is learned from the source's captions. SigLIP 2's further losses
(captions, self-distillation, masked prediction) are not here. Hardware: TPU pods; `--config.mesh.fsdp=8` and
`--config.streams.train.micro=8` make the larger ones fit. Expected: the ImageNet zero-shot top-1 of the column
`imagenet` (table 3 of the paper; big_vision's README of SigLIP 2). Status: untested at these sizes; `:smoke` runs.
"""

import ml_collections

from configs import common

TABLE = {
  # pixels, tokens, pieces of the vocabulary, ImageNet top-1
  "ViT-B-16-SigLIP": dict(size=224, length=64, pieces=32_000, imagenet=76.2),
  "ViT-L-16-SigLIP-256": dict(size=256, length=64, pieces=32_000, imagenet=80.5),
  "ViT-SO400M-14-SigLIP": dict(size=224, length=16, pieces=32_000, imagenet=82.0),
  "ViT-B-16-SigLIP2": dict(size=224, length=64, pieces=256_000, imagenet=78.2),
  "ViT-L-16-SigLIP2-256": dict(size=256, length=64, pieces=256_000, imagenet=82.5),
  "ViT-SO400M-14-SigLIP2": dict(size=224, length=64, pieces=256_000, imagenet=83.2),
}
"""ImageNet of both SO400M at 224 px is an unchecked recollection; at 384 px they have 83.2 and 84.1."""

NO_DECAY = rf"{common.NO_DECAY}|bias"
EXAMPLES = 40_000_000_000
"""Seen by the released models; an unchecked recollection, as are rate and decay below."""


def get_config(arg=""):
  """Arguments: variant, source, vocab (a sentencepiece model), batch and steps (0: as published), smoke."""
  a = common.parse_arg(arg, variant="ViT-B-16-SigLIP", source="tfds:my_pairs", vocab="", batch=0, steps=0, smoke=False)
  row = common.row(TABLE, a.variant)
  batch = 8 if a.smoke else a.batch or 32_768
  steps = 2 if a.smoke else a.steps or EXAMPLES // batch
  size, length = (16, 24) if a.smoke else (row["size"], row["length"])
  source = "synthetic:pairs?n=64&size=16" if a.smoke else a.source

  c = ml_collections.ConfigDict(dict(recipe="clip", loss="sigmoid", steps=steps))
  if a.smoke:
    c.dim = 32
    c.joint = dict(
      scale_init=2.302585093, max_scale=None, bias_init=-10.0, image_projection="none", text_projection="affine"
    )
    shared = dict(variant="test", activation="gelu_tanh", epsilon=1e-6)
    c.image = dict(pool="map", norm_pre=False, patch_bias=True, **shared)
    c.text = dict(pool="last", causal=False, vocab=300, length=length, **shared)
  else:
    c.variant = a.variant
    c.image = dict(dtype="bfloat16", remat="dots")
    c.text = dict(dtype="bfloat16", remat="dots")
  learn = dict(path=a.vocab) if a.vocab else dict(learn=source, size=300 if a.smoke else row["pieces"])
  c.tokenizer = dict(kind="sentencepiece", length=length, **learn)
  c.preprocess = dict(normalize="inception", resize="squash")
  c.streams = dict(train=dict(source=source, transforms=common.pairs(size, (0.9, 1.0)), batch=batch))
  c.optim = common.adamw(wd=1e-4, no_decay=NO_DECAY, b1=0.9, b2=0.95)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else min(10_000, steps // 10))
  c.clip = 1.0
  c.workers = 0 if a.smoke else 8
  return c
