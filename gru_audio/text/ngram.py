"""Word n-grams: counted from texts, or read from ARPA files.

The counts are smoothed by interpolation after Witten and Bell 1991, "The zero-frequency problem",
as in Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling":

  p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h)),

where c counts, t(h) is the number of different words after the context h, and h' is h without its
first word. The empty context falls back to equal probabilities of all words, the sentence end and
an unknown word. This is also a backoff model, the form that ARPA files have.
"""

import collections
import functools
import gzip
import itertools
import math
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from gru_audio.files import replacing
from gru_audio.settings import UserError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
Words = tuple[str, ...]

_MOST_ORDER = 10
_MOST_NGRAMS = 10**7  # in a file; each takes some 300 bytes of memory
_LONGEST_LINE = 2**14  # bytes
_NEVER = -99.0  # log10 in a file for the sentence begin, which is never predicted
_WITHOUT_UNKNOWN = -100 * math.log(10)  # of an unknown word if the file has none
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Ngram:
    """A backoff model of words. Probabilities are natural logarithms.

    Attributes:
      order: length of the longest n-grams.
      log_probs: log-probability of the last word of each n-gram after the others.
      backoffs: log-weight of shorter contexts after each context; 0 where it is missing.
    """

    order: int
    log_probs: Mapping[Words, float]
    backoffs: Mapping[Words, float]

    @property
    def start(self) -> Words:
        """The context at the beginning of a sentence."""
        return self.after((), BEGIN)

    def after(self, context: Words, word: str) -> Words:
        """Returns the context after one more word."""
        return (*context, self._known(word))[-(self.order - 1) :] if self.order > 1 else ()

    def log_prob(self, context: Words, word: str) -> float:
        """Returns the log-probability of a word, or of `END`, after a context."""
        word, weight = self._known(word), 0.0
        while (*context, word) not in self.log_probs:
            if not context:
                return weight + _WITHOUT_UNKNOWN
            weight += self.backoffs.get(context, 0.0)
            context = context[1:]
        return weight + self.log_probs[*context, word]

    def sentence(self, words: Iterable[str]) -> float:
        """Returns the log-probability of a sentence, its end included."""
        context, score = self.start, 0.0
        for word in (*words, END):
            score += self.log_prob(context, word)
            context = self.after(context, word)
        return score

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """The known words."""
        return frozenset(n[0] for n in self.log_probs if len(n) == 1) - {BEGIN, END, UNKNOWN}

    def _known(self, word: str) -> str:
        return word if (word,) in self.log_probs or word == BEGIN else UNKNOWN


def count(texts: Iterable[str], order: int = 2) -> Ngram:
    """Counts the n-grams of texts; see the module's docstring.

    Args:
      texts: sentences whose words are separated by white space.
      order: 1, 2, ...; 2 is a bigram.

    Raises:
      UserError: there are no texts.
    """
    following: dict[Words, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for text in texts:
        words = (BEGIN, *text.split(), END)
        for last, length in itertools.product(range(1, len(words)), range(order)):
            if length <= last:
                following[words[last - length : last]][words[last]] += 1
    if not following:
        raise UserError("A language model needs texts: the training split has none.")
    vocabulary = {*following[()], UNKNOWN}
    probs: dict[Words, float] = {}
    backoffs: dict[Words, float] = {}
    for context in sorted(following, key=len):  # shorter contexts first, to fall back to
        counts = following[context]
        different, whole = len(counts), counts.total() + len(counts)
        for word in counts if context else vocabulary:
            shorter = probs[*context[1:], word] if context else 1 / len(vocabulary)
            probs[*context, word] = (counts[word] + different * shorter) / whole
        if context:
            backoffs[context] = math.log(different / whole)
    return Ngram(order, {words: math.log(prob) for words, prob in probs.items()}, backoffs)


def write_arpa(path: Path, ngram: Ngram) -> None:
    """Writes a model as an ARPA file."""
    ten = math.log(10)
    entries = {words: value / ten for words, value in ngram.log_probs.items()}
    entries.setdefault((BEGIN,), _NEVER)
    by_order = itertools.groupby(sorted(entries, key=lambda words: (len(words), words)), len)
    sections = {order: list(words) for order, words in by_order}
    with replacing(path) as file:

        def write(line: str) -> None:
            file.write(f"{line}\n".encode())

        write("\\data\\")
        for order, section in sections.items():
            write(f"ngram {order}={len(section)}")
        for order, section in sections.items():
            write(f"\n\\{order}-grams:")
            for words in section:
                backoff = ngram.backoffs.get(words)
                rest = "" if backoff is None else f"\t{backoff / ten:.7f}"
                write(f"{entries[words]:.7f}\t{' '.join(words)}{rest}")
        write("\n\\end\\")


def read_arpa(path: Path) -> Ngram:
    """Reads a model from an ARPA file, plain or compressed by gzip.

    Raises:
      UserError: the file cannot be read, is too large, or is damaged; the message has the line.
    """
    try:
        with _opened(path) as file:
            return _Reader(path, file).ngram()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"Cannot read the language model {path}: {error}") from error


def _opened(path: Path) -> BinaryIO:
    """Opens a regular file and decompresses it if needed."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a regular file")
    with path.open("rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


class _Reader:
    """Reads the sections of an ARPA file in order, and knows the line for messages."""

    def __init__(self, path: Path, file: BinaryIO):
        self._path, self._file, self._number = path, file, 0

    def ngram(self) -> Ngram:
        lines = self._lines()
        for line in lines:  # text may come before the data
            if line == "\\data\\":
                break
        else:
            raise self._damaged("there is no \\data\\")
        sizes: list[int] = []
        for line in lines:
            if not line.startswith("ngram "):
                break
            sizes.append(self._size(line, len(sizes) + 1))
        if not sizes or sum(sizes) > _MOST_NGRAMS or len(sizes) > _MOST_ORDER:
            raise self._damaged(
                f"it has {sum(sizes)} n-grams of {len(sizes)} orders, not 1 to {_MOST_NGRAMS} of 1 "
                f"to {_MOST_ORDER}"
            )
        log_probs: dict[Words, float] = {}
        backoffs: dict[Words, float] = {}
        for order, size in enumerate(sizes, 1):
            if line != f"\\{order}-grams:":
                raise self._damaged(f'"\\{order}-grams:" should be here')
            for _ in range(size):
                words, log_prob, backoff = self._entry(next(lines, ""), order)
                if words in log_probs:
                    raise self._damaged(f'"{" ".join(words)}" is there twice')
                log_probs[words] = log_prob
                if backoff:
                    backoffs[words] = backoff
            line = next(lines, "")
        if line != "\\end\\":
            raise self._damaged('"\\end\\" should be here')
        return Ngram(len(sizes), log_probs, backoffs)

    def _lines(self) -> Iterator[str]:
        """Yields the lines that are not blank."""
        while line := self._file.readline(_LONGEST_LINE):
            self._number += 1
            if len(line) == _LONGEST_LINE:
                raise self._damaged("the line is too long")
            try:
                text = line.decode().strip()
            except UnicodeDecodeError as error:
                raise self._damaged("it is not UTF-8") from error
            if text:
                yield text

    def _size(self, line: str, order: int) -> int:
        name, _, size = line.removeprefix("ngram ").partition("=")
        if name.strip() != str(order) or not size.strip().isdecimal():
            raise self._damaged(f'"ngram {order}=" and a number should be here')
        return int(size)

    def _entry(self, line: str, order: int) -> tuple[Words, float, float]:
        """Parses the log10-probability, the words and the log10-weight, which may be missing."""
        cells = line.split()
        if len(cells) not in (order + 1, order + 2):
            raise self._damaged(f"an n-gram has a number, {order} words and perhaps a weight")
        words = tuple(UNKNOWN if word.lower() == UNKNOWN else word for word in cells[1 : order + 1])
        log_prob, backoff = self._log(cells[0]), self._log("".join(cells[order + 1 :]) or "0")
        if log_prob > 0:
            raise self._damaged("the logarithm of a probability is at most 0")
        return words, log_prob, backoff

    def _log(self, cell: str) -> float:
        """Converts a log10 to a natural logarithm."""
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._damaged(f'"{cell}" is not a number')
        return value * math.log(10)

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{self._path}, line {self._number}: {why}.")
