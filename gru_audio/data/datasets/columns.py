"""Which columns of a list become fields of a data set, and the values in them."""

import collections
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.tables import Row, read_table
from gru_audio.data.fields import (
    ClassField,
    Event,
    EventsField,
    Field,
    NumberField,
    TagsField,
    TextField,
    Value,
    clean,
)
from gru_audio.settings import UserError

CLASS, NUMBER, TEXT, EMPTY = "classes", "numbers", "free text", "nothing"  # what columns hold
FLAGS = {NUMBER: "--numbers", TEXT: "--text"}  # that keep what are no classes
NONE = ("none", "<none>")  # what a cell says of a clip without tags, or without words
SEPARATOR = "+"  # between tags
EVENTS = "events"  # the field of a list of events

_CLIPS_A_CLASS = 2  # at least, on average: values that are rarer than that are no classes
_CODES = 20  # different whole numbers; a column with more of them counts or measures something


@dataclass(frozen=True)
class Column:
    """A field, its type, the column its values come from, and the array that names them if any."""

    name: str
    column: str
    names: str = ""
    kind: type[Field] = ClassField

    def __str__(self) -> str:
        return f"{self.name}={self.column}" + (f":{self.names}" if self.names else "")

    @classmethod
    def parse(cls, text: str, kind: type[Field] = ClassField) -> "Column":
        """Reads NAME, NAME=COLUMN or NAME=COLUMN:NAMES."""
        name, _, source = text.partition("=")
        column, _, names = source.partition(":")
        return cls(name.strip(), column.strip() or name.strip(), names.strip(), kind)


@dataclass(frozen=True)
class Wanted:
    """The fields that a user asks for.

    Attributes:
      columns: with their values.
      separator: between the tags in a value.
      events: a list of events, whose field is `EVENTS`; None if there is none.
    """

    columns: tuple[Column, ...]
    separator: str
    events: Path | None

    @property
    def settings(self) -> dict[str, Any]:
        """What is stored with the data set, beside its fields of classes."""
        told: dict[str, Any] = {
            flag: [str(column) for column in self.columns if column.kind is kind] or None
            for flag, kind in _KINDS.items()
        }
        told["separator"] = None if self.separator == SEPARATOR else self.separator
        return told | {"events": archives.sha256(self.events) if self.events else None}

    def kinds(self, columns: Iterable[Column]) -> dict[str, type[Field]]:
        """The types of fields by name.

        Raises:
          UserError: two fields have one name.
        """
        kinds: dict[str, type[Field]] = {}
        events = [Column(EVENTS, EVENTS, "", EventsField)] if self.events else []
        for column in (*columns, *events):
            if (name := column.name) in kinds:
                raise UserError(f'There are two fields "{name}": rename one by --fields NEW=OLD.')
            kinds[name] = column.kind
        return kinds

    def value(self, cell: str, kind: type[Field]) -> Value:
        """The value that a cell has for a type of field; None if it is empty.

        Raises:
          UserError: it has none.
        """
        cell = clean(cell)
        if not cell:
            return None
        if kind is TagsField:
            return frozenset(map(clean, cell.split(self.separator))) - {"", *NONE}
        if kind is TextField:
            return "" if cell == NONE[1] else cell
        if kind is NumberField:
            return _number(cell)
        return cell

    def events_of(self, names: Sequence[str]) -> tuple[list[Value], list[str]]:
        """The events of files by their names, None where the list has none of a file; and remarks.

        Raises:
          UserError: the list is faulty, or of other files.
        """
        if not self.events:
            return [None] * len(names), []
        events = _read_events(self.events)
        if not (known := events.keys() & set(names)):
            first = next(iter(events))
            raise UserError(f"{self.events} lists {first}, and there is no clip of that name.")
        others = len(events) - len(known)
        remarks = [f"Files with events that are no clips: {others}."] if others else []
        return [events.get(name) for name in names], remarks


_KINDS: dict[str, type[Field]] = {"tags": TagsField, "text": TextField, "numbers": NumberField}


def wanted(
    fields: Iterable[str] | None,
    *,
    tags: Iterable[str] | None,
    text: Iterable[str] | None,
    numbers: Iterable[str] | None,
    separator: str,
    events: Path | None,
) -> Wanted:
    """The fields that options ask for; each is NAME or NAME=COLUMN, or NAME=COLUMN:NAMES."""
    if not separator:
        raise UserError("--separator is what stands between tags, such as +.")
    given: dict[type[Field], Iterable[str] | None] = {ClassField: fields}
    given |= zip(_KINDS.values(), (tags, text, numbers), strict=True)
    columns = [Column.parse(each, kind) for kind, texts in given.items() for each in texts or ()]
    return Wanted(tuple(columns), separator, events)


def part_of(
    events: tuple[Event, ...] | None, start: float, end: float | None
) -> tuple[Event, ...] | None:
    """Of the events of a file those in a part of it, by seconds from where the part begins."""
    if events is None or (not start and end is None):
        return events
    last = math.inf if end is None else end
    return tuple(
        Event(max(onset, start) - start, min(offset, last) - start, label)
        for onset, offset, label in events
        if onset < last and offset > start
    )


def strata(values: Sequence[Value]) -> list[str]:
    """What splits are stratified by, if these are the values of a field; "" for nothing.

    That is the class of a clip, or the rarest of its tags. Texts and numbers hardly repeat.
    """
    tags = (value for value in values if isinstance(value, frozenset))
    counts = collections.Counter(tag for value in tags for tag in value)

    def of(value: Value) -> str:
        if isinstance(value, frozenset):
            return min(value, key=lambda tag: (counts[tag], tag), default="")
        return value or ""

    return [of(value) for value in values]


def kind(values: Sequence[str]) -> str:
    """What a column holds, by its values; "" is no value.

    Classes are few: each has two clips on average. Numbers are classes where they are whole, and
    not more than 20 different ones.
    """
    given = [value for value in values if value]
    different = set(given)
    if not given:
        return EMPTY
    numbers = _numbers(different)
    if numbers is not None and (len(numbers) > _CODES or (numbers != np.round(numbers)).any()):
        return NUMBER
    if _CLIPS_A_CLASS * len(different) > len(given):
        return TEXT if numbers is None else NUMBER
    return CLASS


def not_kept(columns: Mapping[str, str]) -> list[str]:
    """A remark on columns that become no fields, by name and what they hold."""
    if not columns:
        return []
    told = [f"{name} ({what})" for name, what in columns.items()]
    flags = [
        f"{flag} {','.join(fitting)}"
        for what, flag in FLAGS.items()
        if (fitting := [name for name, holds in columns.items() if holds == what])
    ]
    how = f"{' '.join(flags)} keeps them as they are. " if flags else ""
    return [
        f"Columns that are not kept: {', '.join(told)}. {how}--fields NAME=COLUMN,... keeps a "
        "column as classes."
    ]


def _numbers(values: set[str]) -> np.ndarray | None:
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _number(cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f'"{cell}" is no number: leave the cell empty where it is unknown.')
    return number


def _read_events(path: Path) -> dict[str, tuple[Event, ...]]:
    """The events of each file in a list with columns file, onset, offset and label.

    A row with nothing but a file says that there is no event in it.
    """
    rows: Sequence[Row] = read_table(path, ("file", "onset", "offset", "label"))
    events: dict[str, list[Event]] = collections.defaultdict(list)
    for number, row in enumerate(rows, 1):
        of_file = events[row["file"]]
        told = [row[column] for column in ("onset", "offset", "label")]
        if not any(told):
            continue
        try:
            onset, offset = float(told[0]), float(told[1])
        except ValueError:
            onset = offset = math.nan
        if not (math.isfinite(onset) and math.isfinite(offset)) or not told[2]:
            raise UserError(
                f"{path}, row {number}: an event has an onset and an offset in seconds, and a "
                f"label; this one has {', '.join(map(repr, told))}."
            )
        of_file.append(Event(onset, offset, told[2]))
    return {file: tuple(of) for file, of in events.items()}
