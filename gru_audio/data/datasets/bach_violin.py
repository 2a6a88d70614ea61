"""Notes of a solo violin, cut out of recordings of Bach's BWV 1002, 1003 and 1006.

The recordings and the onsets, offsets and pitches are from the Bach Violin Dataset of Dong et al.
2022, "Deep Performer" (ICASSP, arXiv 2202.06034). The notes are estimated alignments of score and
recording, with a resolution of 16 ms; nobody has checked them by hand.
"""

import collections
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.datasets.tables import read_table
from gru_audio.data.fields import classes
from gru_audio.paths import local_path
from gru_audio.settings import UserError

# A movement of each player is for testing. The only movements for validation are those of players
# who then still have two for training.
TEST = ("john-garner_bwv1002_mov6", "minji-kim_bwv1003_mov3", "oliver-colbentson_bwv1006_mov6")
VALIDATION = ("john-garner_bwv1002_mov7", "oliver-colbentson_bwv1006_mov5")

_COLUMNS = ("recording", "onset", "offset", "pitch")
_TOGETHER = 0.02  # seconds: notes that overlap for longer sound together
_SHORTEST = 0.01  # of min_note_seconds


class Note(NamedTuple):
    """A note of a recording: onset and offset in seconds, and its MIDI number."""

    onset: float
    offset: float
    pitch: int


class BachViolin(ClipBuilder):
    """Bach Violin Dataset: single notes with their pitch, a MIDI number (69 is A4, 440 Hz).

    No recording is in two splits: a movement of each player is for testing. This is not a published
    split. Notes of chords are left out, as they have several pitches at a time.
    """

    VERSION = tfds.core.Version("1.0.0")
    fields = classes("pitch", "recording", "performer")
    homepage = "https://github.com/salu133445/bach-violin-dataset"
    licence = "per performer: CC BY 3.0 (Garner, Kim) or CC BY-NC 3.0 (Colbentson)"

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str,
        events: Path | str,
        min_note_seconds: float = 0.1,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive`, with recordings PERFORMER_WORK_MOVEMENT.ogg anywhere in it.

        Args:
          events: the notes, a table of recording, onset, offset (s) and pitch (MIDI number).
          min_note_seconds: shorter notes are left out.

        Raises:
          UserError: an option is invalid.
        """
        if not min_note_seconds >= _SHORTEST:
            raise UserError(
                f"--min_note_seconds must be at least {_SHORTEST:g}, not {min_note_seconds:g}."
            )
        self._archive, self._events = archive, local_path(events)
        self._shortest = min_note_seconds
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            min_note_seconds=min_note_seconds,
        )

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch)
        files = {path.stem: path for path in sorted(root.rglob("*.ogg"))}
        recordings = _notes(self._events)
        if missing := sorted(recordings.keys() - files.keys()):
            raise UserError(f"{self._archive} has no recording {missing[0]}.ogg.")
        found = []
        left_out: collections.Counter[str] = collections.Counter()
        for recording, notes in recordings.items():
            for note in notes:
                if note.offset - note.onset < self._shortest:
                    left_out["short notes"] += 1
                elif _in_chord(note, notes):
                    left_out["notes that sound together with others"] += 1
                else:
                    found.append(_clip(files[recording], recording, note))
        self.remarks += [f"Left out: {count} {what}." for what, count in left_out.items()]
        return found


def split_of(recording: str) -> str:
    """Returns the split of a recording; see `BachViolin`."""
    return "test" if recording in TEST else "validation" if recording in VALIDATION else "train"


def _notes(path: Path) -> dict[str, list[Note]]:
    """Reads the notes of each recording, in the order of their onsets."""
    notes: dict[str, list[Note]] = collections.defaultdict(list)
    for number, row in enumerate(read_table(path, _COLUMNS), 2):
        try:
            note = Note(float(row["onset"]), float(row["offset"]), int(row["pitch"]))
            valid = 0 <= note.onset <= note.offset < float("inf") and 0 <= note.pitch <= 127
        except ValueError:
            valid = False
        if not valid:
            raise UserError(
                f"{path}, line {number}: a note needs an onset, a later offset, and a pitch from "
                "0 to 127."
            )
        notes[row["recording"]].append(note)
    return {recording: sorted(of_it) for recording, of_it in notes.items()}


def _in_chord(note: Note, notes: Sequence[Note]) -> bool:
    """Returns whether other notes of the recording sound at the same time."""
    together = (
        min(note.offset, other.offset) - max(note.onset, other.onset) > _TOGETHER
        for other in notes
        if other is not note
    )
    return any(together)


def _clip(path: Path, recording: str, note: Note) -> Clip:
    name = f"{recording}@{note.onset:.3f}"
    return Clip(
        name=name,
        split=split_of(recording),
        labels={
            "pitch": str(note.pitch),
            "recording": recording,
            "performer": recording.partition("_")[0],
        },
        read=functools.partial(decode, path, name=name, start=note.onset, end=note.offset),
    )
