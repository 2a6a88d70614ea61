"""The errors of transcripts: how many of each kind, and which words."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gru_audio.reports.comparison import Comparison
from gru_audio.tasks.ctc import Ctc
from gru_audio.tasks.transcripts import CharacterErrorRate, SentenceErrorRate, WordErrorRate
from gru_audio.text.errors import Edits, alignment, total

MISSING, ADDED = "del", "ins"  # the HTML elements of words


@dataclass(frozen=True)
class Errors:
    """The errors of a variant's test transcripts, summed over its runs.

    Attributes:
        variant: name of the variant.
        words, characters: edit operations.
        sentences: fraction of sentences with an error.
    """

    variant: str
    words: Edits
    characters: Edits
    sentences: float


def errors(comparison: Comparison) -> tuple[Errors, ...]:
    """Returns the errors of each variant; () if the task does not transcribe."""
    task = comparison.results.task
    if not isinstance(task, Ctc):
        return ()
    tokens, found = task.token_set, []
    for variant in comparison.variants:
        tested = [run.predictions for run in variant.runs]
        wrong = np.concatenate([SentenceErrorRate(tokens).terms(each)[0] for each in tested])
        words = total(map(WordErrorRate(tokens).parts, tested))
        characters = total(map(CharacterErrorRate(tokens).parts, tested))
        found.append(Errors(variant.name, words, characters, float(wrong.mean())))
    return tuple(found)


def marked(reference: str, transcript: str) -> Iterator[tuple[str, str]]:
    """Yields the words of a reference and its transcript in their common order.

    Each comes with "" if both have it, `MISSING` if only the reference has it, or `ADDED`. A
    substitution is a missing and an added word.
    """
    for _, left, right in alignment(reference.split(), transcript.split()):
        if left == right:
            yield "", left
        elif left:
            yield MISSING, left
        if right and left != right:
            yield ADDED, right
