"""A small data set of sound events: songs of tones, each with its onset, offset and class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gru_audio.data.source import Source
from tests.prepared import prepared, write_tar
from tests.sounds import encode
from tests.tones import RATE

PITCHES = {"low": 400.0, "middle": 800.0, "high": 1600.0}  # Hz
SPLITS = {"train": 16, "validation": 8, "test": 6}  # songs

SONGS: Mapping[str, Any] = {  # changes of `tests.tones.TINY`
    "data.name": "birdsong",
    "data.target": "events",
    "data.cluster": "",
    "data.crop_seconds": 0.5,
    "task.name": "events",
    "task.collar_ms": 50.0,
}


def write_songs(folder: Path) -> Source:
    """Prepares songs of 1 to 2 s: silence and tones of 60 to 200 ms."""
    rng, files, rows, number = np.random.default_rng(0), {}, [], 0
    listed = ["filename,split,events"]
    for split, count in SPLITS.items():
        for _ in range(count):
            name, seconds, onset, events = f"{number}.wav", rng.uniform(1, 2), 0.1, 0
            sound = 0.01 * rng.standard_normal(round(seconds * RATE))
            while (offset := onset + rng.uniform(0.06, 0.2)) < seconds:
                label = str(rng.choice(list(PITCHES)))
                begin, end = round(onset * RATE), round(offset * RATE)
                time = np.arange(end - begin) / RATE
                sound[begin:end] += 0.3 * np.sin(2 * np.pi * PITCHES[label] * time)
                rows.append(f"{name}\t{onset:.4f}\t{offset:.4f}\t{label}\n")
                onset, events = offset + rng.uniform(0.03, 0.1), events + 1
            files[f"songs/audio/{name}"] = encode(sound, RATE)
            listed.append(f"{name},{split},{events}")
            number += 1
    files["songs/files.csv"] = "\n".join(listed).encode()
    files["songs/annotations.tsv"] = (
        "filename\tonset\toffset\tevent_label\n" + "".join(rows)
    ).encode()
    archive = write_tar(folder / "songs.tar.gz", files)
    return prepared("birdsong", folder, archive=archive, sample_rate=RATE)
