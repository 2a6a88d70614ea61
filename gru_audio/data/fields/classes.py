"""Fields whose values name classes: one class, a set of tags, or a list of events."""

import abc
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np

from gru_audio.data.fields.field import (
    MOST_CLASSES,
    MOST_EVENTS,
    Field,
    Leaf,
    Value,
    Values,
    clean,
    natural,
    shorten,
)
from gru_audio.settings import UserError

TOLERANCE = 0.05  # seconds after a clip in which the end of an event is a rounding error

_MOST_TAGS = 2**14  # every clip stores one value per tag
_MOST_IN_ALL = 2**28  # clips times the padded number of events per clip
_SHOWN = 20  # names in a summary


@dataclass(frozen=True)
class ClassesField(Field):
    """Base class of fields whose values name classes.

    Attributes:
      names: the class names, in the order of the class indices.
    """

    names: tuple[str, ...]

    most: ClassVar[int] = MOST_CLASSES

    @property
    def output_names(self) -> tuple[str, ...]:
        """The classes."""
        return self.names

    def __post_init__(self) -> None:
        good = isinstance(self.names, tuple) and all(isinstance(name, str) for name in self.names)
        if not good or len(set(self.names)) < len(self.names):
            raise UserError(f"{self.plural} need names, and each name must be unique.")
        if len(self.names) > self.most:
            raise UserError(f"{len(self.names)} {self.plural} are too many: at most {self.most}.")

    @staticmethod
    @abc.abstractmethod
    def classes_of(value: Value) -> Iterable[str]:
        """Returns the class names in a known value."""

    @abc.abstractmethod
    def members(self, values: Values) -> tuple[np.ndarray, np.ndarray]:
        """Returns pairs of a clip and a class it has: clip indices (P,) and class indices (P,)."""

    @classmethod
    def of(cls, values: Sequence[Value], training: Sequence[bool]) -> Self:
        found = {name for value in values if value is not None for name in cls.classes_of(value)}
        return cls(tuple(sorted(found, key=natural)))

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """The index of each class by its name."""
        return {name: i for i, name in enumerate(self.names)}

    def renumbered(self, other: "ClassesField", name: str) -> np.ndarray:
        """Maps the class indices of another field to those of this field.

        Returns:
          int32 (classes of `other` + 1,); the last entry is -1, so that -1 stays -1.

        Raises:
          UserError: the other field has classes that this field lacks.
        """
        if unknown := sorted(set(other.names) - set(self.names)):
            raise UserError(
                f"The model does not know these {self.plural} of {name}: {', '.join(unknown)}."
            )
        return np.array([*(self.numbers[each] for each in other.names), -1], np.int32)

    def summary(self, values: Values) -> str:
        return f"{len(self.names)} {self.plural}: {shorten(self.names, _SHOWN)}"


@dataclass(frozen=True)
class ClassField(ClassesField):
    """Each clip has one class of `names`."""

    kind: ClassVar[str] = "class"
    plural: ClassVar[str] = "classes"

    @staticmethod
    def clean(value: str) -> str | None:
        return clean(value) or None

    @staticmethod
    def classes_of(value: str) -> Iterable[str]:
        return (value,)

    def arrays(self, values: Sequence[str | None]) -> np.ndarray:
        return np.array(
            [-1 if value is None else self.numbers[value] for value in values], np.int32
        )

    def known(self, values: np.ndarray) -> np.ndarray:
        return values >= 0

    def members(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        clips = np.flatnonzero(values >= 0)
        return clips, values[clips]

    def leaves(self) -> dict[str, Leaf]:
        return {"": Leaf("i")}

    def check(self, values: np.ndarray) -> None:
        if not ((values >= -1) & (values < len(self.names))).all():
            raise ValueError("a class index is out of range")

    def matched(self, other: Field, values: np.ndarray, name: str) -> np.ndarray:
        super().matched(other, values, name)
        assert isinstance(other, ClassField)
        return self.renumbered(other, name)[values]


@dataclass(frozen=True)
class TagsField(ClassesField):
    """Each clip has any number of the tags `names`, or none."""

    kind: ClassVar[str] = "tags"
    plural: ClassVar[str] = "tags"
    most: ClassVar[int] = _MOST_TAGS

    @staticmethod
    def clean(value: Iterable[str]) -> frozenset[str]:
        return frozenset(map(clean, value)) - {""}

    @staticmethod
    def classes_of(value: frozenset[str]) -> Iterable[str]:
        return value

    def arrays(self, values: Sequence[frozenset[str] | None]) -> np.ndarray:
        rows = np.zeros((len(values), len(self.names)), np.float32)
        for row, value in zip(rows, values, strict=True):
            row[[self.numbers[tag] for tag in value or ()]] = 1
            if value is None:
                row[:] = np.nan
        return rows

    def known(self, values: np.ndarray) -> np.ndarray:
        return ~np.isnan(values).any(axis=1)

    def members(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        clips, tags = np.nonzero(values == 1)
        return clips, tags

    def leaves(self) -> dict[str, Leaf]:
        return {"": Leaf("f", (len(self.names),))}

    def check(self, values: np.ndarray) -> None:
        if not np.isin(values[self.known(values)], (0, 1)).all():
            raise ValueError("tags are 0 or 1")

    def matched(self, other: Field, values: np.ndarray, name: str) -> np.ndarray:
        super().matched(other, values, name)
        assert isinstance(other, TagsField)
        numbers = self.renumbered(other, name)[:-1]
        rows = np.zeros((len(values), len(self.names)), np.float32)
        rows[:, numbers] = values
        rows[~other.known(values)] = np.nan
        return rows


class Event(NamedTuple):
    """A sound of some class from `onset` to `offset`, in seconds from the beginning of its clip."""

    onset: float
    offset: float
    label: str


@dataclass(frozen=True)
class EventsField(ClassesField):
    """Each clip has any number of events, which may overlap; each has one class of `names`."""

    kind: ClassVar[str] = "events"
    plural: ClassVar[str] = "classes of events"

    @staticmethod
    def clean(value: Iterable[Event]) -> tuple[Event, ...]:
        def to_float32(seconds: float) -> float:
            return float(np.float32(seconds))

        return tuple(
            sorted(Event(to_float32(on), to_float32(off), clean(name)) for on, off, name in value)
        )

    @staticmethod
    def problem(value: tuple[Event, ...], seconds: float) -> str:
        if len(value) > MOST_EVENTS:
            return f"{len(value)} events are too many: at most {MOST_EVENTS}"
        end = float(np.float32(seconds))
        for onset, offset, label in value:
            if not 0 <= onset < min(offset, end):
                return (
                    f"event {label} from {onset:g} to {offset:g} s does not fit in a clip of "
                    f"{seconds:.4g} s"
                )
            if not label:
                return f"an event without a label from {onset:g} to {offset:g} s"
        return ""

    @staticmethod
    def fitted(value: tuple[Event, ...], seconds: float) -> tuple[tuple[Event, ...], int]:
        end, late = float(np.float32(seconds)), seconds + TOLERANCE
        cut = tuple(event._replace(offset=min(event.offset, end)) for event in value)
        return cut, sum(event.offset > late for event in value)

    @staticmethod
    def classes_of(value: tuple[Event, ...]) -> Iterable[str]:
        return (event.label for event in value)

    def arrays(self, values: Sequence[tuple[Event, ...] | None]) -> dict[str, np.ndarray]:
        counts = np.array([-1 if value is None else len(value) for value in values], np.int32)
        most = max(1, int(counts.max(initial=0)))
        if len(values) * most > _MOST_IN_ALL:
            raise UserError(
                f"One clip has {most} events, and padding {len(values)} clips to that number takes "
                "too much memory: cut long recordings into parts."
            )
        times = np.zeros((len(values), most, 2), np.float32)
        classes = np.full((len(values), most), -1, np.int32)
        for i, value in enumerate(values):
            for e, (onset, offset, label) in enumerate(value or ()):
                times[i, e], classes[i, e] = (onset, offset), self.numbers[label]
        return {"times": times, "classes": classes, "counts": counts}

    def known(self, values: dict[str, np.ndarray]) -> np.ndarray:
        return values["counts"] >= 0

    def members(self, values: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        clips, events = np.nonzero(values["classes"] >= 0)
        return clips, values["classes"][clips, events]

    def leaves(self) -> dict[str, Leaf]:
        return {"times": Leaf("f", (None, 2)), "classes": Leaf("i", (None,)), "counts": Leaf("i")}

    def check(self, values: dict[str, np.ndarray]) -> None:
        classes, counts, times = values["classes"], values["counts"], values["times"]
        if times.shape[1] != classes.shape[1]:
            raise ValueError("the numbers of event times and event classes differ")
        valid = np.arange(classes.shape[1]) < counts[:, None]
        if counts.min(initial=0) < -1 or counts.max(initial=0) > classes.shape[1]:
            raise ValueError("an event count is out of range")
        in_range = np.where(valid, (classes >= 0) & (classes < len(self.names)), classes == -1)
        if not in_range.all():
            raise ValueError("a class index is out of range")
        onset, offset = times[valid].T
        if not (np.isfinite(offset) & (onset >= 0) & (onset < offset)).all():
            raise ValueError("an event ends before it begins")

    def matched(self, other: Field, values: dict[str, np.ndarray], name: str) -> Values:
        super().matched(other, values, name)
        assert isinstance(other, EventsField)
        return values | {"classes": self.renumbered(other, name)[values["classes"]]}

    def summary(self, values: dict[str, np.ndarray]) -> str:
        return f"{values['counts'].clip(0).sum()} events, {super().summary(values)}"
