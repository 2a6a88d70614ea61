"""Small piano rolls, as a MATLAB file like the published ones, and configs that foretell them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from gru_audio.data.datasets.polyphonic_music import KEYS

NAME = "jsb_chorales"
SPLITS = {"train": "traindata", "validation": "validdata", "test": "testdata"}

# Changes to `tests.tones.TINY`.
NEXT_STEP: Mapping[str, Any] = {
    "data.name": NAME,
    "data.target": "",
    "data.cluster": "",
    "frontend.name": "frames",
    "frontend.normalise": False,
    "task.name": "next_step",
    "model.output_bias": -3.0,
}

Rolls = Mapping[str, Sequence[np.ndarray]]  # of each split, (frames, 88) each


def made_rolls() -> Rolls:
    """Pieces of 5 to 40 frames: two voices, of which one climbs and one stays."""
    rng = np.random.default_rng(0)

    def piece() -> np.ndarray:
        frames = int(rng.integers(5, 41))
        roll, climbing, staying = np.zeros((frames, KEYS), np.uint8), *rng.integers(20, 40, 2)
        for frame in range(frames):
            roll[frame, [climbing + frame % 12, staying]] = 1
        return roll

    return {
        split: [piece() for _ in range(count)]
        for split, count in (("train", 30), ("validation", 6), ("test", 9))
    }


def write_rolls(path: Path, rolls: Rolls, compress: bool = True) -> None:
    """As the published files are: a row of cells for each split."""
    cells = {}
    for split, of_split in rolls.items():
        cells[SPLITS[split]] = np.empty((1, len(of_split)), object)
        cells[SPLITS[split]][0, :] = of_split
    scipy.io.savemat(path, cells, do_compression=compress)
