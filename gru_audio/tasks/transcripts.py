"""Metrics of transcripts: error rates of characters, words and sentences.

A rate is the sum of the errors of all examples over the sum of their reference lengths, and never a
mean of rates. An example with an empty reference adds its insertions and no length.

Predictions have "reference" (N, U) and "hypothesis" (N, W): int32 token ids, padded by the blank 0.
"""

import abc
import math
from collections.abc import Sequence

import numpy as np

from gru_audio.tasks.metrics import Mean, Metric, Predictions, Weights, linearized
from gru_audio.tasks.scale import Scale
from gru_audio.text.errors import Edits, edits, total
from gru_audio.text.tokens import Tokens


class ErrorRate(Metric):
    """Substitutions, insertions and deletions per unit of the reference."""

    higher_is_better = False
    bounds = (0.0, math.inf)

    def __init__(self, tokens: Tokens):
        self._tokens = tokens

    @abc.abstractmethod
    def units(self, text: str) -> Sequence[str]:
        """Divides a text into the units that are compared."""

    def edits(self, predictions: Predictions) -> list[Edits]:
        """Returns the edit operations of each example."""
        pairs = _texts(self._tokens, predictions)
        return [edits(self.units(reference), self.units(found)) for reference, found in pairs]

    def parts(self, predictions: Predictions) -> Edits:
        """Returns the edit operations of the corpus."""
        return total(self.edits(predictions))

    def value(self, predictions: Predictions, weights: Weights = None) -> float:
        """Returns the ratio of the weighted sums; NaN if all references are empty."""
        errors, lengths = self._counts(predictions)
        weight = np.ones(errors.size) if weights is None else weights
        whole = float(weight @ lengths)
        return float(weight @ errors) / whole if whole else math.nan

    def contributions(self, predictions: Predictions) -> np.ndarray:
        """Returns the contributions by the delta method."""
        return linearized(*self._counts(predictions))

    def _counts(self, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
        """Returns errors and reference lengths, float64 (N,)."""
        rows = [(each.errors, each.length) for each in self.edits(predictions)]
        errors, lengths = np.array(rows, np.float64).reshape(-1, 2).T
        return errors, lengths


class CharacterErrorRate(ErrorRate):
    """Errors per character; spaces count as characters."""

    name = "cer"
    title = "character error rate"

    def units(self, text: str) -> Sequence[str]:
        """Returns the characters."""
        return text


class WordErrorRate(ErrorRate):
    """Errors per word."""

    name = "wer"
    title = "word error rate"

    def units(self, text: str) -> Sequence[str]:
        """Returns the words."""
        return text.split()


class SentenceErrorRate(Mean):
    """The fraction of transcripts with an error."""

    name = "ser"
    title = "sentence error rate"
    higher_is_better = False

    def __init__(self, tokens: Tokens):
        self._tokens = tokens

    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """Returns True for transcripts with an error."""
        pairs = _texts(self._tokens, predictions)
        return np.array([reference != found for reference, found in pairs], bool), None


class WordErrors(Mean):
    """The number of word errors per transcript."""

    name = "word_errors"
    title = "number of word errors"
    higher_is_better = False
    bounds = (0.0, math.inf)
    margin = 0.1
    scale = Scale(1, 1)

    def __init__(self, tokens: Tokens):
        self._tokens = tokens

    def terms(self, predictions: Predictions) -> tuple[np.ndarray, Weights]:
        """Returns the substitutions, insertions and deletions of each transcript."""
        of_words = WordErrorRate(self._tokens).edits(predictions)
        return np.array([each.errors for each in of_words], np.float64), None


def _texts(tokens: Tokens, predictions: Predictions) -> list[tuple[str, str]]:
    """Returns the reference and the hypothesis of each example as text."""
    rows = zip(predictions["reference"].tolist(), predictions["hypothesis"].tolist(), strict=True)
    return [(tokens.decode(reference), tokens.decode(found)) for reference, found in rows]
