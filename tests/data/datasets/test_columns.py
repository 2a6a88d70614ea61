"""Contents of columns, and class names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.data.datasets.columns import (
    CLASS,
    EMPTY,
    NUMBER,
    TEXT,
    Column,
    kind,
    wanted,
    written,
)
from gru_audio.data.datasets.quality import alike
from gru_audio.data.fields import ClassField, NumberField, TagsField, TextField, clean
from gru_audio.settings import UserError
from tests import sounds
from tests.data.datasets.making import manifest_builder
from tests.prepared import prepared


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b", "a", "b"], CLASS),
        (["a", "a", ""], CLASS),
        (["a", "b", "c", "a"], TEXT),
        (["one", "two"], TEXT),
        (["1", "2", "1", "2"], CLASS),
        (["1", "2", "3"], NUMBER),
        ([str(i % 20) for i in range(100)], CLASS),
        ([str(i % 21) for i in range(100)], NUMBER),
        (["0.5", "1", "0.5", "1"], NUMBER),
        (["-1e3", "-1e3"], CLASS),
        (["nan", "nan"], CLASS),
        (["", ""], EMPTY),
        ([], EMPTY),
    ],
)
def test_kinds_of_columns(values, expected):
    assert kind(values) == expected


def test_fields_are_parsed():
    assert Column.parse("a") == Column("a", "a")
    assert Column.parse(" a = b ") == Column("a", "b")
    assert Column.parse("a=b:c") == Column("a", "b", "c")


def test_labels_are_composed_with_single_spaces():
    assert clean(" cafe\u0301\u00a0 au\n lait\ufeff") == "caf\u00e9 au lait"
    assert clean("\u200b ") == ""


def test_look_alikes():
    names = [
        "Yes",
        "yes",
        "no",
        "big dog",
        "Big_Dog",
        "x\u00b2",
        "x2",
        "stra\u00dfe",
        "STRASSE",
        "10",
    ]
    assert alike(names) == [
        ["Yes", "yes"],
        ["big dog", "Big_Dog"],
        ["x\u00b2", "x2"],
        ["stra\u00dfe", "STRASSE"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u00bfDon't stop, \u2018well-known\u2019 Bob!", "Don't stop well known Bob"),
        ("l\u2019eau 5\u20ac + '90s", "l\u2019eau 5\u20ac + 90s"),
        ("...", ""),
    ],
)
def test_punctuation_becomes_space_but_apostrophes_in_words_stay(text, expected):
    assert written(text, "keep", True) == expected


@pytest.mark.parametrize(
    ("options", "cell", "expected"),
    [
        ({"case": "upper"}, "Stra\u00dfe, no.", "STRASSE, NO."),
        ({"case": "lower", "strip_punctuation": True}, "Oh  No!", "oh no"),
        ({"strip_punctuation": True}, "<none>", ""),
        ({"case": "lower"}, "", None),
        ({}, "Oh No!", "Oh No!"),
    ],
)
def test_letters_and_punctuation_of_texts(options, cell, expected):
    assert wanted(text=["words"], **options).value(cell, TextField) == expected


CELLS = st.text(st.characters(codec="utf-8"))
KINDS = st.sampled_from([ClassField, TagsField, TextField, NumberField])


@given(CELLS | st.sampled_from(["nan", "1e999", "<none>", "none", "+"]), KINDS)
def test_any_cell_has_a_valid_value_or_is_refused(cell, kind):
    """Values are canonical, so that a second reading does not change them."""
    try:
        value = wanted(text=["words"]).value(cell, kind)
    except UserError as error:
        assert "\n" not in str(error)
        return
    if value is not None:
        assert kind.clean(value) == value
        assert kind is NumberField or not kind.problem(value, 1.0)


@given(CELLS, st.sampled_from(["keep", "upper", "lower"]), st.booleans())
def test_texts_that_are_written_twice_are_those_that_are_written_once(text, case, strip):
    once = written(clean(text), case, strip)
    assert written(once, case, strip) == once


def test_texts_are_written_as_the_user_wants(tmp_path):
    rows = []
    for i, text in enumerate(["Yes!", "<none>", "", "No, no."]):
        (tmp_path / f"{i}.wav").write_bytes(sounds.encode(sounds.tone(0.05, frequency=300 + i)))
        rows.append({"file": f"{i}.wav", "split": "train", "words": text})
    builder = manifest_builder(tmp_path, rows, text=["words"])
    options = {"name": "mine", "manifest": tmp_path / "list.csv", "text": ["words"]}
    changes = {"case": "upper", "strip_punctuation": True}
    source = prepared("manifest", tmp_path / "data", **options, **changes)
    assert source.columns["words"]["text"].tolist() == ["YES", "", "", "NO NO"]
    assert source.columns["words"]["known"].tolist() == [True, True, False, True]
    assert source.fields["words"].words == ("NO", "YES")
    assert builder.settings["case"] is None
    with pytest.raises(UserError, match="with case upper instead of None"):
        prepared("manifest", tmp_path / "data", **options)


def test_invalid_texts_are_refused_with_their_place(tmp_path):
    rows = [{"file": "0.wav", "words": "fine"}, {"file": "1.wav", "words": "a\tb"}]
    with pytest.raises(UserError, match=r"list\.csv, row 2: its text has control characters: 0x9"):
        manifest_builder(tmp_path, rows, text=["words"]).download_and_prepare()
    (tmp_path / "list.csv").write_bytes(b"file,words\n0.wav,fine\n1.wav,\xe9t\xe9\n")
    with pytest.raises(UserError, match=r"list\.csv, line 3: 'utf-8' codec"):
        prepared("manifest", tmp_path, name="mine", manifest=tmp_path / "list.csv", text=["words"])
    with pytest.raises(UserError, match='--case is upper, lower, keep, not "title"'):
        wanted(text=["words"], case="title")
    with pytest.raises(UserError, match="name them by --text"):
        wanted(strip_punctuation=True)
