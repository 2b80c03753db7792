"""CLIP on two unlike sets, photographs and emoji, combined in the ways that Flamingo's table 11 compares.

  python launch/train.py --config=configs/contrastive/clip_two_sets.py:dir=DATA/flickr8k --workdir=runs/two_sets
  python launch/sweep.py --small --sweep=configs/ablations/flamingo.py:combination --workdir=runs/combination \
    --config=configs/contrastive/clip_two_sets.py:dir=DATA/flickr8k

DATA/flickr8k holds captions.jsonl and images_128.tar; the emoji come by pip. All rows compute as many gradients of as
many examples, as the paper's do. Hardware: 2 CPU cores. Expected: see docs/results.md. Status: runs; `:smoke` is two
steps on synthetic pairs.
"""

import ml_collections

from configs import common


def get_config(arg=""):
  """Arguments: dir (of the photographs), sets (photos, emoji or both), combine (accumulate, merge or round_robin),
  gradients (that are computed in all), batch (examples of each), size (pixels), smoke."""
  a = common.parse_arg(
    arg, dir="flickr8k", sets="both", combine="accumulate", gradients=400, batch=128, size=32, smoke=False
  )
  sources = {
    "photos": f"pairs:{a.dir}?table=captions.jsonl&images=images_128.tar&holdout=500",
    "emoji": "openmoji:?size=64&lang=en",
  }
  if a.smoke:
    sources = {name: f"synthetic:pairs?n=64&size=16&seed={i}" for i, name in enumerate(sources)}
  chosen = sources if a.sets == "both" else {a.sets: common.row(sources, a.sets)}
  together = a.combine == "accumulate" and len(chosen) == 2
  variant, size, batch = ("test", 16, 8) if a.smoke else ("small", a.size, a.batch)

  steps = a.gradients // 2 if together else a.gradients
  c = ml_collections.ConfigDict(dict(recipe="clip", dim=16 if a.smoke else 128, steps=2 if a.smoke else steps, seed=0))
  length, vocab = 24, 300 if a.smoke else 4000
  c.image = dict(variant=variant, image_size=size)
  if not a.smoke:
    c.image.patch = 8
  c.text = dict(variant=variant, vocab=vocab, length=length, pool="eos", eos_id=1)
  c.tokenizer = dict(kind="sentencepiece", length=length, learn=f"{sources['photos']}&split=train", size=vocab)

  share = batch // 2 if a.combine == "merge" and len(chosen) == 2 else batch
  c.streams = {
    name: dict(source=f"{uri}&split=train", transforms=common.pairs(size, (0.6, 1.0)), batch=share, cache=True)
    for name, uri in chosen.items()
  }
  c.combine = a.combine
  c.optim = common.adamw(wd=0.2, no_decay=common.NO_DECAY, b1=0.9, b2=0.98, eps=1e-6)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else steps // 10)
  c.clip = 1.0
  c.checkpoint = dict(every=1000, keep=1)
  c.evals = {
    name: dict(kind="retrieval", source=f"{uri}&split=val", every=0, batch=8 if a.smoke else 250)
    for name, uri in sources.items()
  }
  return c
