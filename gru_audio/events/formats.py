"""Writes lists of sound events as other programs read them."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from gru_audio.data.fields import Event, clean

DCASE_COLUMNS = ("filename", "onset", "offset", "event_label")


def dcase(events: Mapping[str, Iterable[Event]]) -> str:
    """Returns a table of the events of recordings, with the columns of the DCASE challenges.

    A recording without events has a row with its name alone. Names with a tab or a line break are
    quoted. Times have a resolution of 1 ms.

    Args:
      events: the events by the names of the recordings.
    """
    rows = (dcase_rows(name, [*of_name]) for name, of_name in events.items())
    return "\t".join(DCASE_COLUMNS) + "\n" + "".join(rows)


def dcase_rows(name: str, events: Sequence[Event]) -> str:
    """Returns the rows of one recording, see `dcase`."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    if "\r" in name:  # Python before 3.13 quotes a carriage return only with all values
        writer = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
    rows = [(name, f"{on:.3f}", f"{off:.3f}", label) for on, off, label in events]
    writer.writerows(rows or [(name, "", "", "")])
    return text.getvalue()


def audacity(events: Iterable[Event]) -> str:
    """Returns the events of one recording as a label track of Audacity.

    White space in labels becomes single spaces, because a label track has no quotes.
    """
    return "".join(f"{on:.6f}\t{off:.6f}\t{clean(label)}\n" for on, off, label in events)


class Format(NamedTuple):
    """A format of lists of events.

    Attributes:
      rows: returns the rows of events of a recording from its name and the events.
      single: whether rows do not contain the name, so that a list has one recording.
    """

    rows: Callable[[str, Sequence[Event]], str]
    single: bool


FORMATS = {
    "dcase": Format(dcase_rows, single=False),
    "audacity": Format(lambda name, events: audacity(events), single=True),
}
