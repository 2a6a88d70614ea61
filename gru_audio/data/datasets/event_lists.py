"""Reads lists of sound events: tables, Audacity's label tracks, Raven's selection tables.

A table lists the events of all recordings in the columns file, onset, offset and label, or in those
of the DCASE challenges: filename, onset, offset and event_label, also without a header. A row with
a file alone means that the file has no events.

A folder has a file NAME.txt for each recording NAME: a label track of Audacity, or a selection
table of Raven, whose name may also be NAME.selections.txt or NAME.Table.1.selections.txt. A file
without labels means that the recording has no events.
"""

import collections
import csv
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.tables import Row, read_table
from gru_audio.data.datasets.user_files import below
from gru_audio.data.fields import Event, shorten
from gru_audio.files import read_text
from gru_audio.settings import UserError

_COLUMNS = ("file", "onset", "offset", "label")
_DCASE = ("filename", "onset", "offset", "event_label")
_BEGIN, _END, _SELECTION = "Begin Time (s)", "End Time (s)", "Selection"  # columns of Raven
_ANNOTATIONS = ("annotation", "annotations", "label", "species", "class", "type")
_RAVEN_SUFFIX = re.compile(r"(\.Table\.\d+)?(\.selections)?\.txt$")
_SHOWN = 3  # names in a message


def read(path: Path, names: Sequence[str]) -> tuple[dict[str, tuple[Event, ...]], list[str]]:
    """Reads the events of the named recordings. Events of one class that overlap are merged.

    Returns:
      The events of each recording that the list has; and remarks for the user.

    Raises:
      UserError: the list is invalid, or has none of these recordings.
    """
    if path.is_dir():
        known, others = _read_folder(path, names)
    else:
        events = _read_table(path)
        known = {name: events[name] for name in names if name in events}
        others = sorted(events.keys() - known.keys())
    if not known:
        what = f"lists {others[0]}" if others else "has no file NAME.txt"
        raise UserError(f"{path} {what}, but there is no clip of that name.")
    remarks = []
    if others:
        shown = shorten(others, _SHOWN)
        remarks.append(f"Files in the event list without a clip: {len(others)} ({shown}).")
    found = {name: merged(each) for name, each in known.items()}
    if count := sum(len(known[name]) - len(each) for name, each in found.items()):
        remarks.append(f"Overlapping events of one class that were merged: {count}.")
    return found, remarks


def fingerprint(path: Path) -> str:
    """Returns the SHA-256 of a list, or of the names and contents of the lists in a folder."""
    if not path.is_dir():
        return archives.sha256(path)
    lines = [f"{archives.sha256(file)}  {name}\n" for name, file in _lists(path).items()]
    return hashlib.sha256("".join(lines).encode("utf-8", "backslashreplace")).hexdigest()


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """Returns the sorted events; those of one class that overlap are one event.

    Events that touch stay apart. So do events with invalid times, which are reported later.
    """
    found: list[Event] = []
    last: dict[str, int] = {}  # index of the last event of each class
    for event in sorted(events):
        i = last.get(event.label)
        if i is not None and event.onset < found[i].offset and event.onset < event.offset:
            found[i] = found[i]._replace(offset=max(found[i].offset, event.offset))
        else:
            last[event.label] = len(found)
            found.append(event)
    return tuple(found)


def _read_table(path: Path) -> dict[str, tuple[Event, ...]]:
    first = next(csv.reader([_text(path).lstrip().partition("\n")[0]], delimiter="\t"), [])
    if len(first) == len(_DCASE) and _is_number(first[1]) and _is_number(first[2]):
        columns, rows = _DCASE, read_table(path, (), "\t", header=_DCASE)
    else:
        columns = _DCASE if {"filename", "event_label"} & set(_header(first)) else _COLUMNS
        rows = read_table(path, columns)
    events: dict[str, list[Event]] = collections.defaultdict(list)
    for number, row in enumerate(rows, 1):
        of_file = events[row[columns[0]]]
        cells = [row[column] for column in columns[1:]]
        if any(cells):
            of_file.append(_event(f"{path}, row {number}", *cells))
    return {file: tuple(found) for file, found in events.items()}


def _header(cells: Sequence[str]) -> list[str]:
    """Returns the names in the first line of a table with any delimiter."""
    return [name.strip().strip('"') for cell in cells for name in re.split("[,;]", cell)]


def _lists(folder: Path) -> dict[str, Path]:
    return {name: path for name, path in below(folder).items() if name.endswith(".txt")}


def _read_folder(
    folder: Path, names: Sequence[str]
) -> tuple[dict[str, tuple[Event, ...]], list[str]]:
    """Returns the events of recordings with a file in a folder, and the other files."""
    files: dict[str, str] = {}
    lists = _lists(folder)
    for name in lists:
        recording = _RAVEN_SUFFIX.sub("", name)
        if recording in files:
            raise UserError(
                f"{folder} has two lists of the same events: {files[recording]}, {name}"
            )
        files[recording] = name
    of_names = {name: files.get(str(PurePosixPath(name).with_suffix(""))) for name in names}
    known = {name: _read_file(lists[file]) for name, file in of_names.items() if file}
    return known, sorted(lists.keys() - set(of_names.values()))


def _read_file(path: Path) -> tuple[Event, ...]:
    lines = _text(path).splitlines()
    if not any(line.strip() for line in lines):
        return ()
    return _selections(path, lines) if _BEGIN in lines[0] else _labels(path, lines)


def _labels(path: Path, lines: Sequence[str]) -> tuple[Event, ...]:
    """Reads a label track: onset, offset and label. A line with a backslash has frequencies."""
    events = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("\\"):
            cells = [cell.strip() for cell in line.split("\t", 2)]
            events.append(_event(f"{path}, line {number}", *(*cells, "", "")[:3]))
    return tuple(events)


def _selections(path: Path, lines: Sequence[str]) -> tuple[Event, ...]:
    """Reads a selection table, which has a row for each view of a selection."""
    if not any(line.strip() for line in lines[1:]):
        return ()
    rows: Sequence[Row] = read_table(path, (_BEGIN, _END), "\t")
    column = _annotation(path, rows[0])
    events: dict[str, Event] = {}
    for number, row in enumerate(rows, 1):
        key = row.get(_SELECTION) or str(-number)
        events[key] = _event(f"{path}, row {number}", row[_BEGIN], row[_END], row[column])
    return tuple(events.values())


def _annotation(path: Path, row: Mapping[str, str]) -> str:
    by_name = {column.lower(): column for column in row}
    for name in _ANNOTATIONS:
        if name in by_name:
            return by_name[name]
    raise UserError(
        f"{path} has no column of annotations: name it Annotation. It has {', '.join(row)}."
    )


def _event(where: str, onset: str, offset: str, label: str) -> Event:
    if not (_is_number(onset) and _is_number(offset)) or not label:
        raise UserError(
            f"{where}: an event needs an onset and an offset in seconds, and a label; this one has "
            f"{', '.join(map(repr, (onset, offset, label)))}."
        )
    return Event(float(onset), float(offset), label)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _text(path: Path) -> str:
    try:
        return read_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the event list {path}: {error}") from error
