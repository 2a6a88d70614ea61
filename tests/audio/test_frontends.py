"""Frontends against librosa, and their independence of padding."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from gru_audio.audio.frontends import (
    Deltas,
    LogMel,
    Mfcc,
    Pcen,
    RawFrames,
    Stacked,
    make_frontend,
)
from gru_audio.audio.frontends.log_mel import hann, mel_bands
from gru_audio.audio.frontends.mfcc import cosine_transform
from gru_audio.settings import UserError


def log_mel(rate: int, n_fft: int, window: int, hop: int, **more) -> LogMel:
    """Makes a frontend with window and hop in samples."""
    return LogMel(rate, 1000 * window / rate, 1000 * hop / rate, n_fft, **more)


SETTINGS = {
    "16k": log_mel(16000, 512, 400, 160, mels=64, f_min=0.0, f_max=8000.0),
    "8k": log_mel(8000, 256, 200, 80, mels=40, f_min=60.0, f_max=3800.0),
    "odd": log_mel(22050, 600, 551, 331, mels=24, f_min=0.0, f_max=11025.0),
    "sparse": log_mel(8000, 128, 128, 200, mels=8, f_min=0.0, f_max=4000.0),
}


@functools.partial(jax.jit, static_argnums=0)
def run(frontend, waveform, lengths):
    return frontend(waveform, lengths)


@functools.partial(jax.jit, static_argnums=0)
def mel_power(frontend, waveform, lengths):
    return frontend.mel_power(waveform, lengths)


def sound(samples: int, rate: int) -> np.ndarray:
    """Returns a noisy chirp that fades from full scale to near silence, float32 (samples,)."""
    time = np.arange(samples) / rate
    chirp = np.sin(2 * np.pi * (100 + 0.2 * rate * time) * time)
    noise = np.random.default_rng(0).standard_normal(samples)
    return ((0.6 * chirp + 0.1 * noise) * np.exp(-6 * time)).astype(np.float32)


def librosa_mel(frontend: LogMel, waveform: np.ndarray) -> np.ndarray:
    return librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=frontend.sample_rate,
        n_fft=frontend.fft_size,
        win_length=frontend.window,
        hop_length=frontend.hop,
        n_mels=frontend.mels,
        fmin=frontend.f_min,
        fmax=frontend.highest,
        center=False,
        power=2.0,
        dtype=np.float64,
    ).T


@pytest.mark.parametrize("spectrum", ["fft", "matmul"])
@pytest.mark.parametrize("name", SETTINGS)
def test_log_mel_equals_librosa(name, spectrum):
    frontend = LogMel(**{**vars(SETTINGS[name]), "spectrum": spectrum})
    waveform = sound(frontend.sample_rate, frontend.sample_rate)
    expected = librosa_mel(frontend, waveform)
    batch, lengths = waveform[None], np.array([waveform.size])

    power = np.asarray(mel_power(frontend, batch, lengths)[0])
    np.testing.assert_allclose(power, expected, rtol=1e-3, atol=1e-9)

    features, frames = run(frontend, batch, lengths)
    np.testing.assert_allclose(features[0], np.log(np.maximum(expected, 1e-6)), rtol=0, atol=1e-4)
    assert features.shape[1:] == (frames[0], frontend.features) == expected.shape


def test_mfcc_equals_librosa():
    frontend = Mfcc(SETTINGS["16k"], coefficients=13)
    waveform = sound(16000, 16000)
    log_mel = np.log(np.maximum(librosa_mel(frontend.source, waveform), 1e-6))
    expected = librosa.feature.mfcc(S=log_mel.T, n_mfcc=13, dct_type=2, norm="ortho").T
    features, _ = run(frontend, waveform[None], np.array([waveform.size]))
    np.testing.assert_allclose(features[0], expected, rtol=0, atol=3e-4)


@pytest.mark.parametrize(
    "changes",
    [{}, {"gain": 0.8, "bias": 10.0, "power": 0.25, "smoothing": 0.1}, {"bias": 0.0, "gain": 0.0}],
    ids=lambda changes: "-".join(changes) or "default",
)
def test_pcen_equals_librosa(changes):
    frontend = Pcen(SETTINGS["16k"], **changes)
    waveform = sound(16000, 16000)
    power = librosa_mel(frontend.source, waveform)
    expected = librosa.pcen(
        power,
        gain=frontend.gain,
        bias=frontend.bias,
        power=frontend.power,
        b=frontend.smoothing,
        eps=frontend.source.floor,
        zi=(1 - frontend.smoothing) * power[:1],
        axis=0,
    )
    features, frames = run(frontend, waveform[None], np.array([waveform.size]))
    assert features.shape[1:] == (frames[0], frontend.features) == expected.shape
    np.testing.assert_allclose(features[0], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("reach", [1, 4])
def test_deltas_equal_librosa(reach):
    frontend = Deltas(SETTINGS["8k"], 2, reach)
    clips = [sound(8000, 8000), sound(1000, 8000), sound(300, 8000)]
    batch = np.full((3, 9000), 100.0, np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[: clip.size] = clip
    features, frames = run(frontend, batch, np.array([clip.size for clip in clips]))
    assert features.shape[2] == frontend.features == 3 * 40
    static, *derivatives = np.split(np.asarray(features), 3, axis=-1)
    for row, count in enumerate(frames):
        own = static[row, :count].astype(np.float64)
        for order, derivative in enumerate(derivatives, start=1):
            expected = librosa.feature.delta(
                own, width=2 * reach + 1, order=order, axis=0, mode="nearest"
            )
            np.testing.assert_allclose(derivative[row, :count], expected, rtol=1e-4, atol=1e-4)


def test_raw_frames_cut_the_waveform():
    waveform = np.arange(10, dtype=np.float32)[None]
    features, frames = run(RawFrames(16000, 3), waveform, np.array([10]))
    np.testing.assert_array_equal(features[0], np.arange(9).reshape(3, 3))
    assert frames[0] == 3


@pytest.mark.parametrize(
    "rate, n_fft, mels, f_min, f_max",
    [
        (16000, 512, 64, 0.0, 8000.0),
        (8000, 256, 40, 20.0, 4000.0),
        (44100, 2048, 128, 500.0, 16000.0),
        (16000, 400, 23, 1200.0, 7600.0),
    ],
)
def test_mel_bands_equal_librosa(rate, n_fft, mels, f_min, f_max):
    expected = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=mels, fmin=f_min, fmax=f_max, dtype=np.float64
    )
    bands = mel_bands(rate, n_fft, mels, f_min, f_max)
    np.testing.assert_allclose(bands, expected, rtol=1e-9, atol=1e-15)


def test_hann_equals_librosa():
    np.testing.assert_allclose(hann(400), librosa.filters.get_window("hann", 400), atol=1e-15)


def test_cosine_transform_is_orthonormal():
    matrix = cosine_transform(40, 40)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(40), atol=1e-12)


FRONTENDS = [
    SETTINGS["16k"],
    SETTINGS["sparse"],
    Mfcc(SETTINGS["8k"], 13),
    Pcen(SETTINGS["8k"]),
    RawFrames(16000, 160),
    Deltas(Mfcc(SETTINGS["8k"], 13), 2),
    Stacked(Mfcc(SETTINGS["8k"], 13), 3),
]


@pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: type(f).__name__)
def test_a_clip_in_a_padded_batch_has_the_features_that_it_has_alone(frontend):
    lengths = np.array([50, 100, 129, 400, 513, 3000])
    clips = [sound(n, 8000) for n in lengths]
    # The content of the padding must not matter, even if it is loud.
    batch = np.full((lengths.size, 4000), 100.0, np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[: clip.size] = clip
    features, frames = run(frontend, batch, lengths)
    assert np.isfinite(features).all()
    assert features.shape[1] == frontend.frames(4000)
    for row, clip, count in zip(features, clips, frames, strict=True):
        alone, alone_frames = run(frontend, clip[None], np.array([clip.size]))
        assert count == alone_frames[0] == alone.shape[1]
        np.testing.assert_allclose(row[:count], alone[0], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda f: type(f).__name__)
def test_silence_is_finite(frontend):
    features, _ = run(frontend, np.zeros((1, 2000), np.float32), np.array([2000]))
    assert np.isfinite(features).all()


@given(n_fft=st.integers(32, 2048), hop=st.integers(1, 3000), samples=st.integers(0, 100_000))
@settings(max_examples=200, deadline=None)
def test_counts_of_frames_and_samples_agree(n_fft, hop, samples):
    frontend = log_mel(16000, n_fft, n_fft, hop, mels=1, f_min=0.0, f_max=8000.0)
    frames = frontend.frames(samples)
    assert frames == max(1, 1 + (samples - n_fft) // hop)
    assert frontend.frames(frontend.samples(frames)) == frames
    assert frames == 1 or frontend.samples(frames) <= samples
    assert frontend.frames(frontend.samples(frames + 1) - 1) == frames
    for array in (np.array([samples], np.int32), jnp.array([samples])):
        counted = frontend.frames(array)
        assert type(counted) is type(array) or isinstance(counted, jax.Array)
        assert counted.dtype == np.int32
        assert counted[0] == frames


def test_frontends_can_be_static_arguments():
    assert Mfcc(SETTINGS["16k"], 13) == Mfcc(SETTINGS["16k"], 13)
    assert len({SETTINGS["16k"], SETTINGS["8k"], Mfcc(SETTINGS["16k"], 13)}) == 3


CONFIG = {
    "name": "log_mel",
    "window_ms": 25.0,
    "hop_ms": 10.0,
    "n_fft": None,
    "mels": 64,
    "coefficients": 13,
    "f_min": 0.0,
    "f_max": None,
    "floor": 1e-6,
    "pcen_gain": 0.98,
    "pcen_bias": 2.0,
    "pcen_power": 0.5,
    "pcen_smoothing": 0.025,
    "frame_size": 160,
    "deltas": 0,
    "delta_frames": 4,
}


def test_make_frontend_turns_milliseconds_into_samples():
    made = make_frontend(ConfigDict(CONFIG), 16000)
    assert (made.window, made.hop, made.fft_size, made.highest) == (400, 160, 512, 8000)
    mfcc = make_frontend(ConfigDict({**CONFIG, "name": "mfcc"}), 16000)
    assert mfcc == Mfcc(made, 13)
    assert make_frontend(ConfigDict({**CONFIG, "name": "raw"}), 16000) == RawFrames(16000, 160)
    assert make_frontend(ConfigDict({**CONFIG, "n_fft": 1024}), 16000).fft_size == 1024
    pcen = {"name": "pcen", "pcen_gain": 0.8, "pcen_smoothing": 0.1, "deltas": 1, "delta_frames": 2}
    expected = Deltas(Pcen(made, gain=0.8, smoothing=0.1), 1, 2)
    assert make_frontend(ConfigDict({**CONFIG, **pcen}), 16000) == expected


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "logmel"}, "log_mel"),
        ({"hop_ms": 0.0}, "hop_ms=.* is less than one sample"),
        ({"hop_ms": -10.0}, "hop_ms=.* is less than one sample"),
        ({"window_ms": 0.0}, "window_ms=0 is less than two samples"),
        ({"n_fft": 256}, "longer than the FFT of 256"),
        ({"f_max": 8001.0}, "f_max=8001 is above 8000 Hz"),
        ({"f_min": 8000.0}, r"must be in \[0, 8000\)"),
        ({"f_min": -1.0}, r"must be in \[0, 8000\)"),
        ({"mels": 0}, "mels=0 must be at least 1"),
        ({"floor": 0.0}, "floor=0.0 must be above 0"),
        ({"name": "mfcc", "coefficients": 65}, "must be between 1 and config.frontend.mels=64"),
        ({"name": "mfcc", "coefficients": 0}, "must be between 1 and config.frontend.mels=64"),
        ({"name": "raw", "frame_size": 0}, "frame_size=0 must be at least 1"),
        ({"deltas": 3}, "deltas=3 must be 0, 1 or 2"),
        ({"deltas": 1, "delta_frames": 0}, "delta_frames=0 must be at least 1"),
        ({"name": "pcen", "pcen_smoothing": 0.0}, r"pcen_smoothing=0.0 must be in \(0, 1\]"),
        ({"name": "pcen", "pcen_gain": -1.0}, "pcen_gain=-1.0 must be at least 0"),
    ],
)
def test_impossible_values_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        make_frontend(ConfigDict({**CONFIG, **change}), 16000)


def test_too_many_mel_bands_name_the_largest_number_that_fits():
    with pytest.raises(UserError, match=r"mels to (\d+), or raise") as caught:
        make_frontend(ConfigDict({**CONFIG, "mels": 200}), 16000)
    most = int(str(caught.value).split("mels to ")[1].split(",")[0])
    assert make_frontend(ConfigDict({**CONFIG, "mels": most}), 16000).features == most
    with pytest.raises(UserError, match=f"mels to {most}, or raise"):
        make_frontend(ConfigDict({**CONFIG, "mels": most + 1}), 16000)


def test_frames_need_no_frontend():
    """Frames of a data set are not changed."""
    ready = make_frontend(ConfigDict({**CONFIG, "name": "frames"}), 1, features=3)
    values, lengths = np.arange(24.0).reshape(2, 4, 3), np.array([4, 2])
    features, frames = ready(values, lengths)
    np.testing.assert_array_equal(features, values)
    np.testing.assert_array_equal(frames, lengths)
    assert (ready.features, ready.frames(7), ready.samples(7), ready.hop) == (3, 7, 7, 1)
    assert hash(ready) == hash(make_frontend(ConfigDict({**CONFIG, "name": "frames"}), 1, 3))


def test_deltas_of_ready_features():
    changes = {"name": "frames", "deltas": 1, "delta_frames": 1}
    frontend = make_frontend(ConfigDict({**CONFIG, **changes}), 1, features=2)
    values = np.array([[[1, 0], [2, 5], [5, 5], [9, 9]]], np.float32)
    features, frames = frontend(values, np.array([3]))
    assert (frontend.features, frames.tolist()) == (4, [3])
    np.testing.assert_array_equal(features[..., :2], values)
    np.testing.assert_allclose(features[0, :3, 2:], [[0.5, 2.5], [2, 2.5], [1.5, 0]], atol=1e-6)


def test_stacked_frames():
    """The last frame of a clip repeats where a stacked frame is not full."""
    changes = {"name": "frames", "stack": 2}
    frontend = make_frontend(ConfigDict({**CONFIG, **changes}), 100, features=1)
    values = np.array([[1, 2, 3, 99, 99], [4, 5, 6, 7, 8]], np.float32)[..., None]
    features, frames = frontend(values, np.array([3, 5]))
    assert (frontend.features, frontend.hop, frontend.centre) == (2, 2, 1.0)
    assert frames.tolist() == [2, 3]
    np.testing.assert_array_equal(features[0, :2], [[1, 2], [3, 3]])
    np.testing.assert_array_equal(features[1], [[4, 5], [6, 7], [8, 8]])
    for samples in range(1, 9):
        count = frontend.frames(samples)
        assert count == -(-samples // 2)
        assert frontend.samples(count) <= samples < frontend.samples(count + 1)


def test_centres_of_frames():
    """The centre of a stacked frame is the middle of the samples it covers."""
    log_mel = SETTINGS["8k"]
    assert log_mel.centre == log_mel.fft_size / 2
    covered = log_mel.samples(3)
    assert Stacked(log_mel, 3).centre == covered / 2
    assert Deltas(log_mel, 1).centre == log_mel.centre
    assert RawFrames(16000, 160).centre == 80


@pytest.mark.parametrize(
    ("name", "features", "message"),
    [
        ("frames", None, "holds sound: set config.frontend.name=one of log_mel, mfcc, pcen, raw"),
        ("log_mel", 88, "holds frames that need no frontend: set config.frontend.name=frames"),
        ("raw", 2, "holds frames that need no frontend: set config.frontend.name=frames"),
    ],
)
def test_a_frontend_that_does_not_suit_the_data_is_refused(name, features, message):
    with pytest.raises(UserError, match=message):
        make_frontend(ConfigDict({**CONFIG, "name": name}), 16000, features)
