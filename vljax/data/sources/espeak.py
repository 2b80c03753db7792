"""`espeak:`: the emoji of `openmoji:` with their names spoken by the synthesizer espeak-ng; synthetic speech."""

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np

from vljax.data.sources.openmoji import OpenMoji

PROGRAM = "espeak-ng"


class Espeak(OpenMoji):
  """Per emoji and voice one example: the fields of `openmoji:`, and `audio`, a WAV file of its name.

  The speech is synthetic: one formant synthesizer with other settings per voice. Examples of one emoji share its
  `base`, so that no voice of a held-out emoji is trained on. Sound is made when it is asked for and kept in memory.
  """

  def __init__(
    self,
    path: str = "",
    *,
    size: int = 64,
    lang: str = "en",
    voices: tuple[str, ...] = ("en-us", "en-gb", "en-us+f2", "en-gb+m3"),
    speed: int = 260,
  ):
    """`voices` as espeak-ng names them, `speed` in words a minute.

    Raises:
      FileNotFoundError: espeak-ng is not installed.
      ValueError: a speed that espeak-ng does not take, no voice; and as `openmoji:`.
    """
    super().__init__(path, size=size, lang=(lang,))
    find_program()
    if not 80 <= speed <= 450 or not voices:
      raise ValueError(f"espeak:?speed={speed}&voices={','.join(voices)}: legal: 80 to 450, and one voice or more")
    self.name, self.voices, self.speed = "espeak:", voices, speed

  def __len__(self) -> int:
    return len(self.emoji) * len(self.voices)

  def fields(self, index: int) -> dict[str, Any]:
    number, voice = divmod(index, len(self.voices))
    fields = super().fields(number)
    return fields | {"key": f"{fields['key']}-{self.voices[voice]}", "voice": self.voices[voice]}

  def captions(self, index: int, fields: Mapping[str, Any]) -> list[str]:
    return super().captions(index // len(self.voices), fields)

  def image(self, index: int) -> np.ndarray:
    return super().image(index // len(self.voices))

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = super().__getitem__(index)
    return example | {"audio": speak(example["captions"][0], example["voice"], self.speed)}


def find_program() -> str:
  """The path of espeak-ng.

  Raises:
    FileNotFoundError: it is not installed.
  """
  found = shutil.which(PROGRAM)
  if found is None:
    raise FileNotFoundError(f"source espeak: needs the program {PROGRAM}: apt-get install {PROGRAM}")
  return found


@functools.lru_cache(maxsize=65_536)
def speak(text: str, voice: str, speed: int) -> bytes:
  """A WAV file of 22,050 samples a second of a text.

  Raises:
    ValueError: espeak-ng does not know the voice.
  """
  command = [find_program(), "-v", voice, "-s", str(speed), "--stdin", "--stdout"]
  done = subprocess.run(command, input=text.encode(), capture_output=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
  if done.returncode or not done.stdout:
    raise ValueError(f"espeak-ng -v {voice} failed on {text!r}: {done.stderr.decode(errors='replace').strip()}")
  return with_lengths(done.stdout)


def with_lengths(data: bytes) -> bytes:
  """A WAV file whose header says how long it is; written to a pipe it could not."""
  at = data.index(b"data", 12)
  body = data[at + 8 :]
  sizes = (len(data) - 8).to_bytes(4, "little"), len(body).to_bytes(4, "little")
  return data[:4] + sizes[0] + data[8 : at + 4] + sizes[1] + body
