"""Sound that is still arriving: a file that grows while it is read, samples in a pipe."""

import io
import itertools
import os
import struct
import threading
import time

import numpy as np
import pytest

from gru_audio.audio.live import growing_wav, microphone, raw_pcm
from gru_audio.settings import UserError
from tests.sounds import encode, tone

RATE = 8000


def joined(blocks, frames: int) -> np.ndarray:
    """The first blocks that have so many frames together."""
    found, count = [], 0
    while count < frames:
        found.append(next(blocks))
        count += len(found[-1])
    return np.concatenate(found)


def without_length(data: bytes) -> bytes:
    """A WAV as its recorder leaves it until it ends."""
    at = data.index(b"data") + 4
    return data[:4] + bytes(4) + data[8:at] + bytes(4) + data[at + 4 :]


def with_format(layout: str, *values: int) -> bytes:
    """A WAV whose "fmt " chunk holds these values."""
    fields = struct.pack(layout, *values)
    sizes = struct.pack("<I", len(fields)), struct.pack("<I", 1000)
    return b"RIFF\0\0\0\0WAVEfmt " + sizes[0] + fields + b"data" + sizes[1] + bytes(1000)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_32", "FLOAT"])
def test_a_file_that_grows_is_read_as_it_comes(form, subtype, tmp_path):
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
        (b"fLaC" + bytes(100), "no WAV file"),
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
def test_what_cannot_be_followed(data, why, tmp_path):
    (tmp_path / "file.wav").write_bytes(data)
    with pytest.raises(UserError, match=why):
        growing_wav(tmp_path / "file.wav")
    with pytest.raises(UserError, match="No such file"):
        growing_wav(tmp_path / "absent.wav")


def test_raw_samples_end_with_the_pipe_and_half_a_sample_is_none():
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


def test_a_missing_microphone_or_package_is_said():
    with pytest.raises(UserError, match=r"sounddevice|PortAudio|No microphone"):
        microphone("a device that nobody has")
