"""Edit operations between a reference and a hypothesis, with the fewest errors (Levenshtein)."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

SUBSTITUTION, INSERTION, DELETION = "replace", "insert", "delete"


class Edits(NamedTuple):
    """The edit operations of a pair of sequences, or their sums over a corpus.

    Attributes:
      substitutions, insertions, deletions: how many there are of each.
      length: the length of the reference.
    """

    substitutions: int
    insertions: int
    deletions: int
    length: int

    @property
    def errors(self) -> int:
        """The number of all operations."""
        return self.substitutions + self.insertions + self.deletions


class Aligned(NamedTuple):
    """A pair of an alignment.

    Attributes:
      operation: "equal", `SUBSTITUTION`, `INSERTION` or `DELETION`.
      reference, hypothesis: the two parts; "" where one is missing.
    """

    operation: str
    reference: str
    hypothesis: str


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """Counts the edit operations that turn the reference into the hypothesis.

    Args:
      reference, hypothesis: texts for operations on characters, lists of words for those on words.
    """
    tags = [operation.tag for operation in Levenshtein.editops(reference, hypothesis)]
    substitutions, insertions, deletions = map(tags.count, (SUBSTITUTION, INSERTION, DELETION))
    return Edits(substitutions, insertions, deletions, len(reference))


def total(of_pairs: Iterable[Edits]) -> Edits:
    """Returns the sums over the pairs of a corpus."""
    sums = [sum(column) for column in zip(*of_pairs, strict=True)]
    return Edits(*sums) if sums else Edits(0, 0, 0, 0)


def alignment(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Aligned]:
    """Aligns two sequences for display."""
    pairs: list[Aligned] = []
    for block in Levenshtein.opcodes(reference, hypothesis):
        left = reference[block.src_start : block.src_end]
        right = hypothesis[block.dest_start : block.dest_end]
        rows = itertools.zip_longest(left, right, fillvalue="")
        pairs += [Aligned(block.tag, one, other) for one, other in rows]
    return pairs
