"""Contents of columns, and class names."""

import pytest

from gru_audio.data.datasets.columns import CLASS, EMPTY, NUMBER, TEXT, Column, kind
from gru_audio.data.datasets.quality import alike
from gru_audio.data.fields import clean


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
