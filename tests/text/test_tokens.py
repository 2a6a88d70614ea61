"""Tokens: round trips, unknown characters and token files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.data.fields import TextField, clean
from gru_audio.settings import UserError
from gru_audio.text.tokens import UNKNOWN, Tokens, read_tokens

FIELD = TextField.of(["SO  LONG", "\u00e9", None], [True] * 3)


@pytest.mark.parametrize("tokens", ["characters", "words"])
@given(st.lists(st.sampled_from(["SO", "LONG", "\u00e9"])).map(" ".join))
def test_known_texts_come_back(tokens, text):
    known = Tokens.of(tokens, FIELD)
    ids = known.encode(text)
    assert known.decode(ids) == text
    assert all(0 < i < known.outputs for i in ids)
    assert len(ids) == (len(text.split()) if tokens == "words" else len(text))


def test_blanks_are_left_out_and_white_space_is_collapsed():
    known = Tokens((" ", "A", "B"))
    assert known.decode([0, 1, 2, 0, 1, 1, 3, 1, 0]) == "A B"
    assert known.encode("  A \t B ") == known.encode("A B") == [2, 1, 3]
    assert known.encode("") == [] and known.decode([]) == ""


@given(st.text("AB \u00e9\u2603"))
def test_unknown_characters_have_an_id_that_no_output_has(text):
    known = Tokens((" ", "A", "B"))
    ids, expected = known.encode(text), clean(text)
    assert known.outputs == 4 and known.unknown == 4
    assert [i == known.unknown for i in ids] == [c not in "AB " for c in expected]
    shown = "".join(c if c in "AB " else UNKNOWN for c in expected)
    assert known.decode(ids) == shown
    assert known.missing([text]).total() == shown.count(UNKNOWN)


def test_unknown_words_are_counted_by_name():
    known = Tokens(("NO", "YES"), are_words=True)
    assert known.encode("YES WELL NO") == [2, 3, 1]
    assert known.missing(["YES WELL NO", "WELL"]) == {"WELL": 2}
    assert known.decode([2, 3, 1]) == f"YES {UNKNOWN} NO"


def test_the_longest_token_of_a_file_is_taken(tmp_path):
    path = tmp_path / "tokens.txt"
    path.write_text("T\nH\nTH\n|\nTHE\nE\n")
    known = read_tokens(path)
    assert known.names == ("T", "H", "TH", " ", "THE", "E") and not known.are_words
    assert known.encode("THE TH T") == [5, 4, 3, 4, 1]
    path.write_text("yes\r\nno\r\n")
    assert Tokens.of(str(path), FIELD) == Tokens(("yes", "no"), are_words=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A 1\nB 2\n", 'line 1: "A 1" is not one token'),
        (b"A\nA\n", 'The token "A" is there 2 times'),
        (b"A\n|\n \n", "is there 2 times"),
        (b"\xff\n", "Cannot read the tokens"),
        (b"", "There are no tokens"),
        (b"A\x07\n\xef\xbf\xbd\n", "is no token"),
    ],
)
def test_an_invalid_token_file_is_refused(tmp_path, content, message):
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_tokens(path)


def test_too_many_and_no_tokens_are_refused():
    with pytest.raises(UserError, match="65537 tokens are too many"):
        Tokens(tuple(map(str, range(2**16 + 1))), are_words=True)
    with pytest.raises(UserError, match="no tokens"):
        Tokens.of("characters", TextField("", ()))
    with pytest.raises(UserError, match="prepare it again"):
        Tokens.of("words", TextField("ab"))
    with pytest.raises(UserError, match="Cannot read the tokens"):
        Tokens.of("/nowhere/tokens.txt", FIELD)
