"""Edit operations against jiwer, and alignments."""

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.text.errors import Edits, alignment, edits, total

TEXTS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=6).map(" ".join)


@given(TEXTS, TEXTS)
def test_counts_are_those_of_jiwer(reference, hypothesis):
    words = jiwer.process_words(reference, hypothesis)
    found = edits(reference.split(), hypothesis.split())
    assert found == (
        words.substitutions,
        words.insertions,
        words.deletions,
        len(reference.split()),
    )
    assert found.errors / found.length == pytest.approx(jiwer.wer(reference, hypothesis))
    found = edits(reference, hypothesis)
    assert found.errors / found.length == pytest.approx(jiwer.cer(reference, hypothesis))


def test_sums_over_a_corpus():
    pairs = [("a b", "a c"), ("", "x y"), ("a b c", "a c")]
    rows = [edits(reference.split(), found.split()) for reference, found in pairs]
    assert rows[1] == Edits(0, 2, 0, 0)
    assert total(rows) == Edits(1, 2, 1, 5) and total(rows).errors == 4
    assert total([]) == Edits(0, 0, 0, 0)


@given(TEXTS, TEXTS)
def test_an_alignment_has_both_sequences_and_the_counted_errors(reference, hypothesis):
    left, right = reference.split(), hypothesis.split()
    pairs = alignment(left, right)
    assert [pair.reference for pair in pairs if pair.reference] == left
    assert [pair.hypothesis for pair in pairs if pair.hypothesis] == right
    counts = edits(left, right)
    operations = [pair.operation for pair in pairs]
    assert operations.count("replace") == counts.substitutions
    assert operations.count("insert") == counts.insertions
    assert operations.count("delete") == counts.deletions
    for operation, one, other in pairs:
        assert (one == other) == (operation == "equal")
