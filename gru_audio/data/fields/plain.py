"""Fields without classes: a text or a number."""

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from gru_audio.data.fields.field import MOST_CLASSES, Field, Leaf, clean
from gru_audio.settings import UserError


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
        good = isinstance(self.characters, str) and len(self.characters) <= MOST_CLASSES
        if not good or len(set(self.characters)) < len(self.characters):
            raise UserError("The characters of texts must be a string without repeated characters.")
        for what, names in (("words", self.words), ("tokens", self.tokens)):
            good = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
            if not good or len(set(names)) < len(names):
                raise UserError(f"The {what} of texts must be strings, each of them once.")
            if len(names) > MOST_CLASSES:
                raise UserError(f"{len(names)} {what} are too many: at most {MOST_CLASSES}.")

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
