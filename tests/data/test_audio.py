import io
import wave

import numpy as np
import pytest

from vljax.data import audio


def sine(hertz, rate, seconds=0.5):
  return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize(("width", "tolerance"), [(1, 2**-7), (2, 2**-15), (3, 2**-22), (4, 2**-22)])
def test_wav_of_every_width_and_two_channels(width, tolerance):
  x = 0.5 * sine(440, 8000, 0.1)
  integers = np.round(x.astype(np.float64) * 2 ** (8 * width - 1)).astype("<i8")
  if width == 1:
    raw = (integers + 128).astype(np.uint8)[:, None]
  else:
    raw = integers.view(np.uint8).reshape(-1, 8)[:, :width]
  both = np.concatenate([raw, raw], axis=1).tobytes()
  buffer = io.BytesIO()
  with wave.open(buffer, "wb") as file:
    file.setparams((2, width, 8000, 0, "NONE", ""))
    file.writeframes(both)
  found, rate = audio.read_wav(buffer.getvalue())
  assert rate == 8000
  np.testing.assert_allclose(found, x, atol=tolerance)


def test_writing_and_reading_agree_and_damage_is_named():
  x = 0.7 * sine(300, 16_000, 0.05)
  found, rate = audio.read_wav(audio.write_wav(x, 16_000))
  assert rate == 16_000
  np.testing.assert_allclose(found, x, atol=1e-4)
  with pytest.raises(ValueError, match="5 bytes are no PCM WAV file"):
    audio.read_wav(b"RIFF!")
  with pytest.raises(ValueError, match="without samples"):
    audio.read_wav(audio.write_wav(x[:0], 16_000))


@pytest.mark.parametrize(("rate", "to"), [(22_050, 16_000), (8_000, 16_000), (48_000, 16_000)])
def test_resampling_keeps_a_tone_and_takes_off_what_would_alias(rate, to):
  found, expected = audio.resample(sine(700, rate), rate, to), sine(700, to)
  assert abs(len(found) - len(expected)) <= 1
  np.testing.assert_allclose(found[100:-100], expected[100 : len(found) - 100], atol=0.01)
  if rate > to:
    high = audio.resample(sine(0.98 * rate / 2, rate), rate, to)
    assert np.abs(high[100:-100]).max() < 0.02


def test_fbank_finds_the_bin_of_a_tone():
  energy = audio.fbank(sine(1000, 16_000), bins=40).mean(0)
  edges = np.linspace(audio.mel(20), audio.mel(8000), 42)
  assert np.argmax(energy) == np.argmin(np.abs(edges[1:-1] - audio.mel(1000)))
  assert audio.fbank(np.zeros(399)).shape == (0, 128)
  np.testing.assert_allclose(audio.fbank(np.zeros(400)), np.log(audio.EPSILON))


def test_windows_are_spread_evenly_or_drawn():
  assert audio.starts(100, 20, 3) == (0, 40, 80)
  assert audio.starts(100, 20, 1) == (40,)
  assert audio.starts(10, 20, 2) == (0, 0)
  drawn = {audio.starts(12, 10, 1, np.random.default_rng(i))[0] for i in range(40)}
  assert drawn == {0, 1, 2}
  np.testing.assert_array_equal(audio.cut(np.arange(4), 2, 4, fill=-1), [2, 3, -1, -1])
