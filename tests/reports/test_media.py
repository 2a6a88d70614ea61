import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest
import soundfile

from gru_audio.reports import media


def decoded(uri, kind):
    head, _, data = uri.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(data))


@pytest.mark.parametrize(("rate", "played"), [(8000, 8000), (16000, 16000), (10000, 11025)])
def test_a_sound_keeps_its_pitch_and_length(rate, played):
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.int16)
    sound, its_rate = soundfile.read(decoded(media.mp3(tone, rate), "audio/mpeg"))
    assert its_rate == played
    assert len(sound) == pytest.approx(played, rel=0.2)  # an encoder adds frames at both ends
    spectrum = np.abs(np.fft.rfft(sound[: played // 2]))
    assert np.argmax(spectrum) * 2 == pytest.approx(440, abs=4)


def test_five_seconds_of_noise_are_small():
    noise = np.random.default_rng(0).integers(-20000, 20000, 5 * 16000).astype(np.int16)
    assert len(media.mp3(noise, 16000)) < 120_000
    assert len(media.shade(np.random.default_rng(0).random((256, 2000)))) < 120_000


def test_a_shade_is_as_opaque_as_its_values():
    values = np.random.default_rng(0).random((7, 12))
    picture = matplotlib.image.imread(decoded(media.shade(values), "image/png"))
    np.testing.assert_allclose(picture[..., 3], values, atol=0.5 / 31 + 1e-2)
    assert not picture[..., :3].any()


def test_a_large_shade_keeps_the_means_of_its_parts():
    values = np.random.default_rng(0).random((192, 1000))
    values[:96] /= 4
    picture = matplotlib.image.imread(decoded(media.shade(values), "image/png"))[..., 3]
    assert picture.shape == (96, 500)
    expected = values.reshape(96, 2, 500, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(picture, expected, atol=0.5 / 31 + 1e-2)


def test_a_waveform_holds_every_sample():
    samples = np.random.default_rng(0).integers(-3000, 3000, 5000).astype(np.int16)
    samples[1234], samples[4321] = 30000, -32768  # 16 bits overflow easily
    heights = [float(y) for y in re.findall(r" ([\d.]+)", media.waveform(samples))]
    assert min(heights) == pytest.approx(50 - 48 * 30000 / 32768, abs=0.06)
    assert max(heights) == pytest.approx(98, abs=0.06)
    assert np.isfinite(heights).all()
    assert media.waveform(np.zeros(3, np.int16)).count("50.0") == 6
