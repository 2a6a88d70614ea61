"""Office sounds in scenes of two minutes, mixed from the material of DCASE 2016 task 2.

This is not the published task. Its scenes have the annotated onsets and classes, but other
recordings and other noise. Results must not be compared with published ones.

Lafay, Benetos and Lagrange 2017, "Sound Event Detection in Synthetic Audio: Analysis of the DCASE
2016 Task Results" (doi 10.1109/WASPAA.2017.8170023).
"""

import collections
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.signal
import tensorflow_datasets as tfds

from gru_audio.audio.io import Audio, BadAudio, decode, duration
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.clips import SKIP, SPLITS, Clip, ClipBuilder
from gru_audio.data.datasets.tables import read_table
from gru_audio.data.fields import Event, EventsField
from gru_audio.settings import UserError

SECONDS = 120  # of a scene
RECORDINGS = {"train": 12, "validation": 4, "test": 4}  # of each class, in the order of their names

_SCENE = re.compile(r"(dev_1|test_[123])_ebr_(-?\d+)_nec_\d_poly_[01]")
_SPLITS = {"dev_1": "validation", "test_1": "train", "test_2": "train", "test_3": "test"}
_CLASSES = {"keysDrop": "keys"}  # names of recordings that differ from those of annotations
_BACKGROUND = 0.01  # root mean square of the noise
_COLOUR = (
    0.9  # coefficient of the recursive filter that makes the noise stronger at low frequencies
)
_FADE = 0.01  # seconds at the end of a recording that is cut


class _Placed(NamedTuple):
    """A recording in a scene: its file, and where it is heard."""

    path: Path
    event: Event
    cut: bool


class Dcase2016Task2Remix(ClipBuilder):
    """DCASE 2016 task 2, remixed: 72 scenes of two minutes with overlapping office sounds.

    Not the published task. Recordings, not only scenes, are in one split only: the scenes of a
    split are mixed from 12, 4 or 4 of the 20 recordings of each class. Onsets and classes are those
    of the official annotations: test_1 and test_2 for training, dev_1 for validation, test_3 for
    testing. A recording that is longer than the annotated event is cut; a shorter one ends earlier.
    The name of a scene states the ratio of event to background in dB; the background is noise.
    """

    VERSION = tfds.core.Version("1.0.0")
    fields = dict.fromkeys(("events",), EventsField)
    homepage = "https://dcase.community/challenge2016/"

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str,
        seed: int = 0,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive`, a tar, zip or folder: train/, train.csv and annotations.tsv.

        Args:
          archive: train.csv has the columns filename and label. annotations.tsv has scene, onset,
            offset and event_label.
          seed: the seed for drawing recordings and noise.
        """
        super().__init__(
            data_dir=data_dir, sample_rate=sample_rate, on_bad_file=on_bad_file, seed=seed
        )
        self._archive, self._seed = archive, seed
        self.remarks.append("This is not the published task: never compare results with others.")

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch)
        recordings = _recordings(root)
        scenes: dict[str, list[Event]] = collections.defaultdict(list)
        columns = ("scene", "onset", "offset", "event_label")
        for row in read_table(root / "annotations.tsv", columns):
            try:
                event = Event(float(row["onset"]), float(row["offset"]), row["event_label"])
            except ValueError as error:
                raise UserError(f"annotations.tsv: {row['scene']}: {error}.") from error
            scenes[row["scene"]].append(event)
        clips = []
        for scene, events in sorted(scenes.items()):
            found = _SCENE.fullmatch(scene)
            if not found:
                raise UserError(f"annotations.tsv: {scene} is no scene of DCASE 2016 task 2.")
            split = _SPLITS[found[1]]
            # Scenes with the same annotations at other ratios have other recordings.
            key = (self._seed, *scene.encode())
            placed = _placed(sorted(events), recordings[split], np.random.PCG64(key))
            read = functools.partial(_mix, placed, float(found[2]), key)
            clips.append(Clip(scene, split, {"events": [each.event for each in placed]}, read))
        return clips


def _recordings(root: Path) -> Mapping[str, Mapping[str, Sequence[tuple[Path, float]]]]:
    """Returns path and duration in seconds of the recordings of each class in each split."""
    by_class: dict[str, list[Path]] = collections.defaultdict(list)
    rows = read_table(root / "train.csv", ("filename", "label"))
    for row in sorted(rows, key=lambda row: row["filename"]):
        label = _CLASSES.get(row["label"], row["label"])
        by_class[label].append(root / "train" / row["filename"])
    splits: dict[str, dict[str, list[tuple[Path, float]]]] = {split: {} for split in SPLITS}
    for label, paths in by_class.items():
        if len(paths) != sum(RECORDINGS.values()):
            raise UserError(f"train.csv has {len(paths)} recordings of {label}, not 20.")
        try:
            timed = [(path, duration(path)) for path in paths]
        except (BadAudio, OSError) as error:
            raise UserError(f"A recording of {label} cannot be used: {error}") from error
        first = 0
        for split, count in RECORDINGS.items():
            splits[split][label] = timed[first : first + count]
            first += count
    return splits


def _placed(
    events: Sequence[Event],
    recordings: Mapping[str, Sequence[tuple[Path, float]]],
    bits: np.random.PCG64,
) -> list[_Placed]:
    """Draws a recording for each annotated event."""
    rng = np.random.Generator(bits)
    placed = []
    for onset, offset, label in events:
        if label not in recordings:
            raise UserError(f"annotations.tsv: train.csv has no recordings of {label}.")
        of_class = recordings[label]
        path, seconds = of_class[int(rng.random() * len(of_class))]
        end = min(onset + seconds, offset, SECONDS)
        placed.append(_Placed(path, Event(onset, end, label), end < onset + seconds))
    return placed


def _mix(placed: Sequence[_Placed], ratio: float, key: tuple[int, ...], rate: int) -> Audio:
    """Mixes a scene at a sample rate in Hz; each event is `ratio` dB above the noise."""
    rng = np.random.Generator(np.random.PCG64((*key, 1)))
    noise = scipy.signal.lfilter([1.0], [1.0, -_COLOUR], rng.random(SECONDS * rate) - 0.5)
    scene = noise * (_BACKGROUND / _rms(noise))
    for path, (onset, offset, _), cut in placed:
        audio = decode(path, rate)
        start = round(onset * rate)
        samples = audio.samples[: round(offset * rate) - start].astype(np.float64)
        samples = samples[: len(scene) - start]
        samples *= _BACKGROUND * 10 ** (ratio / 20) / _rms(samples)
        if cut:
            fade = min(len(samples), round(_FADE * rate))
            samples[len(samples) - fade :] *= np.linspace(1, 0, fade)
        scene[start : start + len(samples)] += samples
    return Audio((32768 * scene).round().clip(-32768, 32767).astype(np.int16), rate, rate)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))
