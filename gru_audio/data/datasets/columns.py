"""Chooses the columns of a table that become fields, and parses their values."""

import collections
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gru_audio.data.datasets import event_lists
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
    shorten,
)
from gru_audio.paths import local_path
from gru_audio.settings import UserError

CLASS, NUMBER, TEXT, EMPTY = "classes", "numbers", "free text", "nothing"  # contents of columns
FLAGS = {NUMBER: "--numbers", TEXT: "--text"}  # flags that keep other columns than classes
NONE = ("none", "<none>")  # cells for a clip without tags; the second also for an empty text
SEPARATOR = "+"  # between tags
UPPER, LOWER, KEEP = "upper", "lower", "keep"  # the letters of texts
EVENTS = "events"  # the name of the field of an event list
REFUSED, NO_EVENTS = "refuse", "empty"  # files that are not in an event list

_LETTERS: dict[str, Callable[[str], str]] = {UPPER: str.upper, LOWER: str.lower, KEEP: str}
_APOSTROPHE = re.compile(r"(?<=[^\W_])['\u2019](?=[^\W_])")
_CLIPS_A_CLASS = 2  # the least mean number of clips per value of a column of classes
_CODES = 20  # a column with more different integers has numbers, not classes


@dataclass(frozen=True)
class Column:
    """A field that is read from a column.

    Attributes:
      name: the name of the field.
      column: the column with its values.
      names: the array of class names, if the column has indices into one; "": none.
      kind: the type of the field.
    """

    name: str
    column: str
    names: str = ""
    kind: type[Field] = ClassField

    def __str__(self) -> str:
        return f"{self.name}={self.column}" + (f":{self.names}" if self.names else "")

    @classmethod
    def parse(cls, text: str, kind: type[Field] = ClassField) -> "Column":
        """Parses NAME, NAME=COLUMN or NAME=COLUMN:NAMES."""
        name, _, source = text.partition("=")
        column, _, names = source.partition(":")
        return cls(name.strip(), column.strip() or name.strip(), names.strip(), kind)


@dataclass(frozen=True)
class Wanted:
    """The fields that a user requests.

    Attributes:
      columns: the fields that are read from columns.
      separator: the separator between the tags in a cell.
      events: the path of an event list, whose field is `EVENTS`; None: no events.
      unannotated: what holds for files that are not in the event list: "refuse" them; "empty": they
        have no events; None: their events are unknown.
      case: `UPPER`, `LOWER` or `KEEP`: the letters of texts.
      strip_punctuation: whether texts lose their punctuation; see `written`.
    """

    columns: tuple[Column, ...]
    separator: str
    events: Path | None
    case: str
    strip_punctuation: bool
    unannotated: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings to store with the data set, except the class fields."""
        settings: dict[str, Any] = {
            flag: [str(column) for column in self.columns if column.kind is kind] or None
            for flag, kind in _KINDS.items()
        }
        settings["separator"] = None if self.separator == SEPARATOR else self.separator
        settings["case"] = None if self.case == KEEP else self.case
        settings["strip_punctuation"] = self.strip_punctuation or None
        settings["events"] = event_lists.fingerprint(self.events) if self.events else None
        # Only where it is set, so that data sets without it stay valid.
        return settings | ({"unannotated": self.unannotated} if self.unannotated else {})

    def kinds(self, columns: Iterable[Column]) -> dict[str, type[Field]]:
        """Returns the field types by name, with that of the events.

        Raises:
          UserError: two fields have the same name.
        """
        kinds: dict[str, type[Field]] = {}
        events = [Column(EVENTS, EVENTS, "", EventsField)] if self.events else []
        for column in (*columns, *events):
            if (name := column.name) in kinds:
                raise UserError(f'There are two fields "{name}": rename one by --fields NEW=OLD.')
            kinds[name] = column.kind
        return kinds

    def value(self, cell: str, kind: type[Field]) -> Value:
        """Parses a cell as a value of a field type; None if the cell is empty.

        Raises:
          UserError: the cell should be a number and is not, or its text has control characters.
        """
        if kind is TextField and (problem := TextField.problem(cell, 0)):
            raise UserError(f"{problem} in {cell!r}.")
        cell = clean(cell)
        if not cell:
            return None
        if kind is TagsField:
            return frozenset(map(clean, cell.split(self.separator))) - {"", *NONE}
        if kind is TextField:
            return "" if cell == NONE[1] else written(cell, self.case, self.strip_punctuation)
        if kind is NumberField:
            return _number(cell)
        return cell

    def events_of(self, names: Sequence[str]) -> tuple[list[Value], list[str]]:
        """Reads the events of the named files.

        Returns:
          The events of each file, None if they are unknown; and remarks.

        Raises:
          UserError: the list is invalid, or lacks files that it must have.
        """
        if not self.events:
            return [None] * len(names), []
        events, remarks = event_lists.read(self.events, names)
        if missing := [name for name in dict.fromkeys(names) if name not in events]:
            which = f"Clips that are not in the event list: {len(missing)} ({shorten(missing, 3)})."
            if self.unannotated == REFUSED:
                raise UserError(
                    f"{which} --unannotated {NO_EVENTS} takes them for clips without events."
                )
            state = "They have no events" if self.unannotated else "Their events are unknown"
            remarks.append(f"{which} {state}.")
        unlisted: Value = () if self.unannotated == NO_EVENTS else None
        return [events.get(name, unlisted) for name in names], remarks


_KINDS: dict[str, type[Field]] = {"tags": TagsField, "text": TextField, "numbers": NumberField}


def wanted(
    fields: Iterable[str] | None = None,
    *,
    tags: Iterable[str] | None = None,
    text: Iterable[str] | None = None,
    numbers: Iterable[str] | None = None,
    separator: str = SEPARATOR,
    events: Path | str | None = None,
    unannotated: str | None = None,
    case: str = KEEP,
    strip_punctuation: bool = False,
) -> Wanted:
    """Parses the options that request fields.

    Args:
      fields, tags, text, numbers: fields of each type, as for `Column.parse`.
      separator: the separator between tags.
      events: the path of an event list.
      unannotated: see `Wanted`.
      case, strip_punctuation: how texts are written; see `Wanted`.

    Raises:
      UserError: an option is invalid.
    """
    if not separator:
        raise UserError("--separator must not be empty: it separates tags, as in a+b.")
    if unannotated and not events:
        raise UserError(
            "--unannotated is about files that an event list lacks: pass --events, too."
        )
    if case not in _LETTERS:
        raise UserError(f'--case is {", ".join(_LETTERS)}, not "{case}".')
    if (case != KEEP or strip_punctuation) and not text:
        raise UserError("--case and --strip_punctuation change texts: name them by --text.")
    options: dict[type[Field], Iterable[str] | None] = {ClassField: fields}
    options |= zip(_KINDS.values(), (tags, text, numbers), strict=True)
    columns = [Column.parse(each, kind) for kind, texts in options.items() for each in texts or ()]
    events = local_path(events) if events else None
    return Wanted(tuple(columns), separator, events, case, strip_punctuation, unannotated)


def written(text: str, case: str, strip_punctuation: bool) -> str:
    """Returns a text with other letters and without punctuation, as the user wants.

    Args:
      text: a text.
      case: `UPPER`, `LOWER` or `KEEP`.
      strip_punctuation: replace punctuation (Unicode category P) by white space, which is then
        collapsed. An apostrophe between two letters or digits stays, as in "don't".
    """
    text = _LETTERS[case](text)
    if not strip_punctuation:
        return text
    kept = {match.start() for match in _APOSTROPHE.finditer(text)}
    return clean(
        "".join(
            " " if unicodedata.category(c)[0] == "P" and i not in kept else c
            for i, c in enumerate(text)
        )
    )


def part_of(
    events: tuple[Event, ...] | None, start: float, end: float | None
) -> tuple[Event, ...] | None:
    """Returns the events in the part of a file from `start` to `end` s, relative to `start`."""
    if events is None or (not start and end is None):
        return events
    last = math.inf if end is None else end
    return tuple(
        Event(max(onset, start) - start, min(offset, last) - start, label)
        for onset, offset, label in events
        if onset < last and offset > start
    )


def strata(values: Sequence[Value]) -> list[str]:
    """Returns the stratum of each clip: its class, or the rarest of its tags; "": none."""
    tags = (value for value in values if isinstance(value, frozenset))
    counts = collections.Counter(tag for value in tags for tag in value)

    def of(value: Value) -> str:
        if isinstance(value, frozenset):
            return min(value, key=lambda tag: (counts[tag], tag), default="")
        return value or ""

    return [of(value) for value in values]


def kind(values: Sequence[str]) -> str:
    """Guesses the contents of a column from its cells: `CLASS`, `NUMBER`, `TEXT` or `EMPTY`.

    Values are classes if each has at least two clips on average. Numbers are classes if they are
    integers too, and at most 20 different ones. Empty cells are ignored.
    """
    filled = [value for value in values if value]
    different = set(filled)
    if not filled:
        return EMPTY
    numbers = _numbers(different)
    if numbers is not None and (len(numbers) > _CODES or (numbers != np.round(numbers)).any()):
        return NUMBER
    if _CLIPS_A_CLASS * len(different) > len(filled):
        return TEXT if numbers is None else NUMBER
    return CLASS


def not_kept(columns: Mapping[str, str]) -> list[str]:
    """Returns a remark on the columns that do not become fields: their contents by name."""
    if not columns:
        return []
    shown = [f"{name} ({contents})" for name, contents in columns.items()]
    flags = [
        f"{flag} {','.join(fitting)}"
        for kind, flag in FLAGS.items()
        if (fitting := [name for name, contents in columns.items() if contents == kind])
    ]
    how = f"{' '.join(flags)} keeps them as numbers or text. " if flags else ""
    return [
        f"Columns that are not kept: {', '.join(shown)}. {how}--fields NAME=COLUMN,... keeps a "
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
        raise UserError(f'"{cell}" is not a number: leave the cell empty if it is unknown.')
    return number
