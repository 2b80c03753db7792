"""The files of a stored tree: sealed JSON, and a list of all files by which a missing or changed one is named."""

import hashlib
import json
import zlib
from typing import Any

from etils import epath

LIST = "files.json"
SMALL = 2**16
"""Files up to this size have a checksum in the list; arrays in larger ones have their own (checkpoint.checksum)."""


class Damaged(ValueError):
  """Something that cannot be read or is not what was written; names the file or the leaf."""


def digest(value: Any) -> str:
  """The SHA-256 of a JSON value."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def seal(body: Any) -> dict[str, Any]:
  """A JSON value with its digest."""
  body = json.loads(json.dumps(body))
  return {"digest": digest(body), "body": body}


def unseal(file: epath.Path) -> Any:
  """The JSON value of a sealed file.

  Raises:
    Damaged: the file is missing, no JSON, or its value does not have the digest.
  """
  try:
    content = json.loads(file.read_text())
    body, expected = content["body"], content["digest"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise Damaged(f"{file} cannot be read: {type(error).__name__}") from error
  if digest(body) != expected:
    raise Damaged(f"{file} is damaged: its contents do not have the digest that it names")
  return body


def record(folder: epath.Path, parts: tuple[str, ...]) -> None:
  """List the files in these parts of a folder, in FOLDER/files.json."""
  listed = {str(file.relative_to(folder)): _fingerprint(file) for part in parts for file in _walk(folder / part)}
  (folder / LIST).write_text(json.dumps(seal(listed)))


def check(folder: epath.Path) -> None:
  """Check the files of a folder against its list; a list that is missing or damaged itself is passed over.

  Raises:
    Damaged: a file is missing, shorter or longer than it was, or (small ones) has other contents.
  """
  try:
    listed = unseal(folder / LIST)
  except Damaged:
    return
  for name, (size, crc) in listed.items():
    file = folder / name
    if not file.exists():
      raise Damaged(f"{file} is missing")
    found = _fingerprint(file)
    if found[0] != size:
      raise Damaged(f"{file} has {found[0]} bytes; {size} were written")
    if found[1] != crc:
      raise Damaged(f"{file} is damaged: its contents do not have the checksum that they were written with")


def _fingerprint(file: epath.Path) -> list[int | None]:
  size = file.stat().length
  return [size, zlib.crc32(file.read_bytes()) if size <= SMALL else None]


def _walk(folder: epath.Path) -> list[epath.Path]:
  if not folder.exists():
    return []
  found = []
  for path in sorted(folder.iterdir()):
    found += _walk(path) if path.is_dir() else [path]
  return found
