"""SigLIP as published: the sigmoid loss on image-text pairs, batch 32,768 (Zhai et al. 2023, arXiv 2303.15343).

  python launch/train.py --config=configs/contrastive/siglip.py:source=tfds:my_pairs --workdir=runs/siglip

The tokenizer of the paper is a 32,000-piece sentencepiece model of C4; `vocab` is the path of one, without which one
is learned from the source's captions. Hardware: TPU pods; `--config.mesh.fsdp=8` and
`--config.streams.train.micro=8` make the larger ones fit. Expected: the ImageNet zero-shot top-1 of the column
`imagenet` (table 3 of the paper). Status: untested at these sizes; `:smoke` runs.
"""

import ml_collections

from configs import common

TABLE = {
  "ViT-B-16-SigLIP": dict(towers="B/16 B", dim=768, size=224, length=64, imagenet=76.2),
  "ViT-L-16-SigLIP-256": dict(towers="L/16 L", dim=1024, size=256, length=64, imagenet=80.5),
  "ViT-SO400M-14-SigLIP": dict(towers="So400m/14 So400m", dim=1152, size=224, length=16, imagenet=82.0),
}
"""ImageNet of SO400M at 224 px is an unchecked recollection; the paper's table 3 has 83.2 at 384 px."""

NO_DECAY = rf"{common.NO_DECAY}|bias"
EXAMPLES = 40_000_000_000
"""Seen by the released models; an unchecked recollection, as are rate and decay below."""


def get_config(arg=""):
  """Arguments: variant, source, vocab (a sentencepiece model), batch and steps (0: as published), smoke."""
  a = common.parse_arg(arg, variant="ViT-B-16-SigLIP", source="tfds:my_pairs", vocab="", batch=0, steps=0, smoke=False)
  if a.variant not in TABLE:
    raise ValueError(f"unknown variant {a.variant!r}; legal: {', '.join(TABLE)}")
  row = TABLE[a.variant]
  image, text = row["towers"].split()
  batch = 8 if a.smoke else a.batch or 32_768
  steps = 2 if a.smoke else a.steps or EXAMPLES // batch
  size, length = (16, 24) if a.smoke else (row["size"], row["length"])
  source = "synthetic:pairs?n=64&size=16" if a.smoke else a.source

  c = ml_collections.ConfigDict(dict(recipe="clip", loss="sigmoid", dim=32 if a.smoke else row["dim"], steps=steps))
  c.joint = dict(
    scale_init=2.302585093, max_scale=None, bias_init=-10.0, image_projection="none", text_projection="affine"
  )
  shared = dict(activation="gelu_tanh", epsilon=1e-6)
  if a.smoke:
    c.image = dict(variant="test", pool="map", norm_pre=False, patch_bias=True, **shared)
    c.text = dict(variant="test", pool="last", causal=False, vocab=300, length=length, **shared)
  else:
    c.image = dict(variant=f"SigLIP-{image}", dtype="bfloat16", remat="dots")
    c.text = dict(variant=f"SigLIP-{text}", dtype="bfloat16", remat="dots")
  learn = dict(path=a.vocab) if a.vocab else dict(learn=source, size=300 if a.smoke else 32_000)
  c.tokenizer = dict(kind="sentencepiece", length=length, **learn)
  c.preprocess = dict(normalize="inception", resize="squash")
  c.streams = dict(train=dict(source=source, transforms=common.pairs(size, (0.9, 1.0)), batch=batch))
  c.optim = common.adamw(wd=1e-4, no_decay=NO_DECAY, b1=0.9, b2=0.95)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else min(10_000, steps // 10))
  c.clip = 1.0
  c.workers = 0 if a.smoke else 8
  return c
