"""Reads lists of sound events: tables, Audacity's label tracks, Raven's selection tables.

A table lists the events of all recordings in the columns file, onset, offset and label, or in those
of the DCASE challenges: filename, onset, offset and event_label, also without a header. A row with
a file alone means that the file has no events.

A label track of Audacity, or a selection table of Raven, has the events of the recording with its
name: NAME.txt, and for Raven also NAME.selections.txt or NAME.Table.1.selections.txt. A folder has
such a file for each recording. A file without labels means that the recording has no events. A
selection table with the columns Begin File and File Offset (s) may have several recordings.
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
_FILE, _FILE_OFFSET = "Begin File", "File Offset (s)"
_ANNOTATIONS = ("annotation", "annotations", "label", "species", "class", "type")
_RAVEN_SUFFIX = re.compile(r"(\.Table\.\d+)?(\.selections)?\.txt$")
_DECIMALS = 9  # of seconds, as in Raven's tables
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
        events = _read_list(path, names)
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


def _read_list(path: Path, names: Sequence[str]) -> dict[str, tuple[Event, ...]]:
    """Returns the events in a file by the names of the recordings."""
    first = _first_row(_text(path))
    if _FILE in first and _BEGIN in first:
        by_file = _selections(path)
        return {_clip_of(file, names): events for file, events in by_file.items()}
    if _BEGIN in first or (_is_label(first) and not _is_dcase(first)):
        return {_clip_of(_RAVEN_SUFFIX.sub("", path.name), names): _read_file(path)}
    return _read_table(path, first)


def _clip_of(recording: str, names: Sequence[str]) -> str:
    """Returns the clip with this file name or stem; if there is none, the name itself."""
    paths = {name: PurePosixPath(name) for name in names}
    found = [name for name, path in paths.items() if recording in (path.name, path.stem)]
    if len(found) > 1:
        raise UserError(
            f"{found[0]} and {found[1]} have the same name, so their events need a table with the "
            f"columns {', '.join(_COLUMNS)}."
        )
    return found[0] if found else recording


def _first_row(text: str) -> list[str]:
    try:
        return next(csv.reader([text.lstrip().partition("\n")[0]], delimiter="\t"), [])
    except csv.Error:
        return []


def _is_label(first: Sequence[str]) -> bool:
    """Returns whether a first row is one of a label track."""
    return len(first) > 1 and _is_number(first[0]) and _is_number(first[1])


def _is_dcase(first: Sequence[str]) -> bool:
    """Returns whether a first row is an event in the columns of the DCASE challenges."""
    return len(first) == len(_DCASE) and _is_number(first[1]) and _is_number(first[2])


def _read_table(path: Path, first: Sequence[str]) -> dict[str, tuple[Event, ...]]:
    if _is_dcase(first):
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
    text = _text(path)
    first, lines = _first_row(text), [line for line in text.splitlines() if line.strip()]
    if _BEGIN not in first or _is_label(first):
        return _labels(path, text)
    if len(lines) == 1:
        return ()
    by_file = _selections(path)
    if len(by_file) > 1:
        raise UserError(f"{path} has several recordings: pass the file itself as --events.")
    (events,) = by_file.values()
    return events


def _labels(path: Path, text: str) -> tuple[Event, ...]:
    """Reads a label track: onset, offset and label. A line with a backslash has frequencies."""
    events = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("\\"):
            cells = [cell.strip() for cell in line.split("\t", 2)]
            events.append(_event(f"{path}, line {number}", *(*cells, "", "")[:3]))
    return tuple(events)


def _selections(path: Path) -> dict[str, tuple[Event, ...]]:
    """Reads a selection table, which has a row for each view of a selection.

    Returns:
      The events of each Begin File; "" if there is no such column.
    """
    rows: Sequence[Row] = read_table(path, (_BEGIN, _END), "\t")
    column = _annotation(path, rows[0])
    events: dict[str, dict[str, Event]] = collections.defaultdict(dict)
    for number, row in enumerate(rows, 1):
        event = _event(f"{path}, row {number}", row[_BEGIN], row[_END], row[column])
        if offset := row.get(_FILE_OFFSET):
            event = _moved(event, f"{path}, row {number}", offset)
        if _FILE in row and not row[_FILE]:
            raise UserError(f"{path}, row {number}: {_FILE} is empty.")
        events[row.get(_FILE, "")][row.get(_SELECTION) or str(-number)] = event
    if len(events) > 1 and _FILE_OFFSET not in rows[0]:
        # Begin Time counts from the beginning of the first file.
        raise UserError(f'{path} has several files, so it needs the column "{_FILE_OFFSET}".')
    return {file: tuple(of_file.values()) for file, of_file in events.items()}


def _moved(event: Event, where: str, onset: str) -> Event:
    if not _is_number(onset):
        raise UserError(f"{where}: {_FILE_OFFSET} is {onset!r}, not seconds.")
    end = float(onset) + event.offset - event.onset
    return event._replace(onset=float(onset), offset=round(end, _DECIMALS))


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
        text = read_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the event list {path}: {error}") from error
    if "\0" in text:
        raise UserError(f"{path} is not an event list: it has NUL bytes.")
    return text
