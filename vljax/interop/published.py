"""Published checkpoints by name: where they lie, what they hash to, and the copies kept of them.

`openai:ViT-B-32` is a file of OpenAI's, `hf:ORG/NAME` or `hf:ORG/NAME@REVISION` a repository of the Hugging Face hub,
`open_clip:ViT-B-32/laion2b_s34b_b79k` a model and tag of open_clip's. Copies lie below $VLJAX_CACHE or
~/.cache/vljax; what lies there is never downloaded again.
"""

import dataclasses
import hashlib
import http.client
import json
import os
import re
import shutil
import urllib.request
import uuid
from collections.abc import Sequence
from typing import Any

from absl import logging
from etils import epath

from vljax import config

HUB = "https://huggingface.co"
BLOCK = 2**20

_OPENAI = "https://openaipublic.azureedge.net/clip/models"
OPENAI = {
  "RN50": f"{_OPENAI}/afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
  "RN101": f"{_OPENAI}/8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599/RN101.pt",
  "RN50x4": f"{_OPENAI}/7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd/RN50x4.pt",
  "RN50x16": f"{_OPENAI}/52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt",
  "RN50x64": f"{_OPENAI}/be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c/RN50x64.pt",
  "ViT-B-32": f"{_OPENAI}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
  "ViT-B-16": f"{_OPENAI}/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
  "ViT-L-14": f"{_OPENAI}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
  "ViT-L-14-336": f"{_OPENAI}/3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
}
"""Name to address, which holds the file's sha256 (openai/CLIP, clip/clip.py)."""

_SIGLIP = (
  *(f"ViT-B-16-SigLIP{size}" for size in ("", "-256", "-384", "-512", "2", "2-256", "2-384", "2-512")),
  *(f"ViT-L-16-SigLIP{size}" for size in ("-256", "-384", "2-256", "2-384", "2-512")),
  *(f"ViT-SO400M-14-SigLIP{size}" for size in ("", "-384", "2", "2-378")),
  *(f"ViT-SO400M-16-SigLIP2-{size}" for size in (256, 384, 512)),
  "ViT-B-32-SigLIP2-256", "ViT-gopt-16-SigLIP2-256", "ViT-gopt-16-SigLIP2-384",
)  # fmt: skip
OPEN_CLIP = {
  "ViT-B-32/laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
  "ViT-B-32/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
  "ViT-B-32/laion400m_e32": "timm/vit_base_patch32_clip_224.laion400m_e32",
  "ViT-B-32/metaclip_400m": "timm/vit_base_patch32_clip_224.metaclip_400m",
  "ViT-B-32/metaclip_fullcc": "timm/vit_base_patch32_clip_224.metaclip_2pt5b",
  "ViT-B-16/laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
  "ViT-B-16/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
  "ViT-B-16/laion400m_e32": "timm/vit_base_patch16_clip_224.laion400m_e32",
  "ViT-B-16/dfn2b": "apple/DFN2B-CLIP-ViT-B-16",
  "ViT-L-14/laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
  "ViT-L-14/datacomp_xl_s13b_b90k": "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
  "ViT-L-14/laion400m_e32": "timm/vit_large_patch14_clip_224.laion400m_e32",
  "ViT-L-14/dfn2b": "apple/DFN2B-CLIP-ViT-L-14",
  "ViT-H-14/laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
  "ViT-H-14/dfn5b": "apple/DFN5B-CLIP-ViT-H-14",
  "ViT-g-14/laion2b_s34b_b88k": "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
  "ViT-bigG-14/laion2b_s39b_b160k": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
  **{f"{name}/webli": f"timm/{name}" for name in _SIGLIP},
}
"""Model and tag to the repository of the hub that holds open_clip_config.json and the weights."""

HF = (
  "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14",
  "openai/clip-vit-large-patch14-336", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
  "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "google/siglip-base-patch16-224", "google/siglip-so400m-patch14-384",
  "google/siglip2-base-patch16-224",
)  # fmt: skip
"""Some repositories that hold a CLIPModel or a SiglipModel; every other one can be named too."""

FILES = {
  "hf": (
    ("preprocessor_config.json", None),
    ("merges.txt", None),
    ("tokenizer.json", None),
    ("spiece.model", None),
    ("tokenizer.model", None),
    ("vocab.json", None),
    ("tokenizer_config.json", None),
    ("special_tokens_map.json", None),
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
  ),
  "open_clip": (
    ("merges.txt", None),
    ("tokenizer.json", None),
    ("tokenizer_config.json", None),
    ("special_tokens_map.json", None),
    ("open_clip_config.json",),
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
  ),
}
"""What a repository must hold: of each row the first that is there; None: it may be absent.

Fetched in this order: the weights come last, so that a folder that has them was not broken off.
"""


@dataclasses.dataclass(frozen=True)
class Published:
  """A published name, taken apart.

  Attributes:
    name: as the user wrote it.
    format: of the files, a key of interop.FORMATS.
    url: of a single file, or None.
    repository: ORG/NAME of the hub, or None.
    revision: of the repository.
  """

  name: str
  format: str
  url: str | None = None
  repository: str | None = None
  revision: str = "main"

  @property
  def place(self) -> epath.Path:
    """Where its copy lies: a file or a folder."""
    if self.url:
      return cache() / self.format / self.url.rpartition("/")[2]
    return cache() / self.format / str(self.repository).replace("/", "--") / self.revision


def cache() -> epath.Path:
  """The folder of all copies."""
  return epath.Path(os.environ.get("VLJAX_CACHE") or "~/.cache/vljax").expanduser()


def list_published() -> list[str]:
  """Names that can be loaded; further ones of the form hf:ORG/NAME can be too."""
  return [*(f"openai:{n}" for n in OPENAI), *(f"open_clip:{n}" for n in OPEN_CLIP), *(f"hf:{n}" for n in HF)]


def is_published(source: Any) -> bool:
  """Whether a source is a published name rather than a path."""
  return isinstance(source, str) and re.match(r"(openai|open_clip|hf):(?!//)", source) is not None


def find(name: str) -> Published:
  """A published name, taken apart.

  Raises:
    ValueError: an unknown one, with the nearest.
  """
  kind, _, rest = name.partition(":")
  if kind == "openai":
    known = {n.lower(): n for n in OPENAI}
    model = known.get(rest.lower().replace("/", "-").replace("@", "-").removesuffix("px"), rest)
    return Published(name, "openai", url=config.choose("published name openai:", model, OPENAI))
  if kind == "open_clip":
    known = {n.lower(): n for n in OPEN_CLIP}
    model = known.get(rest.lower(), rest)
    return Published(name, "open_clip", repository=config.choose("published name open_clip:", model, OPEN_CLIP))
  repository, _, revision = rest.partition("@")
  if kind != "hf" or not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or ".." in repository:
    raise ValueError(f"unknown published name {name!r}; legal: hf:ORG/NAME, {', '.join(list_published())}")
  return Published(name, "hf", repository=repository, revision=revision or "main")


def fetch(entry: Published) -> epath.Path:
  """The local copy of a published checkpoint, downloaded with its hash checked if there is none.

  Raises:
    FileNotFoundError: no copy and no network; says which file to fetch and where to put it.
    ValueError: a file whose hash is not the published one.
  """
  return _fetch_file(entry) if entry.url else _fetch_repository(entry)


def _fetch_file(entry: Published) -> epath.Path:
  url, place = str(entry.url), entry.place
  expected = url.split("/")[-2]
  if not place.exists():
    _download(entry, url, place, expected)
  else:
    _verify(place, expected)
  return place


def _verify(place: epath.Path, expected: str) -> None:
  """Check a file that somebody put into the cache, once: its hash is then kept beside it."""
  known = place.parent / f"{place.name}.sha256"
  if known.exists() and known.read_text().strip() == expected:
    return
  found = _hash(place, expected)
  if found != expected:
    raise ValueError(f"{place} has sha256 {found}, the published file has {expected}; delete it")
  known.write_text(expected + "\n")


def _hash(file: epath.Path, expected: str) -> str:
  """Of the kind that is expected: the sha256, or git's sha1 of the file as a blob."""
  digest = hashlib.sha256() if len(expected) == 64 else hashlib.sha1(f"blob {file.stat().length}\0".encode())
  with file.open("rb") as content:
    while block := content.read(BLOCK):
      digest.update(block)
  return digest.hexdigest()


def _fetch_repository(entry: Published) -> epath.Path:
  wanted, place = FILES[entry.format], entry.place
  required = [names for names in wanted if None not in names]
  if all(any(_is_whole(place / str(name)) for name in names) for names in required):
    return place
  listing = _listing(entry, required)
  for names in required:
    if not any(name in listing for name in names):
      raise ValueError(f"{entry.name}: {hub()}/{entry.repository} holds none of {', '.join(map(str, names))}")
  for names in wanted:
    name = next(n for n in names if n in listing or n is None)
    if name is not None:
      _fetch_hub_file(entry, name, listing)
      for shard in _shards(place / name):
        _fetch_hub_file(entry, shard, listing)
  return place


def _is_whole(file: epath.Path) -> bool:
  """Whether a file is there, with all shards that it names if it is their index."""
  return file.exists() and all((file.parent / shard).exists() for shard in _shards(file))


def _shards(file: epath.Path) -> list[str]:
  if not file.name.endswith(".index.json"):
    return []
  return sorted({epath.Path(shard).name for shard in json.loads(file.read_text())["weight_map"].values()})


def _fetch_hub_file(entry: Published, name: str, listing: dict[str, str]) -> None:
  if not (entry.place / name).exists():
    if name not in listing:
      raise ValueError(f"{entry.name}: {hub()}/{entry.repository} lacks {name}")
    _download(entry, _address(entry, name), entry.place / name, listing[name])


def _listing(entry: Published, required: Sequence[Sequence[str | None]]) -> dict[str, str]:
  """File name to its published hash: sha256 of large files, git's sha1 of small ones."""
  url = f"{hub()}/api/models/{entry.repository}/tree/{entry.revision}"
  try:
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
      raise OSError("HF_HUB_OFFLINE is set")
    with urllib.request.urlopen(url, timeout=30) as reply:
      items = json.loads(reply.read())
    return {item["path"]: (item.get("lfs") or item)["oid"] for item in items if item.get("type") == "file"}
  except (OSError, ValueError, KeyError, TypeError) as error:
    files = " and ".join(_address(entry, str(names[0])) for names in required)
    raise FileNotFoundError(
      f"{entry.name} is not cached, and {url} cannot be read ({error}); fetch {files} and put them into {entry.place}/"
    ) from error


def _address(entry: Published, name: str) -> str:
  return f"{hub()}/{entry.repository}/resolve/{entry.revision}/{name}"


def hub() -> str:
  """The address of the Hugging Face hub, $HF_ENDPOINT where it is set."""
  return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def _download(entry: Published, url: str, place: epath.Path, expected: str) -> None:
  """Write `url` to `place`, all or nothing; of several processes that do so the first one wins.

  Args:
    expected: the sha256, or git's sha1 of the file as a blob.
  """
  place.parent.mkdir(parents=True, exist_ok=True)
  partial = place.parent / f"{place.name}.{uuid.uuid4().hex}.partial"
  logging.info("downloading %s to %s", url, place)
  try:
    _receive(entry, url, partial, place)
    found = _hash(partial, expected)
    if found != expected:
      raise ValueError(f"{url} was downloaded with hash {found}, the published one is {expected}")
    if not place.exists():
      partial.replace(place)
      if len(expected) == 64:
        (place.parent / f"{place.name}.sha256").write_text(expected + "\n")
  finally:
    partial.unlink(missing_ok=True)


def _receive(entry: Published, url: str, partial: epath.Path, place: epath.Path) -> None:
  try:
    with urllib.request.urlopen(url, timeout=30) as reply, partial.open("wb") as file:
      shutil.copyfileobj(reply, file, BLOCK)
  except (OSError, http.client.HTTPException) as error:
    raise FileNotFoundError(
      f"{entry.name} is not cached, and {url} cannot be read ({error}); fetch it and put it at {place}"
    ) from error
