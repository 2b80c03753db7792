"""ImageBind in small: spoken English names, written German names and animations bound to the quickstart's CLIP.

  make quickstart
  python launch/train.py --config=configs/contrastive/imagebind_emoji.py:base=runs/quickstart --workdir=runs/bound

Nothing but pictures teaches the further modalities: English text meets neither speech nor German in training. The
speech is synthetic (espeak-ng, which must be installed: `apt-get install espeak-ng`); `speech=false` does without.
`video=DIR` takes the filmstrips of a folder with `videos.jsonl` and `filmstrips_64x8.tar` as one more modality.

Hardware: 2 CPU cores. Expected: see docs/modalities.md. Status: runs; `:smoke` is two steps on synthetic pairs.
"""

import ml_collections

from configs import common

BINS, FRAMES = 64, 256
NEW_VOICE = "en-gb-scotland"


def get_config(arg=""):
  """Arguments: base (workdir of clip_quickstart.py), steps, batch, speech, also (`german` names beside speech, or
  nothing), voices (of espeak-ng, joined by `;`, the first of which is asked), video (folder of filmstrips), smoke."""
  a = common.parse_arg(
    arg, base="runs/quickstart", steps=800, batch=256, speech=True, also="german", voices="en-us", video="",
    smoke=False,
  )  # fmt: skip
  size, length = 16 if a.smoke else 32, 16
  batch = 8 if a.smoke else a.batch
  c = ml_collections.ConfigDict(
    dict(recipe="imagebind", dim=16 if a.smoke else 128, steps=2 if a.smoke else a.steps, seed=0)
  )
  variant, vocab = ("test", 300) if a.smoke else ("small", 4000)
  c.image = dict(variant=variant, image_size=size)
  c.text = dict(variant=variant, vocab=vocab, length=length, pool="eos", eos_id=1)
  c.preprocess = dict(normalize="inception")
  c.combine = "round_robin"
  if a.smoke:
    smoke(c, size, length, batch)
  else:
    c.image.patch = 8
    c.init = [(a.base, ".*", "base")]
    c.tokenizer = dict(kind="sentencepiece", length=length, path=f"{a.base}/tokenizer/spm.model")
    c.modalities, c.streams, c.evals = {}, {}, {}
    if a.speech:
      speech(c, size, batch, a.voices.split(";"))
    if common.row({"german": True, "": False}, a.also, "also"):
      german(c, size, length, batch)
    if a.video:
      video(c, a.video, size)
    if not c.modalities:
      raise ValueError("speech, also and video are all off; legal: one of them or more")
  c.optim = common.adamw(wd=0.2, no_decay=common.NO_DECAY, b1=0.9, b2=0.95)
  c.schedule = dict(name="cosine", lr=1e-3, warmup=0 if a.smoke else a.steps // 10)
  c.clip = 1.0
  c.log_every = 1 if a.smoke else 20
  c.checkpoint = dict(every=200, keep=2)
  return c


def speech(c, size, batch, voices):
  sound = [("sound",), ("fbank", BINS, FRAMES)]
  crop, whole = ("random_resized_crop", size, (0.6, 1.0)), ("preprocess", size)
  c.modalities.audio = dict(
    tower=dict(variant="audio-small", shape=(BINS, FRAMES, 1), dropout=0.1),
    streams=("audio",),
    temperature=0.05,
    mean=-7.5,
    std=5.7,
    frequency_mask=12,
    time_mask=24,
  )
  source = f"espeak:?size=64&voices={','.join(voices)}&split=train"
  steps = [*sound, ("decode",), crop, ("keep", "image", "audio")]
  c.streams.audio = dict(source=source, transforms=steps, batch=batch, cache=True)
  told = [("choose_caption", "first"), ("tokenize",)]
  asked = dict(transforms=[*sound, *told, whole, ("keep", "image", "audio", "tokens")], query="audio", group="base")
  held = lambda voice: f"espeak:?size=64&voices={voice}&split=val"
  c.evals.audio_image = dict(source=held(voices[0]), answer="image", **asked)
  c.evals.audio_text = dict(source=held(voices[0]), answer="text", **asked)
  c.evals.audio_text_new_voice = dict(source=held(NEW_VOICE), answer="text", **asked)


def german(c, size, length, batch):
  tower = dict(kind="text", variant="small", vocab=4000, length=length, pool="eos", eos_id=1, dropout=0.1)
  c.modalities.german = dict(tower=tower, streams=("german",), temperature=0.05)
  name = [("choose_caption", "last"), ("tokenize", "caption", "german")]
  crop, whole = ("random_resized_crop", size, (0.6, 1.0)), ("preprocess", size)
  c.streams.german = dict(
    source="openmoji:?size=64&lang=de&split=train",
    transforms=[*name, ("decode",), crop, ("keep", "image", "german")],
    batch=batch,
    cache=True,
  )
  english = [("choose_caption", "first"), ("tokenize",)]
  asked = dict(
    source="openmoji:?size=64&lang=en,de&split=val",
    transforms=[*name, *english, whole, ("keep", "image", "german", "tokens")],
    query="german",
    group="base",
  )
  c.evals.german_image = dict(answer="image", **asked)
  c.evals.german_text = dict(answer="text", **asked)


def video(c, folder, size):
  where = f"pairs:{folder}?table=videos.jsonl&images=filmstrips_64x8.tar&image=video&caption=label.en"
  tower = dict(variant="video-small", shape=(2, size, size, 3), dropout=0.1)
  c.modalities.video = dict(tower=tower, streams=("video",), temperature=0.05, mean=127.5, std=127.5)
  c.streams.video = dict(
    source=f"{where}&split=train",
    transforms=[("frames", 2, size), ("keep", "image", "video")],
    batch=128,
  )
  steps = [("choose_caption", "first"), ("tokenize",), ("frames", 2, size, dict(rule="even"))]
  asked = dict(source=f"{where}&split=val", transforms=[*steps, ("keep", "image", "video", "tokens")], query="video")
  c.evals.video_image = dict(answer="image", **asked)
  c.evals.video_text = dict(answer="text", **asked)


def smoke(c, size, length, batch):
  source = f"synthetic:pairs?n=64&size={size}"
  c.tokenizer = dict(kind="sentencepiece", length=length, learn=source, size=300)
  text = [("choose_caption", "first"), ("tokenize",)]
  depth = ("one_channel", 8, dict(to="depth"))
  crop = ("random_resized_crop", size, (0.6, 1.0))
  c.base_streams = ("pairs",)
  c.modalities = dict(depth=dict(tower=dict(variant="depth-test"), streams=("depth",), learned=True))
  c.streams = dict(
    pairs=dict(source=source, transforms=[crop, *text, ("keep", "image", "tokens")], batch=batch),
    depth=dict(source=source, transforms=[depth, crop, ("keep", "image", "depth")], batch=batch),
  )
  c.evals = dict(
    depth_text=dict(
      source=f"{source}&split=val",
      transforms=[*text, depth, ("preprocess", size), ("keep", "image", "depth", "tokens")],
      query="depth",
      answer="text",
      batch=8,
    )
  )
