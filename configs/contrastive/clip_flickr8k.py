"""CLIP from scratch on Flickr8k: 6,642 photographs with five captions each, 500 held out by photograph.

  python launch/train.py --config=configs/contrastive/clip_flickr8k.py:dir=DATA/flickr8k --workdir=runs/flickr8k

DATA/flickr8k holds captions.jsonl and images_128.tar. Hardware: 2 CPU cores, 13 minutes. Expected: R@10 of at least
20 % both ways on the 500 held-out photographs (chance 2 %), and a report; see docs/results.md. Status: runs; `:smoke`
is two steps on synthetic pairs.
"""

import ml_collections

from configs import common


def get_config(arg=""):
  """Arguments: dir (of the data), steps, batch, size (pixels), smoke."""
  a = common.parse_arg(arg, dir="flickr8k", steps=1100, batch=256, size=64, smoke=False)
  c = ml_collections.ConfigDict(
    dict(recipe="clip", dim=16 if a.smoke else 192, steps=2 if a.smoke else a.steps, seed=0)
  )
  variant, size, vocab, length = ("test", 16, 300, 24) if a.smoke else ("small", a.size, 4000, 24)
  flickr = f"pairs:{a.dir}?table=captions.jsonl&images=images_128.tar&holdout=500"
  source = f"synthetic:pairs?n=64&size={size}" if a.smoke else flickr
  batch = 8 if a.smoke else a.batch

  c.image = dict(variant=variant, image_size=size, patch_dropout=0.5)
  c.text = dict(variant=variant, vocab=vocab, length=length, pool="eos", eos_id=1, dropout=0.1)
  if not a.smoke:
    c.image.patch = 8
  c.tokenizer = dict(kind="sentencepiece", length=length, learn=f"{source}&split=train", size=vocab)
  c.preprocess = dict(normalize="clip")

  c.streams = dict(
    train=dict(
      source=f"{source}&split=train",
      transforms=common.pairs(size, (0.5, 1.0), flip=True),
      batch=batch,
      cache=True,
    )
  )
  c.optim = common.adamw(wd=0.5, no_decay=common.NO_DECAY, b1=0.9, b2=0.98, eps=1e-6)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else 100)
  c.clip = 1.0
  c.checkpoint = dict(every=200, keep=2)
  c.evals = dict(
    retrieval=dict(kind="retrieval", source=f"{source}&split=val", every=0 if a.smoke else 300, batch=min(250, batch))
  )
  c.report = dict(
    title="CLIP on Flickr8k",
    source=f"{source}&split=val",
    queries=("a dog in the snow", "children playing in water", "a man on a bike", "a red car", "a crowd at night"),
  )
  return c
