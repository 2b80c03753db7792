"""CLIP as published: every ViT of OpenAI and LAION with its batch, learning rate, betas, warm-up and length.

  python launch/train.py --config=configs/contrastive/clip.py:variant=ViT-B-32,source=tfds:my_pairs --workdir=runs/b32

The source is any of image-text pairs (`launch/prepare.py` makes a TFDS directory of one). Hardware: what the papers
used; `--config.mesh.fsdp=8` and `--config.streams.train.micro=8` make the larger ones fit. Expected: the ImageNet
zero-shot top-1 of the column `imagenet` (open_clip's re-evaluation of the released weights, not ours). Status:
untested at these sizes; `:smoke` runs.
"""

import ml_collections

from configs import common

TABLE = {
  # width of the joint space, peak learning rate, batch, epochs, examples an epoch, ImageNet top-1
  "ViT-B-32": dict(dim=512, lr=5e-4, batch=32_768, epochs=32, examples=400_000_000, imagenet=63.3),
  "ViT-B-16": dict(dim=512, lr=5e-4, batch=32_768, epochs=32, examples=400_000_000, imagenet=68.3),
  "ViT-L-14": dict(dim=768, lr=4e-4, batch=32_768, epochs=32, examples=400_000_000, imagenet=75.5),
  "ViT-L-14-336": dict(dim=768, lr=2e-5, batch=32_768, epochs=1, examples=400_000_000, imagenet=76.6),
  "ViT-H-14": dict(dim=1024, lr=5e-4, batch=79_872, epochs=16, examples=2_000_000_000, imagenet=78.0),
  "ViT-g-14": dict(dim=1024, lr=5e-4, batch=65_536, epochs=17, examples=2_000_000_000, imagenet=78.5),
  "ViT-bigG-14": dict(dim=1280, lr=2e-3, batch=163_840, epochs=20, examples=2_000_000_000, imagenet=80.1),
}
"""OpenAI's rows: arXiv 2103.00020, section 2.5 and appendix F. The learning rates of B and L@336, and batch, rate and
epochs of the LAION rows, are unchecked recollections: look them up before a run that costs money."""

TOWERS = {
  "ViT-B-32": ("B/32", "B"),
  "ViT-B-16": ("B/16", "B"),
  "ViT-L-14": ("L/14", "L"),
  "ViT-L-14-336": ("L/14@336", "L"),
  "ViT-H-14": ("H/14", "H"),
  "ViT-g-14": ("g/14", "H"),
  "ViT-bigG-14": ("bigG/14", "bigG"),
}


def get_config(arg=""):
  """Arguments: variant, source, batch and steps (0: as published), smoke."""
  a = common.parse_arg(arg, variant="ViT-B-32", source="tfds:my_pairs", batch=0, steps=0, smoke=False)
  if a.variant not in TABLE:
    raise ValueError(f"unknown variant {a.variant!r}; legal: {', '.join(TABLE)}")
  row, (image, text) = TABLE[a.variant], TOWERS[a.variant]
  batch = 8 if a.smoke else a.batch or row["batch"]
  steps = 2 if a.smoke else a.steps or row["epochs"] * row["examples"] // batch
  activation = "gelu" if a.variant in ("ViT-H-14", "ViT-g-14", "ViT-bigG-14") else "quick_gelu"
  size = 16 if a.smoke else 336 if a.variant.endswith("336") else 224
  source = "synthetic:pairs?n=64&size=16" if a.smoke else a.source

  c = ml_collections.ConfigDict(dict(recipe="clip", dim=16 if a.smoke else row["dim"], steps=steps))
  c.image = dict(variant="test" if a.smoke else image, activation=activation)
  c.text = dict(variant="test" if a.smoke else text, activation=activation)
  if a.smoke:
    c.text.update(dict(vocab=300, length=24, pool="eos", eos_id=1))
    c.tokenizer = dict(kind="sentencepiece", length=24, learn=source, size=300)
  else:
    c.image.update(dict(dtype="bfloat16", remat="dots"))
    c.text.update(dict(dtype="bfloat16", remat="dots"))
    c.tokenizer = dict(kind="clip_bpe", length=77)
  c.preprocess = dict(normalize="clip")
  c.streams = dict(train=dict(source=source, transforms=common.pairs(size, (0.9, 1.0)), batch=batch))
  c.optim = common.adamw(wd=0.2, no_decay=common.NO_DECAY, b1=0.9, b2=0.98, eps=1e-6)
  c.schedule = dict(name="cosine", lr=row["lr"], warmup=0 if a.smoke else min(2000, steps // 10))
  c.workers = 0 if a.smoke else 8
  return c
