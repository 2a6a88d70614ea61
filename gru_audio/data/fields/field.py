"""The interface of label fields, and functions that all of them use."""

import abc
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from gru_audio.settings import UserError

Value = Any  # one clip: str, frozenset[str], str, tuple[Event, ...] or float
Values = Any  # N clips: a tree of arrays; see `gru_audio.data.fields`

MOST_CLASSES = 2**20
MOST_EVENTS = 2**16  # per clip
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200e\u200f"))


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
                size <= MOST_EVENTS if wanted is None else size == wanted
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

    @staticmethod
    def fitted(value: Value, seconds: float) -> tuple[Value, int]:
        """Returns a valid known value, cut at the end of a clip of `seconds`; and how many cuts."""
        return value, 0

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
