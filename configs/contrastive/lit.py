"""LiT: a text tower learns to read out a locked image tower (Zhai et al. 2022, arXiv 2111.07991).

  python launch/train.py --config=configs/contrastive/lit.py:image=runs/b16,source=tfds:my_pairs --workdir=runs/lit

`image` is a workdir whose image tower is taken; `launch/convert.py` makes one of a published checkpoint. The tower is
locked and runs as at evaluation; `--config.lock.image=2` sets its last block free with its head. Hardware: a locked
tower needs no gradients and half the memory; one 8-GPU host for B/16 at the batch here. Expected: ImageNet zero-shot
top-1 above what the same pairs give from scratch (the paper: 84.5 % with ViT-g/14 and 4 billion pairs). Rate
and decay are unchecked recollections. Status: untested at these sizes; `:smoke` runs.
"""

import ml_collections

from configs import common


def get_config(arg=""):
  """Arguments: variant (of the whole model), size (pixels), image, source, batch, steps, smoke."""
  a = common.parse_arg(
    arg, variant="ViT-B-16", size=224, image="runs/b16", source="tfds:my_pairs", batch=16_384, steps=55_000,
    smoke=False,
  )  # fmt: skip
  steps = 2 if a.smoke else a.steps
  source = "synthetic:pairs?n=64&size=16" if a.smoke else a.source

  c = ml_collections.ConfigDict(dict(recipe="clip", variant="test" if a.smoke else a.variant, steps=steps))
  if a.smoke:
    c.text = dict(vocab=300, length=24, pool="eos", eos_id=1)
    c.tokenizer = dict(kind="sentencepiece", length=24, learn=source, size=300)
  else:
    c.image = dict(dtype="bfloat16")
    c.text = dict(dtype="bfloat16", remat="dots")
    c.tokenizer = dict(kind="clip_bpe", length=77)
    c.init = [(a.image, "image/.*", "")]
  c.lock = dict(image=1)
  c.preprocess = dict(normalize="clip")
  transforms = common.pairs(16 if a.smoke else a.size, (0.9, 1.0))
  c.streams = dict(train=dict(source=source, transforms=transforms, batch=8 if a.smoke else a.batch))
  c.optim = common.adamw(wd=1e-4, no_decay=common.NO_DECAY, b1=0.9, b2=0.95)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else min(10_000, steps // 10))
  c.clip = 1.0
  c.workers = 0 if a.smoke else 8
  return c
