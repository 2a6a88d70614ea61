"""What a data set knows of its clips: fields of a declared type.

A field is a class, a set of tags, a text, a list of events or a number. Each type says what one
clip's value is, which arrays hold the values of all clips, and how the description of a data set or
of a model names it. `gru_audio.data.datasets.records` says how TFDS stores them.

A clip's value is None where it is unknown. In memory the values of N clips are a tree of arrays
whose leaves have one row for each clip:

  class   int32 (N,), the number of the class; -1: unknown
  tags    float32 (N, C), 1 for each tag that the clip has; NaN: unknown
  text    {"text": str (N,), "known": bool (N,)}
  events  {"times": float32 (N, E, 2), "classes": int32 (N, E), "counts": int32 (N,)}: onset and
          offset in seconds from the beginning of the clip, padded by zeros and class -1 to the
          largest count E; a count of -1: unknown
  number  float32 (N,); NaN: unknown
"""

import abc
import dataclasses
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax
import numpy as np

from gru_audio.settings import UserError

Value = Any  # of one clip: str, frozenset[str], str, tuple[Event, ...] or float
Values = Any  # of N clips: a tree of arrays, see above

TOLERANCE = 0.05  # seconds by which an event may end after its clip: lists of events are rounded

_MOST_CLASSES = 2**20
_MOST_TAGS = 2**14  # every clip has a number for each
_MOST_EVENTS = 2**16  # of one clip
_MOST_IN_ALL = 2**28  # clips times the events for which each has room
_SHOWN = 20  # names in a summary
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200e\u200f"))


class Event(NamedTuple):
    """A sound of some class from `onset` to `offset`, in seconds from the beginning of its clip."""

    onset: float
    offset: float
    label: str


class Leaf(NamedTuple):
    """What an array of values must be.

    Attributes:
      kinds: NumPy's letters for its types.
      shape: of one clip's row; None where any size up to a limit will do.
    """

    kinds: str
    shape: tuple[int | None, ...] = ()

    def fits(self, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        """Whether an array of this shape and type may be this leaf."""
        return (
            dtype.kind in self.kinds
            and len(shape) == 1 + len(self.shape)
            and all(
                size <= _MOST_EVENTS if wanted is None else size == wanted
                for size, wanted in zip(shape[1:], self.shape, strict=True)
            )
        )


@dataclass(frozen=True)
class Field(abc.ABC):
    """A type of labels; see the module.

    Attributes:
      kind: its name in descriptions.
      plural: what its values are, for messages.
    """

    kind: ClassVar[str]
    plural: ClassVar[str]

    @classmethod
    @abc.abstractmethod
    def of(cls, values: Sequence[Value], training: Sequence[bool]) -> Self:
        """The field of some clips' values, given which of the clips are in the training split."""

    @staticmethod
    @abc.abstractmethod
    def clean(value: Value) -> Value:
        """A known value in the form in which equal values are equal; None if it is unknown."""

    @staticmethod
    def problem(value: Value, seconds: float) -> str:
        """Why a known value cannot be that of a clip of some duration; "" if it can."""
        return ""

    @abc.abstractmethod
    def arrays(self, values: Sequence[Value]) -> Values:
        """The values of N clips as arrays."""

    @abc.abstractmethod
    def known(self, values: Values) -> np.ndarray:
        """Which clips have a known value, bool (N,)."""

    @abc.abstractmethod
    def leaves(self) -> dict[str, Leaf]:
        """What the arrays must be, by name; "" where there is one array without a name."""

    @abc.abstractmethod
    def check(self, values: Values) -> None:
        """Raises `ValueError` for arrays, of the right shapes and types, that hold no values."""

    def matched(self, other: "Field", values: Values, name: str) -> Values:
        """Values of a field of another data set, `name`, as values of this field.

        Raises:
          UserError: the other field has another type, or classes that this one lacks.
        """
        if type(other) is not type(self):
            raise UserError(
                f"The model was trained on {self.plural}, and {name} has {other.plural}."
            )
        return values

    @abc.abstractmethod
    def summary(self, values: Values) -> str:
        """What there is, for people."""


@dataclass(frozen=True)
class ClassesField(Field):
    """What fields have in common whose values name classes.

    Attributes:
      names: of the classes, by their numbers.
    """

    names: tuple[str, ...]

    most: ClassVar[int] = _MOST_CLASSES

    def __post_init__(self) -> None:
        good = isinstance(self.names, tuple) and all(isinstance(name, str) for name in self.names)
        if not good or len(set(self.names)) < len(self.names):
            raise UserError(f"{self.plural} need names, each of them once.")
        if len(self.names) > self.most:
            raise UserError(f"{len(self.names)} are too many {self.plural}: {self.most} may be.")

    @staticmethod
    @abc.abstractmethod
    def classes_of(value: Value) -> Iterable[str]:
        """The names of classes in a known value."""

    @abc.abstractmethod
    def members(self, values: Values) -> tuple[np.ndarray, np.ndarray]:
        """Which clips have which classes: numbers of clips (P,) and of classes (P,)."""

    @classmethod
    def of(cls, values: Sequence[Value], training: Sequence[bool]) -> Self:
        found = {name for value in values if value is not None for name in cls.classes_of(value)}
        return cls(tuple(sorted(found, key=natural)))

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each class."""
        return {name: i for i, name in enumerate(self.names)}

    def renumbered(self, other: "ClassesField", name: str) -> np.ndarray:
        """This field's number of each class of another one, and -1 as its last: int32."""
        if unknown := sorted(set(other.names) - set(self.names)):
            raise UserError(
                f"The model does not know these {self.plural} of {name}: {', '.join(unknown)}."
            )
        return np.array([*(self.numbers[each] for each in other.names), -1], np.int32)

    def summary(self, values: Values) -> str:
        shown = ", ".join(self.names[:_SHOWN]) + (", ..." if len(self.names) > _SHOWN else "")
        return f"{len(self.names)} {self.plural}: {shown}"


@dataclass(frozen=True)
class ClassField(ClassesField):
    """One class of `names`."""

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
            raise ValueError("it names classes that do not exist")

    def matched(self, other: Field, values: np.ndarray, name: str) -> np.ndarray:
        super().matched(other, values, name)
        assert isinstance(other, ClassField)
        return self.renumbered(other, name)[values]


@dataclass(frozen=True)
class TagsField(ClassesField):
    """Any number of the classes `names`, or none of them."""

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


@dataclass(frozen=True)
class TextField(Field):
    """A text, such as what is said.

    Attributes:
      characters: those of the texts of the training split, sorted.
    """

    characters: str

    kind: ClassVar[str] = "text"
    plural: ClassVar[str] = "texts"

    def __post_init__(self) -> None:
        good = isinstance(self.characters, str) and len(self.characters) <= _MOST_CLASSES
        if not good or len(set(self.characters)) < len(self.characters):
            raise UserError("The characters of texts are a string that has each of them once.")

    @classmethod
    def of(cls, values: Sequence[str | None], training: Sequence[bool]) -> Self:
        kept = training if any(training) else [True] * len(values)
        texts = (value or "" for value, used in zip(values, kept, strict=True) if used)
        return cls("".join(sorted(set(itertools.chain.from_iterable(texts)))))

    @staticmethod
    def clean(value: str) -> str:
        return clean(value)

    @staticmethod
    def problem(value: str, seconds: float) -> str:
        odd = {hex(ord(c)) for c in value if unicodedata.category(c) == "Cc"}
        return f"its text has control characters: {', '.join(sorted(odd))}" if odd else ""

    def arrays(self, values: Sequence[str | None]) -> dict[str, np.ndarray]:
        return {
            "text": np.array([value or "" for value in values], np.str_),
            "known": np.array([value is not None for value in values], bool),
        }

    def known(self, values: dict[str, np.ndarray]) -> np.ndarray:
        return values["known"]

    def leaves(self) -> dict[str, Leaf]:
        return {"text": Leaf("U"), "known": Leaf("b")}

    def check(self, values: dict[str, np.ndarray]) -> None:
        if (values["text"][~values["known"]] != "").any():
            raise ValueError("there is text that is unknown")

    def summary(self, values: dict[str, np.ndarray]) -> str:
        longest = int(np.char.str_len(values["text"]).max(initial=0))
        return (
            f"texts of up to {longest} characters, "
            f"{len(self.characters)} different ones in training"
        )


@dataclass(frozen=True)
class EventsField(ClassesField):
    """Any number of events, each of one of the classes `names`; they may overlap."""

    kind: ClassVar[str] = "events"
    plural: ClassVar[str] = "classes of events"

    @staticmethod
    def clean(value: Iterable[Event]) -> tuple[Event, ...]:
        def requires_raw_values(seconds: float) -> float:
            return float(np.float32(seconds))

        return tuple(
            sorted(
                Event(requires_raw_values(a), requires_raw_values(b), clean(name))
                for a, b, name in value
            )
        )

    @staticmethod
    def problem(value: tuple[Event, ...], seconds: float) -> str:
        if len(value) > _MOST_EVENTS:
            return f"{len(value)} events, of which there may be {_MOST_EVENTS}"
        for onset, offset, label in value:
            if not (0 <= onset < offset <= seconds + TOLERANCE and onset < seconds):
                return (
                    f"event {label} from {onset:g} to {offset:g} s, which no clip of "
                    f"{seconds:.4g} s can have"
                )
            if not label:
                return f"an event without a label from {onset:g} to {offset:g} s"
        return ""

    @staticmethod
    def classes_of(value: tuple[Event, ...]) -> Iterable[str]:
        return (event.label for event in value)

    def arrays(self, values: Sequence[tuple[Event, ...] | None]) -> dict[str, np.ndarray]:
        counts = np.array([-1 if value is None else len(value) for value in values], np.int32)
        most = max(1, int(counts.max(initial=0)))
        if len(values) * most > _MOST_IN_ALL:
            raise UserError(
                f"One clip has {most} events, which is too much room for each of {len(values)} "
                "clips: cut long recordings into parts."
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
            raise ValueError("events have times or classes too many")
        there = np.arange(classes.shape[1]) < counts[:, None]
        if counts.min(initial=0) < -1 or counts.max(initial=0) > classes.shape[1]:
            raise ValueError("it counts events that are not there")
        numbered = np.where(there, (classes >= 0) & (classes < len(self.names)), classes == -1)
        if not numbered.all():
            raise ValueError("it names classes that do not exist")
        onset, offset = times[there].T
        if not (np.isfinite(offset) & (onset >= 0) & (onset < offset)).all():
            raise ValueError("an event ends before it begins")

    def matched(self, other: Field, values: dict[str, np.ndarray], name: str) -> Values:
        super().matched(other, values, name)
        assert isinstance(other, EventsField)
        return values | {"classes": self.renumbered(other, name)[values["classes"]]}

    def summary(self, values: dict[str, np.ndarray]) -> str:
        return f"{values['counts'].clip(0).sum()} events, {super().summary(values)}"


@dataclass(frozen=True)
class NumberField(Field):
    """A number."""

    kind: ClassVar[str] = "number"
    plural: ClassVar[str] = "numbers"

    @classmethod
    def of(cls, values: Sequence[float | None], training: Sequence[bool]) -> Self:
        return cls()

    @staticmethod
    def clean(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    @staticmethod
    def problem(value: float, seconds: float) -> str:
        return "" if abs(value) <= np.finfo(np.float32).max else f"its number is {value:g}"

    def arrays(self, values: Sequence[float | None]) -> np.ndarray:
        return np.array([np.nan if value is None else value for value in values], np.float32)

    def known(self, values: np.ndarray) -> np.ndarray:
        return ~np.isnan(values)

    def leaves(self) -> dict[str, Leaf]:
        return {"": Leaf("f")}

    def check(self, values: np.ndarray) -> None:
        if np.isinf(values).any():
            raise ValueError("a number is infinite")

    def summary(self, values: np.ndarray) -> str:
        known = values[self.known(values)]
        return f"numbers from {known.min():g} to {known.max():g}" if len(known) else "no numbers"


KINDS: dict[str, type[Field]] = {
    kind.kind: kind for kind in (ClassField, TagsField, TextField, EventsField, NumberField)
}


def classes(*names: str) -> dict[str, type[Field]]:
    """Fields that are all classes."""
    return dict.fromkeys(names, ClassField)


def describe(field: Field) -> dict[str, Any]:
    """What a description, which is JSON, says of a field."""
    return {"kind": field.kind, **dataclasses.asdict(field)}


def described(description: Any) -> Field:
    """The field that `describe` described.

    Raises:
      ValueError: there is no such field.
    """
    if not isinstance(description, dict) or str(description.get("kind")) not in KINDS:
        raise ValueError(f"a field is one of {', '.join(KINDS)}")
    kind = KINDS[description["kind"]]
    told = {name: value for name, value in description.items() if name != "kind"}
    if told.keys() != {attribute.name for attribute in dataclasses.fields(kind)}:
        raise ValueError(f"a field of {kind.plural} is described by other things")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in told.items()})


def take(values: Values, rows: Any) -> Values:
    """Some rows of values, or of the labels that a task made of them."""
    return jax.tree.map(lambda leaf: leaf[rows], values)


def clean(text: str) -> str:
    """A text in Unicode's composed form (NFC), with single spaces inside and none around."""
    return " ".join(unicodedata.normalize("NFC", text.translate(_INVISIBLE)).split())


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key under which "take 2" comes before "take 10"; no two names have the same."""
    parts = re.split(r"([0-9]+)", name)
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
    return [*key, (-1, 0, name)]
