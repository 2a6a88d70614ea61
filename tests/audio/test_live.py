"""Sound in blocks: a file that grows while it is read, samples in a pipe, and windows."""

import io
import itertools
import os
import struct
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.audio.live import cut, growing_wav, microphone, raw_pcm
from gru_audio.settings import UserError
from tests.sounds import encode, tone

RATE = 8000


def joined(blocks, frames: int) -> np.ndarray:
    """Joins the first blocks until there are at least `frames` frames."""
    found, count = [], 0
    while count < frames:
        found.append(next(blocks))
        count += len(found[-1])
    return np.concatenate(found)


def without_length(data: bytes) -> bytes:
    """Removes the length from a WAV, as in one that is being recorded."""
    at = data.index(b"data") + 4
    return data[:4] + bytes(4) + data[8:at] + bytes(4) + data[at + 4 :]


def with_format(layout: str, *values: int) -> bytes:
    """A WAV whose "fmt " chunk holds these values."""
    fields = struct.pack(layout, *values)
    sizes = struct.pack("<I", len(fields)), struct.pack("<I", 1000)
    return b"RIFF\0\0\0\0WAVEfmt " + sizes[0] + fields + b"data" + sizes[1] + bytes(1000)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_32", "FLOAT"])
def test_a_growing_file_is_read(form, subtype, tmp_path):
    samples = np.stack([tone(0.5, RATE), tone(0.5, RATE, 600)], axis=1)
    data, path = without_length(encode(samples, RATE, form, subtype)), tmp_path / "growing.wav"

    def record():
        with path.open("ab", buffering=0) as file:
            for begin in range(0, len(data), 777):  # which ends within headers and frames
                file.write(data[begin : begin + 777])
                time.sleep(0.005)

    path.touch()
    recorder = threading.Thread(target=record)
    recorder.start()
    sound = growing_wav(path)
    heard = joined(sound.blocks, len(samples))
    recorder.join()
    assert sound.rate == RATE
    np.testing.assert_allclose(heard, samples, atol=2**-15)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"fLaC" + bytes(100), "not a WAV file"),
        (encode(tone(), subtype="ULAW"), "16 or 32 bits"),
        (encode(tone(), subtype="PCM_24"), "16 or 32 bits"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "contradictory header"),
        (b"RIFF\0\0\0\0WAVE" + bytes(100), "contradictory header"),
        (b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\x7f", "contradictory header"),
        (with_format("<HHIIHH", 1, 1, 0, 0, 2, 16), "contradictory header"),
        (with_format("<HHIIHH", 1, 1, 7, 14, 2, 16), "contradictory header"),
        (with_format("<HHIIHH", 1, 1, 2_000_000, 4_000_000, 2, 16), "contradictory header"),
        (with_format("<HHIIHH", 1, 0, 8000, 0, 0, 16), "contradictory header"),
        (with_format("<HHIIHH", 1, 65535, 8000, 65535 * 16000 % 2**32, 65534, 16), "contradictory"),
        (with_format("<HHIIHH", 1, 1, 8000, 32000, 4, 16), "contradictory header"),
        (with_format("<HHII", 1, 1, 8000, 16000), "contradictory header"),
        (with_format("<HHIIHHH", 0xFFFE, 1, 8000, 16000, 2, 16, 0), "contradictory header"),
    ],
)
def test_files_that_cannot_be_followed(data, why, tmp_path):
    (tmp_path / "file.wav").write_bytes(data)
    with pytest.raises(UserError, match=why):
        growing_wav(tmp_path / "file.wav")
    with pytest.raises(UserError, match="No such file"):
        growing_wav(tmp_path / "absent.wav")


def test_raw_samples_end_with_the_pipe_and_half_a_sample_is_dropped():
    samples = list(itertools.islice(itertools.cycle([0, 1, -1, 32767, -32768]), 999))
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        file.write(struct.pack("<999h", *samples) + b"\1")
    with open(reading, "rb") as file:
        sound = raw_pcm(file, RATE)
        heard = np.concatenate(list(sound.blocks))
    np.testing.assert_array_equal(heard, np.array(samples, np.float32)[:, None] / 32768)
    assert not list(raw_pcm(io.BytesIO(), RATE).blocks)


def test_the_rate_of_raw_samples_is_in_hz():
    with pytest.raises(UserError, match="Did you mean 16000"):
        raw_pcm(io.BytesIO(), 16)
    assert raw_pcm(io.BytesIO(), 16000.0).rate == 16000


def test_a_missing_microphone_or_package_is_reported():
    with pytest.raises(UserError, match=r"sounddevice|PortAudio|No microphone"):
        microphone("a device that nobody has")


@st.composite
def cuttings(draw):
    """Sound, the borders of its blocks, a window's size and a hop."""
    sound = np.arange(draw(st.integers(0, 60)), dtype=np.int16)
    borders = sorted(draw(st.lists(st.integers(0, len(sound)), max_size=6)))
    size = draw(st.integers(1, 20))
    return sound, borders, size, draw(st.integers(1, size))


@given(cuttings())
def test_windows_cover_the_sound_and_equal_its_parts(cutting):
    sound, borders, size, hop = cutting
    windows = list(cut(np.split(sound, borders), size, hop))
    covered = np.zeros(len(sound), bool)
    for window in windows:
        np.testing.assert_array_equal(window.samples, sound[window.start : window.end])
        covered[window.start : window.end] = True
    assert covered.all()


@given(cuttings())
def test_windows_have_equal_size_and_hop_and_the_last_ends_with_the_sound(cutting):
    sound, borders, size, hop = cutting
    windows = list(cut(np.split(sound, borders), size, hop))
    assert all(len(window.samples) == min(size, len(sound)) for window in windows)
    starts = [window.start for window in windows]
    assert starts[:-1] == [hop * i for i in range(len(starts))][:-1]
    assert all(0 < step <= hop for step in np.diff(starts))
    assert not windows or windows[-1].end == len(sound)


def test_at_most_a_window_and_a_block_are_stored():
    blocks = iter([np.zeros(10, np.int16)] * 5)
    windows = cut(blocks, 15, 5)
    assert next(windows).start == 0
    assert len(list(blocks)) == 3
