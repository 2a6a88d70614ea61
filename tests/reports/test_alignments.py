"""The words in which a reference and its transcript differ."""

from hypothesis import given
from hypothesis import strategies as st

from gru_audio.reports.alignments import ADDED, MISSING, marked
from gru_audio.text.errors import edits

texts = st.lists(st.sampled_from(["YES", "NO", "<b>"]), max_size=8).map(" ".join)


@given(texts, texts)
def test_both_texts_can_be_read_from_the_marks(reference, transcript):
    found = list(marked(reference, transcript))
    assert " ".join(word for mark, word in found if mark != ADDED) == reference
    assert " ".join(word for mark, word in found if mark != MISSING) == transcript
    counts = edits(reference.split(), transcript.split())
    marks = [mark for mark, _ in found]
    assert marks.count(MISSING) == counts.substitutions + counts.deletions
    assert marks.count(ADDED) == counts.substitutions + counts.insertions


def test_a_substitution_is_a_missing_and_an_added_word():
    found = [("", "YES"), (MISSING, "NO"), (ADDED, "WELL"), ("", "AH"), (ADDED, "NO")]
    assert list(marked("YES NO AH", "YES WELL AH NO")) == found
