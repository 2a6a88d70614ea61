"""Sounds for tests: synthetic ones, and the archives that a checkout may have beside it."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
RATE = 16000


def tone(seconds: float = 0.25, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    """A sine at half of full scale, float32."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def encode(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str = "PCM_16"):
    """The bytes of a sound file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def write_classes(folder: Path, classes: dict[str, int], **options) -> None:
    """A directory per class with that many tones, each of another pitch and length."""
    for c, (label, count) in enumerate(classes.items()):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            samples = tone(0.05 + 0.01 * i, frequency=300 + 100 * c + 10 * i, **options)
            (folder / label / f"{i}.wav").write_bytes(encode(samples))


def archive(name: str) -> Path:
    """A file of the folder that GRU_AUDIO_TEST_ARCHIVES names; skips the test without it."""
    folder = Path(os.environ.get("GRU_AUDIO_TEST_ARCHIVES", ROOT.parent / "shared" / "data"))
    found = sorted(folder.glob(name))
    if not found:
        pytest.skip(f"no {name} in {folder}: set GRU_AUDIO_TEST_ARCHIVES")
    return found[0]
