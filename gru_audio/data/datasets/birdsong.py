"""Songs of a Bengalese finch with annotated syllables; users must provide the files.

Koumura and Okanoya 2016, "Automatic Recognition of Element Classes and Boundaries in the Birdsong
with Variable Sequences" (doi 10.1371/journal.pone.0159188; data: doi 10.6084/m9.figshare.3470165).
Labels of syllables have a meaning for one bird only, so a data set has the songs of one bird.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets import event_lists
from gru_audio.data.datasets.clips import SKIP, SPLITS, Clip, ClipBuilder
from gru_audio.data.datasets.tables import Row, read_table
from gru_audio.data.fields import Event, EventsField
from gru_audio.settings import UserError

LIST, ANNOTATIONS = "files.csv", "annotations.tsv"


class Birdsong(ClipBuilder):
    """Birdsong: the syllables of a Bengalese finch, with onset, offset and class.

    The splits are those of files.csv in the archive. They are not the splits of published results.
    """

    VERSION = tfds.core.Version("1.0.0")
    fields = dict.fromkeys(("events",), EventsField)
    homepage = "https://doi.org/10.6084/m9.figshare.3470165.v1"
    licence = "CC BY 4.0"

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str,
        verify: bool = True,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive`: audio/, files.csv and annotations.tsv.

        Args:
          archive: a tar, zip or folder. files.csv has the columns filename, split and events, the
            number of events. annotations.tsv has filename, onset, offset and event_label.
          verify: refuse annotations that have another number of events than files.csv states.
        """
        super().__init__(data_dir=data_dir, sample_rate=sample_rate, on_bad_file=on_bad_file)
        self._archive, self._verify = archive, verify

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        root = archives.unpack(self._archive, scratch)
        rows = read_table(root / LIST, ("filename", "split", "events"))
        names = [row["filename"] for row in rows]
        events, remarks = event_lists.read(root / ANNOTATIONS, names)
        self.remarks += remarks
        if self._verify:
            _check_counts(rows, events)
            self.verified = f"the number of events of each file is that in {LIST}"
        return [_clip(row, events.get(row["filename"], ()), root) for row in rows]


def _check_counts(rows: Sequence[Row], events: Mapping[str, Sequence[Event]]) -> None:
    for row in rows:
        name, count = row["filename"], len(events.get(row["filename"], ()))
        if row["events"] != str(count):
            raise UserError(
                f"{name} has {count} events, but {LIST} states {row['events']}. To prepare it "
                "anyway, pass --noverify."
            )


def _clip(row: Row, events: Sequence[Event], root: Path) -> Clip:
    name, split = row["filename"], row["split"]
    if split not in SPLITS:
        raise UserError(f'{LIST}: {name} is in "{split}", but the splits are {", ".join(SPLITS)}.')
    read = functools.partial(decode, root / "audio" / name, name=name)
    return Clip(name, split, {"events": events}, read)
