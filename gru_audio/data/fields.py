"""Label fields: the annotations of the clips of a data set, each of a declared type.

A field is a class, a set of tags, a text, a list of events or a number. Each type defines the value
of one clip, the arrays that hold the values of all clips, and the JSON that describes the field in
a data set or a model. `gru_audio.data.datasets.records` defines how TFDS stores the values.

The value of a clip is None if it is unknown. In memory the values of N clips are a tree of arrays
whose leaves have one row per clip:

  class   int32 (N,), the class index; -1: unknown
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from gru_audio.settings import UserError

Value = Any  # one clip: str, frozenset[str], str, tuple[Event, ...] or float
Values = Any  # N clips: a tree of arrays, see above

TOLERANCE = 0.05  # seconds by which an event may end after its clip; event lists are rounded

_MOST_CLASSES = 2**20
_MOST_TAGS = 2**14  # every clip stores one value per tag
_MOST_EVENTS = 2**16  # per clip
_MOST_IN_ALL = 2**28  # clips times the padded number of events per clip
_SHOWN = 20  # names in a summary
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200e\u200f"))


class Event(NamedTuple):
    """A sound of some class from `onset` to `offset`, in seconds from the beginning of its clip."""

    onset: float
    offset: float
    label: str


class Leaf(NamedTuple):
    """The required type and shape of an array of values.

    Attributes:
      kinds: NumPy's `dtype.kind` letters that are allowed.
      shape: the shape of one clip's row; None allows any size up to a limit.
    """

    kinds: str
    shape: tuple[int | None, ...] = ()

    def fits(self, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        """Returns whether an array of this shape and dtype is valid for this leaf."""
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
    """A label field; see the module's docstring.

    Attributes:
      kind: the name of the field type in descriptions.
      plural: the plural noun for its values in messages.
    """

    kind: ClassVar[str]
    plural: ClassVar[str]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what a model may output for the field: classes, characters; () if none."""
        return ()

    @classmethod
    @abc.abstractmethod
    def of(cls, values: Sequence[Value], training: Sequence[bool]) -> Self:
        """Builds the field from the clips' values.

        Args:
          values: one value per clip; None: unknown.
          training: whether each clip is in the training split.
        """

    @staticmethod
    @abc.abstractmethod
    def clean(value: Value) -> Value:
        """Returns the canonical form of a known value; None if the value counts as unknown."""

    @staticmethod
    def problem(value: Value, seconds: float) -> str:
        """Returns why a known value is invalid for a clip of `seconds`; "" if it is valid."""
        return ""

    @abc.abstractmethod
    def arrays(self, values: Sequence[Value]) -> Values:
        """Converts the values of N clips to arrays."""

    @abc.abstractmethod
    def known(self, values: Values) -> np.ndarray:
        """Returns whether each clip has a known value, bool (N,)."""

    @abc.abstractmethod
    def leaves(self) -> dict[str, Leaf]:
        """Returns the required arrays by name; a single unnamed array has the name ""."""

    @abc.abstractmethod
    def check(self, values: Values) -> None:
        """Raises `ValueError` if arrays of the right shapes and types hold invalid values."""

    def matched(self, other: "Field", values: Values, name: str) -> Values:
        """Converts values of a field of the data set `name` to values of this field.

        Raises:
          UserError: the other field has a different type, or classes that this field lacks.
        """
        if type(other) is not type(self):
            raise UserError(
                f"The model was trained on {self.plural}, and {name} has {other.plural}."
            )
        return values

    @abc.abstractmethod
    def summary(self, values: Values) -> str:
        """Returns a short text that describes the values."""


@dataclass(frozen=True)
class ClassesField(Field):
    """Base class of fields whose values name classes.

    Attributes:
      names: the class names, in the order of the class indices.
    """

    names: tuple[str, ...]

    most: ClassVar[int] = _MOST_CLASSES

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


@dataclass(frozen=True)
class TextField(Field):
    """Each clip has a text, such as a transcript.

    Attributes:
      characters: the sorted characters of the texts in the training split.
      words: the sorted words of these texts, which white space separates.
      tokens: the tokens that a model outputs for the texts; () until a task has chosen them.
    """

    characters: str
    words: tuple[str, ...] = ()  # older descriptions lack it
    tokens: tuple[str, ...] = ()

    kind: ClassVar[str] = "text"
    plural: ClassVar[str] = "texts"

    @property
    def output_names(self) -> tuple[str, ...]:
        """The tokens, or the characters if no tokens have been chosen."""
        return self.tokens or tuple(self.characters)

    def __post_init__(self) -> None:
        good = isinstance(self.characters, str) and len(self.characters) <= _MOST_CLASSES
        if not good or len(set(self.characters)) < len(self.characters):
            raise UserError("The characters of texts must be a string without repeated characters.")
        for what, names in (("words", self.words), ("tokens", self.tokens)):
            good = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
            if not good or len(set(names)) < len(names):
                raise UserError(f"The {what} of texts must be strings, each of them once.")
            if len(names) > _MOST_CLASSES:
                raise UserError(f"{len(names)} {what} are too many: at most {_MOST_CLASSES}.")

    @classmethod
    def of(cls, values: Sequence[str | None], training: Sequence[bool]) -> Self:
        used = training if any(training) else [True] * len(values)
        texts = [*itertools.compress((value or "" for value in values), used)]
        words = set(itertools.chain.from_iterable(text.split() for text in texts))
        return cls("".join(sorted(set(itertools.chain.from_iterable(texts)))), tuple(sorted(words)))

    @staticmethod
    def clean(value: str) -> str:
        return clean(value)

    @staticmethod
    def problem(value: str, seconds: float) -> str:
        controls = {hex(ord(c)) for c in value if unicodedata.category(c) == "Cc"}
        return f"its text has control characters: {', '.join(sorted(controls))}" if controls else ""

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
            raise ValueError("a clip has text although it is marked as unknown")

    def summary(self, values: dict[str, np.ndarray]) -> str:
        longest = int(np.char.str_len(values["text"]).max(initial=0))
        return (
            f"texts of up to {longest} characters; {len(self.characters)} different characters and "
            f"{len(self.words)} different words in training"
        )


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
        if len(value) > _MOST_EVENTS:
            return f"{len(value)} events are too many: at most {_MOST_EVENTS}"
        for onset, offset, label in value:
            if not (0 <= onset < offset <= seconds + TOLERANCE and onset < seconds):
                return (
                    f"event {label} from {onset:g} to {offset:g} s does not fit in a clip of "
                    f"{seconds:.4g} s"
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


@dataclass(frozen=True)
class NumberField(Field):
    """Each clip has a number."""

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
    """Returns class fields with these names."""
    return dict.fromkeys(names, ClassField)


def describe(field: Field) -> dict[str, Any]:
    """Returns the JSON description of a field."""
    return {"kind": field.kind, **dataclasses.asdict(field)}


def described(description: Any) -> Field:
    """Builds the field from the description that `describe` returned.

    Raises:
      ValueError: the description is invalid.
    """
    if not isinstance(description, dict) or str(description.get("kind")) not in KINDS:
        raise ValueError(f"the kind of a field is one of {', '.join(KINDS)}")
    kind = KINDS[description["kind"]]
    attributes = {name: value for name, value in description.items() if name != "kind"}
    known = dataclasses.fields(kind)
    required = {each.name for each in known if each.default is dataclasses.MISSING}
    if not required <= attributes.keys() <= {each.name for each in known}:
        raise ValueError(f"the description of a field of {kind.plural} has other attributes")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()})


def take(values: Values, rows: Any) -> Values:
    """Selects rows of a tree of arrays, such as field values or a task's labels."""
    # Not by `jax.tree`: `prepare` must not import JAX, whose callback of the garbage collector
    # swallows a Ctrl-C that comes there.
    if isinstance(values, Mapping):
        return {name: take(leaf, rows) for name, leaf in values.items()}
    if isinstance(values, tuple):
        return tuple(take(leaf, rows) for leaf in values)
    return values[rows]


def clean(text: str) -> str:
    """Normalises a text to Unicode NFC, collapses whitespace and strips it at both ends."""
    return " ".join(unicodedata.normalize("NFC", text.translate(_INVISIBLE)).split())


def shorten(names: Sequence[str], count: int) -> str:
    """Joins at most `count` names by commas; "..." stands for the others."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def natural(name: str) -> list[tuple[int, int, str]]:
    """Returns a sort key that puts "take 2" before "take 10"; different names differ in it."""
    parts = re.split(r"([0-9]+)", name)
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
    return [*key, (-1, 0, name)]
