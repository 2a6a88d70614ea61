"""Codes of samples, against the formulas in Python's floats."""

import math

import numpy as np
import pytest

from gru_audio.audio.frontends.samples import QUANTISATIONS, Samples, decode, encode
from gru_audio.settings import UserError

ALL = np.arange(-32768, 32768, dtype=np.int16)


def codes_of(samples, **settings):
    frontend = Samples(8000, **settings)
    codes, lengths = frontend(samples[None] / np.float32(32768), np.array([len(samples)]))
    assert lengths.tolist() == [len(samples)]
    return frontend, np.asarray(codes)[0]


def mu_law(sample, bits):
    """The code of a sample in [-1, 1]."""
    mu = 2**bits - 1
    companded = math.copysign(math.log(1 + mu * abs(sample)) / math.log(1 + mu), sample)
    return math.floor((companded + 1) / 2 * mu + 0.5)


@pytest.mark.parametrize("bits", [4, 8])
def test_mu_law(bits):
    samples = ALL[::61]
    _, codes = codes_of(samples, bits=bits)
    expected = [mu_law(sample / 32768, bits) for sample in samples.tolist()]
    # On the border of two codes, rounding may choose either.
    assert np.abs(codes[:, 0] - expected).max() <= 1
    assert np.mean(codes[:, 0] != expected) < 0.002


@pytest.mark.parametrize("quantisation", QUANTISATIONS)
@pytest.mark.parametrize("bits", [2, 8])
def test_the_sound_of_a_code_has_that_code(bits, quantisation):
    frontend = Samples(8000, bits, quantisation)
    codes = np.arange(frontend.levels)[:, None]
    sound = frontend.waveform(codes)
    np.testing.assert_array_equal(codes_of(sound, bits=bits, quantisation=quantisation)[1], codes)
    assert np.all(np.diff(sound.astype(int)) > 0)


def test_the_error_of_mu_law_is_relative_to_the_sample():
    x = ALL / 32768
    error = np.abs(decode(np.asarray(encode(x, 8, "mu_law")), 8, "mu_law") - x)
    half = math.log(256) / 255  # half a step of the companded sample, times its derivative
    assert np.all(error <= half * (np.abs(x) + 1 / 255) * 1.02)


def test_sixteen_linear_bits_lose_nothing():
    frontend, halves = codes_of(ALL, bits=16, quantisation="linear", split=True)
    assert halves.shape == (65536, 2) and halves.max() == 255 and frontend.levels == 256
    np.testing.assert_array_equal(frontend.waveform(halves), ALL)
    np.testing.assert_array_equal(halves @ [256, 1], ALL.astype(int) + 32768)


def test_halves_of_eight_bits():
    (_, whole), (frontend, halves) = codes_of(ALL[::99]), codes_of(ALL[::99], split=True)
    np.testing.assert_array_equal(halves @ [16, 1], whole[:, 0])
    np.testing.assert_array_equal(frontend.waveform(halves), Samples(8000).waveform(whole))


def test_the_padding_is_silence():
    codes, _ = Samples(8000)(np.full((1, 6), 0.5, np.float32), np.array([4]))
    assert codes[0, :, 0].tolist() == [codes[0, 0, 0]] * 4 + [128] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 5, "split": True}, "must be even"),
        ({"bits": 16}, "is more than 8: set config.frontend.split=True"),
    ],
)
def test_bits_that_fit_no_softmax_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Samples(8000, **settings)
