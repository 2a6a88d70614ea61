"""Which columns of a list become class fields of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CLASS, NUMBER, TEXT, EMPTY = "classes", "numbers", "free text", "nothing"  # what columns hold

_CLIPS_A_CLASS = 2  # at least, on average: values that are rarer than that are no classes
_CODES = 20  # different whole numbers; a column with more of them counts or measures something


@dataclass(frozen=True)
class Field:
    """A class field, the column its values come from, and the array that names them if any."""

    name: str
    column: str
    names: str = ""

    @classmethod
    def parse(cls, text: str) -> "Field":
        """Reads NAME, NAME=COLUMN or NAME=COLUMN:NAMES."""
        name, _, source = text.partition("=")
        column, _, names = source.partition(":")
        return cls(name.strip(), column.strip() or name.strip(), names.strip())


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


def _numbers(values: set[str]) -> np.ndarray | None:
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
