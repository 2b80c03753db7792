"""CLIP on your own pictures: a folder, with NAME.txt beside each picture or with telling file names.

  python launch/train.py --config=configs/contrastive/clip_folder.py:dir=PICTURES --workdir=runs/mine

Fewer than 285 pictures need a smaller batch (`clip_folder.py:dir=PICTURES,batch=64`), since a tenth is held out.
Hardware: any; 2 CPU cores do. Expected: as good as the captions; the run ends with retrieval on the tenth of the
pictures that it held out, and a report. Status: runs; `:smoke` is two steps on synthetic pairs.
"""

import ml_collections

from configs import common


def get_config(arg=""):
  """Arguments: dir (of the pictures), steps, batch, size (pixels), smoke."""
  a = common.parse_arg(arg, dir="pictures", steps=1000, batch=256, size=64, smoke=False)
  c = ml_collections.ConfigDict(dict(recipe="clip", dim=16 if a.smoke else 128, steps=2 if a.smoke else a.steps))
  variant, size, vocab, length = ("test", 16, 300, 24) if a.smoke else ("small", a.size, 4000, 24)
  source = f"synthetic:pairs?n=64&size={size}" if a.smoke else f"folder:{a.dir}?holdout=0.1"
  batch = 8 if a.smoke else a.batch

  c.image = dict(variant=variant, image_size=size)
  if not a.smoke:
    c.image.patch = 8
  c.text = dict(variant=variant, vocab=vocab, length=length, pool="eos", eos_id=1)
  c.tokenizer = dict(kind="sentencepiece", length=length, learn=f"{source}&split=train", size=vocab)
  c.streams = dict(
    train=dict(source=f"{source}&split=train", transforms=common.pairs(size, (0.5, 1.0)), batch=batch, max_broken=0.05)
  )
  c.optim = common.adamw(wd=0.2, no_decay=common.NO_DECAY, b1=0.9, b2=0.98, eps=1e-6)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else min(100, a.steps // 10))
  c.clip = 1.0
  c.checkpoint = dict(every=200, keep=2)
  c.evals = dict(retrieval=dict(kind="retrieval", source=f"{source}&split=val", batch=min(batch, 64)))
  c.report = dict(title="CLIP on your pictures", source=f"{source}&split=val")
  return c
