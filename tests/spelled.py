"""A small data set of spelled texts: each letter is a tone, and a space is a longer pause."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gru_audio.data.source import Source
from tests.prepared import prepared
from tests.sounds import encode
from tests.tones import RATE, tiny

NAME = "spelled"
PITCHES = {"A": 400.0, "B": 800.0, "C": 1600.0}  # Hz
LETTER, GAP, SPACE = 0.1, 0.04, 0.24  # seconds
WORDS = ("A", "B", "AB", "CA", "BCA")
CHANGES: dict[str, Any] = {  # to the config of the tones
    "data.name": NAME,
    "data.target": "text",
    "data.cluster": "",
    "task.name": "ctc",
    "model.hidden": 24,
    "optimizer.learning_rate": 0.02,
    "optimizer.clip_norm": 1.0,
    "train.batch_size": 20,
    "train.select": "validation/cer",
}
COUNTS = {"train": 60, "validation": 10, "test": 20}


def spoken(text: str, rng: np.random.Generator) -> np.ndarray:
    """The sound of a text, int16."""
    pieces = [np.zeros(int(rng.uniform(0.02, 0.1) * RATE))]
    for letter in text:
        length = SPACE if letter == " " else LETTER * rng.uniform(0.9, 1.1)
        time = np.arange(int(length * RATE)) / RATE
        pitch = PITCHES.get(letter, 0.0) * rng.uniform(0.97, 1.03)
        pieces += [0.3 * np.sin(2 * np.pi * pitch * time), np.zeros(int(GAP * RATE))]
    sound = np.concatenate(pieces)
    return np.rint((sound + 0.01 * rng.standard_normal(len(sound))) * 32767).astype(np.int16)


def texts(count: int, rng: np.random.Generator) -> list[str]:
    """Texts of one to three words."""
    return [" ".join(rng.choice(WORDS, rng.integers(1, 4))) for _ in range(count)]


def write_manifest(folder: Path, rows: Sequence[tuple[str, str]], seed: int = 0) -> Path:
    """Sound files of texts, and a table of them.

    Args:
      folder: where to write.
      rows: pairs of a split and a text.
      seed: of the sounds.
    """
    rng, lines = np.random.default_rng(seed), ["file,text,split"]
    for i, (split, text) in enumerate(rows):
        (folder / f"{i}.wav").write_bytes(encode(spoken(text, rng), RATE))
        lines.append(f"{i}.wav,{text},{split}")
    (folder / "texts.csv").write_text("\n".join(lines))
    return folder / "texts.csv"


def prepare_spelled(folder: Path) -> Source:
    """Prepares the data set in a folder, with its sounds."""
    rng = np.random.default_rng(0)
    rows = [(split, text) for split, count in COUNTS.items() for text in texts(count, rng)]
    manifest = write_manifest(folder, rows)
    given = {"manifest": manifest, "text": ["text"], "sample_rate": RATE}
    return prepared("manifest", folder, name=NAME, **given)


def config(**changes: Any) -> ConfigDict:
    """A config that learns to transcribe in some seconds."""
    return tiny(CHANGES | changes)
