"""Sound: WAV files to waveforms, waveforms to log-mel spectrograms, and clips cut out of either."""

import functools
import io
import math
import wave

import numpy as np
from jaxtyping import Float

EPSILON = float(np.finfo(np.float32).eps)
LOWEST = 20.0
PREEMPHASIS = 0.97
ZEROS = 6
ROLLOFF = 0.99


def read_wav(data: bytes) -> tuple[Float[np.ndarray, "t"], int]:
  """(waveform in [-1, 1], the mean of its channels; samples per second) of a PCM WAV file of 8, 16, 24 or 32 bits.

  Raises:
    ValueError: not such a file, or one without a sample.
  """
  try:
    with wave.open(io.BytesIO(data)) as file:
      width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
      raw = file.readframes(file.getnframes())
  except (wave.Error, EOFError) as error:
    raise ValueError(f"{len(data)} bytes are no PCM WAV file: {error}") from error
  raw = raw[: len(raw) // (width * channels) * width * channels]
  if not raw:
    raise ValueError("a WAV file without samples")
  if width == 1:
    x = np.frombuffer(raw, np.uint8).astype(np.float32) / 128 - 1
  else:
    padded = np.zeros((len(raw) // width, 4), np.uint8)
    padded[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
    x = padded.view("<i4")[:, 0].astype(np.float32) / 2**31
  return x.reshape(-1, channels).mean(1), rate


def write_wav(x: Float[np.ndarray, "t"], rate: int) -> bytes:
  """A waveform in [-1, 1] as a WAV file of 16 bits and one channel."""
  buffer = io.BytesIO()
  with wave.open(buffer, "wb") as file:
    file.setparams((1, 2, rate, 0, "NONE", ""))
    file.writeframes((np.clip(x, -1, 1) * 32767).round().astype("<i2").tobytes())
  return buffer.getvalue()


def resample(x: Float[np.ndarray, "t"], rate: int, to: int) -> Float[np.ndarray, "u"]:
  """The waveform at another rate, low-passed at the smaller Nyquist frequency by a windowed sinc (6 zero crossings).

  Raises:
    ValueError: a rate that is not positive.
  """
  if rate < 1 or to < 1:
    raise ValueError(f"resample from {rate} to {to} samples a second; legal: 1 or more")
  if rate == to:
    return x
  common = math.gcd(rate, to)
  down, up = rate // common, to // common
  first, weights = _taps(down, up)
  index = np.arange(math.ceil(len(x) * up / down))
  taps = np.arange(weights.shape[1])
  padded = np.pad(np.asarray(x, np.float32), weights.shape[1])
  at = (index // up * down + first[index % up])[:, None] + taps + len(taps)
  return np.einsum("ut,ut->u", padded[np.minimum(at, len(padded) - 1)], weights[index % up])


@functools.lru_cache(maxsize=8)
def _taps(down: int, up: int) -> tuple[np.ndarray, np.ndarray]:
  """For each of the `up` outputs of a block: its first input, relative to the block's, and the inputs' weights."""
  cutoff = min(1.0, up / down) * ROLLOFF
  half = math.ceil(ZEROS / cutoff)
  center = np.arange(up) * down / up
  first = np.floor(center).astype(int) - half
  t = (first[:, None] + np.arange(2 * half + 2) - center[:, None]) * cutoff
  window = np.where(np.abs(t) < ZEROS, np.cos(np.pi * t / ZEROS / 2) ** 2, 0)
  return first, (np.sinc(t) * window * cutoff).astype(np.float32)


def mel(hertz: float | np.ndarray) -> np.ndarray:
  """Kaldi's scale of pitch, 1127 ln(1 + f / 700)."""
  return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


@functools.lru_cache(maxsize=8)
def filters(bins: int, size: int, rate: int) -> Float[np.ndarray, "k bins"]:
  """Triangles, equally wide in mel from 20 Hz to the Nyquist frequency, over the frequencies of a transform of `size`.

  Raises:
    ValueError: fewer than one bin.
  """
  if bins < 1:
    raise ValueError(f"bins = {bins} of a spectrogram; legal: 1 or more")
  edges = np.linspace(mel(LOWEST), mel(rate / 2), bins + 2)
  at = mel(np.arange(size // 2 + 1) * rate / size)[:, None]
  rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
  falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
  return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def fbank(
  x: Float[np.ndarray, "t"], rate: int = 16_000, bins: int = 128, length: float = 0.025, shift: float = 0.010
) -> Float[np.ndarray, "n bins"]:
  """log of the power in mel bins, of frames of `length` seconds every `shift` (Kaldi's filter bank, without dither).

  Of each frame: less its mean, x[i] - 0.97 x[i - 1], a symmetric Hann window, power spectrum, triangles; frames that
  would reach past the end are left out. The waveform's own mean is not taken off, which changes nothing.
  """
  size, step = round(rate * length), round(rate * shift)
  x = np.asarray(x, np.float32)
  if len(x) < size:
    return np.zeros((0, bins), np.float32)
  frames = np.lib.stride_tricks.sliding_window_view(x, size)[::step]
  frames = frames - frames.mean(1, keepdims=True)
  before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
  window = np.hanning(size).astype(np.float32)
  padded = 1 << (size - 1).bit_length()
  power = np.abs(np.fft.rfft((frames - PREEMPHASIS * before) * window, padded)) ** 2
  return np.log(np.maximum(power.astype(np.float32) @ filters(bins, padded, rate), EPSILON))


def starts(length: int, window: int, count: int, rng: np.random.Generator | None = None) -> tuple[int, ...]:
  """Where `count` windows begin in a signal: evenly spread from its start to its end, or at random; sorted."""
  last = max(0, length - window)
  if rng is not None:
    return tuple(sorted(int(i) for i in rng.integers(0, last + 1, count)))
  return (last // 2,) if count == 1 else tuple(round(i * last / (count - 1)) for i in range(count))


def cut(x: np.ndarray, start: int, window: int, fill: float = 0.0) -> np.ndarray:
  """`window` values of the first axis, filled up at the end where the signal is shorter."""
  x = x[start : start + window]
  return np.pad(x, [(0, window - len(x))] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
