"""ImageBind as published: one further modality bound to the pictures of a frozen OpenCLIP ViT-H/14 (arXiv 2305.05665).

  python launch/convert.py --from OPEN_CLIP_VIT_H --to runs/h14 --format vljax
  python launch/train.py --config=configs/contrastive/imagebind.py:modality=audio --workdir=runs/audio

The source gives `image` and the modality's field: a WAV file's bytes (`audio`, clips of two seconds), a picture of 8
or 16 bits (`depth`, `thermal`), or an array [2000 6] (`imu`). `replication` repeats a set of few examples within an
epoch. The released base sees a picture as a clip of two equal frames; ours sees it as it is, which is the same
function once the stem's two halves are added.

Pictures of depth and heat are cropped and mirrored together with their photographs, a quarter of them is erased in a
box, and the photographs go through RandAugment and color jitter: the paper's strong recipe for these two, while sounds
and motion keep the basic one. What the paper gives as RandAug 9/0.5 is read as timm's `rand-m9-mstd0.5`, that is two
operations that happen half of the time, at 9 of 10 with a deviation of 0.5; a third of the photographs so is sheared,
turned or moved, their depth or heat not. Jitter 0.4 is SimCLR's at strength 0.5, which turns hues by up to 0.1, too.

Hardware: what the paper used; `--config.mesh.fsdp=8` and `--config.streams.train.micro=8` make it fit on less.
Expected: the paper's emergent zero-shot, ESC-50 66.9, AudioSet mAP 17.6, NYU-D 54.0, SUN-D 35.1, LLVIP 63.4, Ego4D
25.0 (not ours). Status: untested at this size; `:smoke` runs.
"""

import ml_collections

from configs import common

TABLE = {
  # trained on, per modality: AudioSet, SUN RGB-D, LLVIP, Ego4D
  "audio": dict(lr=1.6e-3, wd=0.2, batch=2048, clip=1.0, replication=1.25, epochs=64, temperature=0.05),
  "depth": dict(lr=1.6e-3, wd=0.2, batch=512, clip=1.0, replication=50, epochs=64, temperature=0.2),
  "thermal": dict(lr=5e-4, wd=0.05, batch=512, clip=5.0, replication=25, epochs=64, temperature=0.1),
  "imu": dict(lr=5e-4, wd=0.5, batch=512, clip=1.0, replication=1, epochs=8, temperature=0.2),
}
WARMUP_EPOCHS = 2
AUDIO = dict(mean=-4.268, std=9.138, frequency_mask=12)
"""Mean and deviation of AudioSet's log-mel values: an unchecked recollection of the released preprocessing."""

SEEN = dict(
  erase=0.25, augment=[("rand_augment", 2, 27, dict(p=0.5, deviation=1.5, fill=0.5)), ("color_jitter", 0.5, 1.0)]
)
"""Of depth and heat (arXiv 2305.05665, appendix B)."""


def get_config(arg=""):
  """Arguments: modality (audio, depth, thermal, imu), source, base (workdir of a converted ViT-H-14), examples (of the
  source, for the length), steps (0: as published), batch (0: as published), smoke."""
  a = common.parse_arg(
    arg,
    modality="audio",
    source="webdataset:shards/{000000..000099}.tar?also=audio.wav",
    base="runs/h14",
    examples=100_000,
    steps=0,
    batch=0,
    smoke=False,
  )
  row = common.row(TABLE, a.modality, "modality")
  batch = 8 if a.smoke else a.batch or row["batch"]
  epoch = max(1, int(a.examples * row["replication"]) // batch)
  steps = 2 if a.smoke else a.steps or row["epochs"] * epoch
  c = ml_collections.ConfigDict(dict(recipe="imagebind", dim=16 if a.smoke else 1024, steps=steps))
  variant = "test" if a.smoke else "huge"
  c.image = dict(variant="test" if a.smoke else "H/14")
  c.text = dict(variant="test" if a.smoke else "H")
  if a.smoke:
    c.text.update(dict(vocab=300, length=16, pool="eos", eos_id=1))
    c.tokenizer = dict(kind="sentencepiece", length=16, learn="synthetic:pairs?n=64&size=16", size=300)
    c.base_streams = ("pairs",)
  else:
    c.image.update(dict(dtype="bfloat16", remat="dots"))
    c.text.update(dict(dtype="bfloat16", remat="dots"))
    c.tokenizer = dict(kind="clip_bpe", length=77)
    c.init = [(a.base, ".*", "base")]
  c.preprocess = dict(normalize="clip")

  tower = dict(variant=f"{a.modality}-{variant}")
  if not a.smoke:
    tower.update(dict(dtype="bfloat16", remat="dots"))
  more = {"audio": AUDIO, "imu": {}}.get(a.modality, SEEN)
  c.modalities = {a.modality: dict(tower=tower, streams=("train",), temperature=row["temperature"], **more)}
  size = 16 if a.smoke else 224
  c.streams = dict(train=dict(source=a.source, transforms=transforms(a.modality, size), batch=batch))
  if a.smoke:
    smoke(c, a.modality, size, batch)
  c.optim = common.adamw(wd=row["wd"], no_decay=common.NO_DECAY, b1=0.9, b2=0.95)
  c.schedule = dict(name="cosine", lr=row["lr"], warmup=0 if a.smoke else min(WARMUP_EPOCHS * epoch, steps // 2))
  c.clip = row["clip"]
  c.workers = 0 if a.smoke else 8
  return c


def transforms(modality, size):
  """What is done to an example on the host."""
  crop = [("random_resized_crop", size, (0.9, 1.0))]
  own = {
    "audio": [("sound",), ("window", "audio", 32_000), ("fbank", 128, 204), ("decode",), *crop],
    "depth": [("decode",), ("aligned_crop", size, "depth", (0.9, 1.0))],
    "thermal": [("decode",), ("aligned_crop", size, "thermal", (0.9, 1.0))],
    "imu": [("window", "imu", 2000), ("decode",), *crop],
  }[modality]
  return [*own, ("keep", "image", modality)]


def smoke(c, modality, size, batch):
  """The red shapes of pictures stand in for the modality, whatever it is: one channel, 8 x 8 pixels."""
  source = f"synthetic:pairs?n=64&size={size}"
  crop = ("random_resized_crop", size, (0.9, 1.0))
  gray = ("one_channel", 8, dict(to=modality))
  c.modalities[modality].tower = dict(variant="depth-test")
  c.streams.train = dict(source=source, transforms=[gray, crop, ("keep", "image", modality)], batch=batch)
  c.streams.pairs = dict(
    source=source,
    transforms=[crop, ("choose_caption", "first"), ("tokenize",), ("keep", "image", "tokens")],
    batch=batch,
  )
