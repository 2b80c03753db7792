"""The filter bank against transformers' (the one that its AST model takes where torchaudio is absent)."""

import numpy as np
import pytest

from vljax.data import audio

pytestmark = pytest.mark.parity


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # the lowest triangles lie between two frequencies
@pytest.mark.parametrize(("bins", "rate"), [(128, 16_000), (40, 8_000)])
def test_fbank_is_kaldis(transformers, bins, rate):
  from transformers import audio_utils

  rng = np.random.default_rng(0)
  x = (0.1 * rng.standard_normal(rate) + np.sin(np.arange(rate) * 0.3) * np.linspace(0, 1, rate)).astype(np.float32)
  size, step = rate // 40, rate // 100
  padded = 1 << (size - 1).bit_length()
  mel = audio_utils.mel_filter_bank(
    num_frequency_bins=padded // 2 + 1,
    num_mel_filters=bins,
    min_frequency=20,
    max_frequency=rate // 2,
    sampling_rate=rate,
    norm=None,
    mel_scale="kaldi",
    triangularize_in_mel_space=True,
  )
  expected = audio_utils.spectrogram(
    x,
    audio_utils.window_function(size, "hann", periodic=False),
    frame_length=size,
    hop_length=step,
    fft_length=padded,
    power=2.0,
    center=False,
    preemphasis=0.97,
    mel_filters=mel,
    log_mel="log",
    mel_floor=1.192092955078125e-07,
    remove_dc_offset=True,
  ).T
  found = audio.fbank(x, rate, bins)
  assert found.shape == expected.shape == (98, bins)
  np.testing.assert_allclose(found, expected, atol=2e-3)
