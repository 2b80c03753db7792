"""Flamingo at the paper's sizes, on pages, captioned pictures and clips (Alayrac et al., arXiv 2204.14198).

  python launch/train.py --config=configs/flamingo/flamingo.py:size=3b --workdir=runs/flamingo_3b
  python launch/plan.py --config=configs/flamingo/flamingo.py:size=80b --devices=1024 --accelerator=v4

`size` is 3b, 9b (table 5's, 32 blocks), 9b-table4 (40 blocks) or 80b. From the paper (appendix B.1.2): gradients of
all sets added, loss weights 1, 0.2, 0.2 and 0.03; pages of 256 tokens and 5 pictures, half of them with the words
before a picture looking at it (p_next); pictures of 320 pixels padded to squares, clips of 8 frames, one a second;
AdamW with decay 0.1, none on the resampler, gradient norm 1, 1e-4 after 5,000 steps of warm-up, then constant,
500,000 steps; frozen parts in bfloat16. The batches are those of its ablations, since those of the full runs are not
stated; neither are the betas, how strongly colors are changed, and the length of captioned rows (64).

The sets and the language model are DeepMind's own: `pages`, `align`, `ltip` and `clips` name any sources of such
data, `vocab` a sentencepiece model of 32,000 pieces, `vision` a run of configs/contrastive/flamingo_vision.py (or
weights of another `tower`), `lm` weights of `models.decoder`; without them the parts are random. `sets` leaves some
sets out (`sets=pages+ltip`) or adds `texts`, documents whose pictures, if any, are left out. Evaluated is the
perplexity of `held_out`'s captions.

Hardware: TPU pods (80b: the paper's 1,536 TPUv4 chips for 15 days; `launch/plan.py` tells bytes per device). Expected:
the few-shot rows of the paper's table 3 (COCO, 4 shots: CIDEr 85.0, 93.1, 103.2). Status: untested at this size;
`:smoke` runs.
"""

import ml_collections

from configs import common

SIZES = {
  "3b": dict(fsdp=8, tensor=1),
  "9b": dict(fsdp=16, tensor=1),
  "9b-table4": dict(fsdp=16, tensor=1),
  "80b": dict(fsdp=16, tensor=16),
}
"""Ways to shard; what is left of the devices goes to `data`. The 16 ways of `tensor` are the paper's."""

SETS = ("pages", "align", "ltip", "clips")
WEIGHTS = dict(pages=1.0, align=0.2, ltip=0.2, clips=0.03, texts=1.0)
BATCHES = dict(pages=256, align=512, ltip=512, clips=64, texts=256)
"""Of `texts`, which two rows of table 10 train on, neither is stated."""

TOWERS = {
  "F6": (320, "imagenet", dict(tower="nfnet", variant="F6")),
  "F0": (320, "imagenet", dict(tower="nfnet", variant="F0")),
  "ViT-L/14": (224, "clip", dict(tower="vit", variant="L/14", activation="quick_gelu")),
}
"""Pixels, normalization and vision encoder; the last is CLIP's, at the size that it was trained with."""

CAPTION = 64
"""Tokens of a captioned picture or clip."""


def get_config(arg=""):
  """Arguments: size; pages, align, ltip, clips, texts, held_out (sources); sets (names joined by +); tower; vision, lm
  (weights; empty: at random), vocab; combine, p_next, steps, smoke."""
  a = common.parse_arg(
    arg, size="3b", pages="interleaved:m3w/pages.jsonl?images=images.tar&side=64&ratio=3&plain=true",
    align="tfds:align", ltip="tfds:ltip", clips="webdataset:vtp/*.tar",
    texts="interleaved:texts/documents.jsonl?least=0", held_out="tfds:coco_captions?caption=captions.text&part=val",
    sets="+".join(SETS), tower="F6", vision="", lm="", vocab="vocab.model", combine="accumulate", p_next=0.5,
    steps=500_000, smoke=False,
  )  # fmt: skip
  mesh = common.row(SIZES, a.size)
  size, normalize, vision = common.row(TOWERS, a.tower)
  size = 16 if a.smoke else size
  c = ml_collections.ConfigDict(dict(recipe="flamingo", steps=2 if a.smoke else a.steps, combine=a.combine))
  c.variant = "test" if a.smoke else f"flamingo-{a.size}"
  c.preprocess = dict(normalize=normalize, resize="longest")
  c.tokenizer = dict(kind="sentencepiece", length=CAPTION, path=a.vocab, options=dict(added=common.MARKS))
  sources = {name: a[name] for name in (*SETS, "texts", "held_out")}
  if a.smoke:
    sources = {name: f"synthetic:pairs?n=32&size=16&seed={i}" for i, name in enumerate(sources)}
    c.lm = dict(vocab=300)
    c.tokenizer = dict(
      kind="sentencepiece", length=CAPTION, learn=sources["ltip"], size=300, options=dict(added=common.MARKS)
    )
  else:
    c.vision = dict(**vision, image_size=size, dtype="bfloat16", remat="full")
    c.lm, c.resampler = (dict(dtype="bfloat16", remat="full") for _ in range(2))
    c.xattn = dict(dtype="bfloat16")
    c.mesh = dict(data=-1, **mesh)

  c.streams = {
    name: dict(
      source=sources[name],
      transforms=transforms(name, size, normalize, a.p_next, a.smoke),
      batch=8 if a.smoke else common.row(BATCHES, name),
      weight=common.row(WEIGHTS, name),
    )
    for name in a.sets.split("+")
  }
  held_out = common.held_out(size, CAPTION, normalize)
  c.evals = dict(captions=dict(source=sources["held_out"], transforms=held_out, most=8 if a.smoke else 5_000, batch=8))
  c.init = [(a.lm, "lm/(.*)", "lm")] if a.lm else []
  if a.vision:
    c.init.append((a.vision, "image/((?!norm_post/).*)", "vision"))
  c.augment = [] if a.smoke else [("color_jitter", 0.5)]
  c.optim = common.FLAMINGO
  c.schedule = dict(name="constant", lr=1e-4, warmup=0 if a.smoke else 5_000)
  c.clip = 1.0
  c.workers = 0 if a.smoke else 8
  return c


def transforms(name, size, normalize, p_next, smoke):
  """Of a set: a page is documents already, a caption becomes one, with a space before it half of the time."""
  if name in ("pages", "texts") and not smoke:
    media = 5 if name == "pages" else 0
    return [*common.document(size, 256, media, p_next, normalize=normalize), ("pack", 256, media)]
  frames = 8 if name == "clips" and not smoke else 1
  decode = ("clip", frames, 1.0) if frames > 1 else ("decode",)
  medium = {"medium": "video"} if frames > 1 else {}
  pair = [decode, ("choose_caption", "random"), ("pair", 0.5, medium)]
  return [*pair, *common.document(size, CAPTION, 1, frames=frames, normalize=normalize), ("pack", CAPTION, 1)]
