"""Damaged sound files through `prepare`: each is refused with a reason or decoded, and honestly."""

import collections
import io

import numpy as np
import pytest
import scipy.io.wavfile
from etils import epath

from gru_audio.audio import containers
from gru_audio.data import index
from gru_audio.data.source import open_source
from tests.commands import run
from tests.reliability.damage import Whole, collection

RATE = 16000
SILENCE = 0.05  # seconds of zeros that are worth a question
# What encoders put before and behind the sound of an MP3, which only its Info header tells apart.
MP3_PADDING = 1105 + 2 * 1152  # samples


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.reliability)])
def test_malformed_sounds_are_refused_or_decoded_honestly(count, environment, tmp_path, outcome):
    folder, wholes = tmp_path / "sounds", {}
    (folder / "a" / "directory.wav").mkdir(parents=True)
    (folder / "directory.flac").mkdir()
    for name, data, whole in collection(seed=count, count=count):
        (folder / "a" / name).write_bytes(data)
        wholes[f"a/{name}"] = whole

    where = ["--name=damaged", "--folder", folder, "--data_dir", tmp_path]
    run(environment, "prepare", "folder", *where, f"--sample_rate={RATE}")
    source = open_source("damaged", tmp_path)
    described = index.read_description(index.versions(epath.Path(tmp_path), "damaged")[-1])
    skipped = dict(described["skipped"])
    assert set(skipped.values()) <= set(containers.REASONS)
    clips = dict(zip(source.columns[index.CLIP], range(len(source)), strict=True))
    assert skipped.keys() | clips.keys() == wholes.keys()
    assert skipped.keys().isdisjoint(clips.keys())
    for name, samples in zip(clips, source.signals(list(clips.values())), strict=True):
        check(samples, wholes[name], (folder / name).read_bytes(), name)

    reasons = collections.Counter(skipped.values())
    shown = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    outcome("malformed sound file", count, f"{len(clips)} decoded, the others refused: {shown}")


def check(samples: np.ndarray, whole: Whole, data: bytes, name: str) -> None:
    """What was decoded is no longer than the whole, and silent only where the data are."""
    padding = MP3_PADDING / whole.rate if whole.form == "MP3" else 0.0
    assert len(samples) <= np.ceil((whole.seconds + padding) * RATE), name
    silence = zeros(samples) / RATE
    if silence > max(SILENCE, padding):
        assert data[:4] == b"RIFF", name  # whose samples lie open, for another reader to find it
        assert silence <= longest_silence(data) + SILENCE, name


def longest_silence(data: bytes) -> float:
    """Seconds, of a WAV, by SciPy, in which a 16-bit sample rounds to zero."""
    rate, samples = scipy.io.wavfile.read(io.BytesIO(data))
    full = {np.dtype("u1"): 128, np.dtype("i2"): 2**15, np.dtype("i4"): 2**31}
    centred = samples.astype(float) - (128 if samples.dtype == np.uint8 else 0)
    scaled = centred / full.get(samples.dtype, 1) * 2**15
    return zeros(np.rint(scaled.reshape(len(samples), -1).mean(axis=1))) / rate


def zeros(samples: np.ndarray) -> int:
    """The length of the longest run of exact zeros."""
    edges = np.flatnonzero(np.diff(samples == 0, prepend=False, append=False)).reshape(-1, 2)
    return int((edges[:, 1] - edges[:, 0]).max(initial=0))
