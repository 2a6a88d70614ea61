"""Tokens: the units of text that a model outputs, and their ids.

Id 0 is the blank of CTC, ids from 1 are the tokens, and the id after the last token is that of all
unknown characters or words. No output has this last id, so an unknown character is always an error.

Before anything is counted, white space in a text is collapsed and stripped. A space between two
words counts as a character.
"""

import collections
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gru_audio.data.fields import TextField, clean, shorten
from gru_audio.files import read_bytes
from gru_audio.paths import local_path
from gru_audio.settings import UserError

BLANK = 0
SPACE = " "
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # how unknown characters and words are shown
CHARACTERS, WORDS = "characters", "words"

_SPACE_LINES = (SPACE, "|")  # lines of a token file that mean the space between words
_SHOWN = 20  # units in a remark
_MOST = 2**16  # every token is an output of the model


@dataclass(frozen=True)
class Tokens:
    """A set of tokens.

    Attributes:
      names: the tokens; the id of `names[i]` is i + 1.
      are_words: whether each token is a word. Otherwise tokens spell a text, spaces included.
    """

    names: tuple[str, ...]
    are_words: bool = False

    def __post_init__(self) -> None:
        if not self.names:
            raise UserError("There are no tokens: the texts of the training split are empty.")
        if len(self.names) > _MOST:
            raise UserError(
                f"{len(self.names)} tokens are too many, as each is an output: at most {_MOST}."
            )
        counts = collections.Counter(self.names)
        for name, count in counts.items():
            if count > 1:
                raise UserError(f'The token "{name}" is there {count} times.')
            alone = name == SPACE and not self.are_words
            if not alone and (clean(name) != name or not name or SPACE in name or UNKNOWN in name):
                raise UserError(f"{name!r} is no token: it has white space or odd characters.")

    @classmethod
    def of(cls, tokens: str, field: TextField) -> "Tokens":
        """Makes the tokens that a config names.

        Args:
          tokens: "characters" or "words" of the training texts, or the path of a token file.
          field: the field of the texts.

        Raises:
          UserError: there are no or too many tokens, the field lacks its words, or the file is
            invalid.
        """
        if tokens == CHARACTERS:
            return cls(tuple(each for each in field.characters if each != UNKNOWN))
        if tokens == WORDS:
            if field.characters and not field.words:
                raise UserError(
                    "An older version prepared the data set and did not list its words: prepare it "
                    "again with --overwrite."
                )
            return cls(tuple(each for each in field.words if UNKNOWN not in each), are_words=True)
        return read_tokens(local_path(tokens))

    @classmethod
    def named(cls, names: tuple[str, ...], tokens: str) -> "Tokens":
        """Returns the tokens `names` that `of` made for a config's `tokens`."""
        words = SPACE not in names if tokens not in (CHARACTERS, WORDS) else tokens == WORDS
        return cls(names, words)

    @property
    def outputs(self) -> int:
        """The number of outputs of a model: the blank and the tokens."""
        return 1 + len(self.names)

    @property
    def unknown(self) -> int:
        """The id of unknown characters and words."""
        return self.outputs

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """The id of each token."""
        return {name: i for i, name in enumerate(self.names, 1)}

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text. Where several tokens fit, the longest is taken."""
        return [self.ids.get(unit, self.unknown) for unit in self._units(clean(text))]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids; blanks are left out, and unknown ids become `UNKNOWN`."""
        names = ("", *self.names, UNKNOWN)
        return clean((SPACE if self.are_words else "").join(names[i] for i in ids if i))

    def missing(self, texts: Iterable[str]) -> collections.Counter[str]:
        """Counts the characters or words of texts that are not tokens."""
        units = (unit for text in texts for unit in self._units(clean(text)))
        return collections.Counter(unit for unit in units if unit not in self.ids)

    def remarks(self, texts: Iterable[str]) -> list[str]:
        """Returns a remark on the characters or words of texts that are not tokens, if any."""
        missing = self.missing(texts)
        if not missing:
            return []
        what = "words" if self.are_words else "characters"
        named = [f'"{unit}" ({count} times)' for unit, count in missing.most_common()]
        return [f"no token for these {what}, so each is an error: {shorten(named, _SHOWN)}."]

    def _units(self, text: str) -> Sequence[str]:
        """Divides a text into tokens and unknown characters, or into words."""
        return text.split() if self.are_words else self._pattern.findall(text)

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.names, key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longest_first), "."]), re.DOTALL)


def read_tokens(path: Path) -> Tokens:
    """Reads a file with one token a line.

    A line with a single space, or with `|`, is the space between words. The tokens of a file
    without such a line are words.

    Raises:
      UserError: the file cannot be read, is not UTF-8, or has an invalid or repeated token.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the tokens {path}: {error}") from error
    names = [SPACE if line in _SPACE_LINES else clean(line) for line in lines if line]
    for number, line in enumerate(lines, 1):
        if SPACE in clean(line):
            raise UserError(f'{path}, line {number}: "{line}" is not one token.')
    try:
        return Tokens(tuple(names), are_words=SPACE not in names)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
