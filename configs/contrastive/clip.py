"""CLIP as published: every model of OpenAI and LAION with its batch, learning rate, betas, warm-up and length.

  python launch/train.py --config=configs/contrastive/clip.py:variant=ViT-B-32,source=tfds:my_pairs --workdir=runs/b32

The source is any of image-text pairs (`launch/prepare.py` makes a TFDS directory of one). Hardware: what the papers
used; `--config.mesh.fsdp=8` and, but for the RN models, whose norms need the whole batch,
`--config.streams.train.micro=8` make the larger ones fit. Expected: the ImageNet zero-shot top-1 of the column
`imagenet` (open_clip's re-evaluation of the released weights, not ours). Status: untested at these sizes; `:smoke`
runs, for RN models with one of their towers.
"""

import ml_collections

from configs import common

OPENAI = dict(batch=32_768, epochs=32, examples=400_000_000)
LAION = dict(size=224, examples=2_000_000_000)
RESNET = dict(b2=0.999, eps=1e-8)
VIT = dict(b2=0.98, eps=1e-6)

TABLE = {
  # pixels, peak learning rate, AdamW's constants, batch, epochs, examples an epoch, ImageNet top-1
  "RN50": dict(size=224, lr=5e-4, adam=RESNET, imagenet=59.8, **OPENAI),
  "RN101": dict(size=224, lr=5e-4, adam=RESNET, imagenet=62.3, **OPENAI),
  "RN50x4": dict(size=288, lr=5e-4, adam=RESNET, imagenet=66.3, **OPENAI),
  "RN50x16": dict(size=384, lr=4e-4, adam=RESNET, imagenet=70.7, **OPENAI),
  "RN50x64": dict(size=448, lr=3.6e-4, adam=RESNET, imagenet=73.9, **OPENAI),
  "ViT-B-32": dict(size=224, lr=5e-4, adam=VIT, imagenet=63.3, **OPENAI),
  "ViT-B-16": dict(size=224, lr=5e-4, adam=VIT, imagenet=68.3, **OPENAI),
  "ViT-L-14": dict(size=224, lr=4e-4, adam=VIT, imagenet=75.5, **OPENAI),
  "ViT-L-14-336": dict(size=336, lr=2e-5, adam=VIT, imagenet=76.6, **{**OPENAI, "epochs": 1}),
  "ViT-H-14": dict(lr=5e-4, adam=VIT, batch=79_872, epochs=16, imagenet=78.0, **LAION),
  "ViT-g-14": dict(lr=5e-4, adam=VIT, batch=65_536, epochs=17, imagenet=78.5, **LAION),
  "ViT-bigG-14": dict(lr=2e-3, adam=VIT, batch=163_840, epochs=20, imagenet=80.1, **LAION),
}
"""OpenAI's rows: arXiv 2103.00020, section 2.5 and appendix F. The learning rates other than L/14's, and batch, rate
and epochs of the LAION rows, are unchecked recollections: look them up before a run that costs money."""


def get_config(arg=""):
  """Arguments: variant, source, batch and steps (0: as published), smoke."""
  a = common.parse_arg(arg, variant="ViT-B-32", source="tfds:my_pairs", batch=0, steps=0, smoke=False)
  row = common.row(TABLE, a.variant)
  batch = 8 if a.smoke else a.batch or row["batch"]
  steps = 2 if a.smoke else a.steps or row["epochs"] * row["examples"] // batch
  resnet = a.variant.startswith("RN")
  size = 16 if a.smoke else row["size"]
  source = "synthetic:pairs?n=64&size=16" if a.smoke else a.source

  c = ml_collections.ConfigDict(dict(recipe="clip", steps=steps))
  if a.smoke:
    c.dim = 16
    c.image = dict(tower="modified_resnet" if resnet else "vit", variant="test")
    c.joint = dict(image_projection="affine" if resnet else "linear")
    c.text = dict(variant="test", vocab=300, length=24, pool="eos", eos_id=1)
    c.tokenizer = dict(kind="sentencepiece", length=24, learn=source, size=300)
  else:
    c.variant = a.variant
    c.image = dict(dtype="bfloat16", remat="full" if resnet else "dots")
    c.text = dict(dtype="bfloat16", remat="dots")
    c.tokenizer = dict(kind="clip_bpe", length=77)
  c.preprocess = dict(normalize="clip")
  c.streams = dict(train=dict(source=source, transforms=common.pairs(size, (0.9, 1.0)), batch=batch))
  c.optim = common.adamw(wd=0.2, no_decay=common.NO_DECAY, b1=0.9, **row["adam"])
  c.schedule = dict(name="cosine", lr=row["lr"], warmup=0 if a.smoke else min(2000, steps // 10))
  c.workers = 0 if a.smoke else 8
  return c
