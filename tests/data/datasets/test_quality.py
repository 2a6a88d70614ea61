"""Remarks on clips, counted by hand."""

import numpy as np

from gru_audio.data.datasets import quality
from gru_audio.data.fields import ClassField, TagsField

LABELS = {
    "label": ["cat", "Cat", None, "owl", "cat", "owl", "owl"],
    "speaker": ["ann", "ann", "ann", "ann", "ben", "ben", None],
}
SPLITS = ["train", "train", "train", "validation", "test", "test", "test"]


def remarks(contents, labels, kind=ClassField, clips=7):
    """The remarks on the first `clips` clips."""
    fields = {name: kind.of(values[:clips], []) for name, values in labels.items()}
    columns = {name: field.arrays(labels[name][:clips]) for name, field in fields.items()}
    columns |= {"split": np.array(SPLITS[:clips]), "clip": np.array(list("abcdefg")[:clips])}
    rows = [{name: values[i] for name, values in labels.items()} for i in range(clips)]
    return quality.remarks(columns, fields, rows, contents)


def test_clean_clips_have_no_remarks():
    assert remarks([b"1", b"2"], {"label": ["cat", "dog"]}, clips=2) == []
    assert remarks([b"1", b"2"], {}, clips=2) == []


def test_problems_are_counted():
    assert remarks([b"1", b"2", b"3", b"4", b"1", b"5", b"5"], LABELS) == [
        'label: "Cat" (1 clip) and "cat" (2 clips) are different classes, but look alike. '
        "Give them the same name to merge them.",
        "label: unknown for 1 of 7 clips. The target label excludes them.",
        "label: 1 class is in validation but not in train: owl (1 clip).",
        "label: 1 class is in test but not in train: owl (2 clips).",
        "2 clips have the same samples as others with another split: a (train) and e (test).",
        "4 clips have the same samples as others with another speaker: "
        "a (ann) and e (ben); f (ben) and g (unknown).",
    ]


def test_classes_all_of_whose_clips_were_skipped():
    labels, reasons = [("x",), ("y",), ("x",), ("x",)], ["silent", "empty", "empty", "silent"]
    assert quality.without_clips("label", [], labels, reasons) == []
    (remark,) = quality.without_clips("label", ["x"], labels, reasons)
    assert remark.startswith("label: no clip of x (2 silent, 1 empty) can be used, so 1 class is")
    (remark,) = quality.without_clips("label", ["y"], labels[1:2], reasons[1:2])
    assert "silence" not in remark


def test_tags_are_trained_one_by_one():
    tags = [{"a", "b"}, {"b", "c"}, set(), {"c", "d"}, {"d"}, {"C++"}, {"a"}]
    values = {"tags": [frozenset(value) for value in tags]}
    contents = [b"1", b"2", b"2", b"3", b"4", b"5", b"6"]
    assert remarks(contents, values, TagsField) == [
        "tags: 1 tag is in validation but not in train: d (1 clip).",
        "tags: 2 tags are in test but not in train: C++ (1 clip), d (1 clip).",
        "2 clips have the same samples as others with another tags: b (b+c) and c (none).",
    ]
