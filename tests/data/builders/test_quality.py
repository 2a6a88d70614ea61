"""Remarks on clips, counted by hand."""

import numpy as np

from gru_audio.data.builders import quality

COLUMNS = {
    "split": np.array(["train", "train", "train", "validation", "test", "test", "test"]),
    "clip": np.array(list("abcdefg")),
    "label": np.array([0, 1, -1, 2, 0, 2, 2]),
    "speaker": np.array([0, 0, 0, 0, 1, 1, -1]),
}
NAMES = {"label": ["cat", "Cat", "owl"], "speaker": ["ann", "ben"]}


def test_nothing_is_said_of_clean_clips():
    columns = {name: column[:2] for name, column in COLUMNS.items()}
    assert quality.remarks(columns, {"label": ["cat", "dog"]}, [b"1", b"2"]) == []
    assert quality.remarks(columns, {}, [b"1", b"2"]) == []


def test_what_is_odd_is_counted():
    contents = [b"1", b"2", b"3", b"4", b"1", b"5", b"5"]
    assert quality.remarks(COLUMNS, NAMES, contents) == [
        'label: "cat" (2 clips) and "Cat" (1 clip) are different classes, though they look alike. '
        "Give them one spelling to join them.",
        "label: unknown for 1 of 7 clips. None of them is learnt or tested.",
        "label: 1 class is in validation but not in train: owl (1 clip).",
        "label: 1 class is in test but not in train: owl (2 clips).",
        "2 clips are the same as others, sample by sample, with another split: "
        "a (train) and e (test).",
        "4 clips are the same as others, sample by sample, with another speaker: "
        "a (ann) and e (ben); f (ben) and g (none).",
    ]


def test_classes_all_of_whose_clips_were_skipped():
    labels, reasons = ["x", "y", "x", "x"], ["silent", "empty", "empty", "silent"]
    assert quality.without_clips("label", [], labels, reasons) == []
    (remark,) = quality.without_clips("label", ["x"], labels, reasons)
    assert remark.startswith("label: no clip of x (2 silent, 1 empty) can be used, so 1 class is")
    (remark,) = quality.without_clips("label", ["y"], labels[1:2], reasons[1:2])
    assert "silence" not in remark


def test_tags_are_trained_one_by_one():
    names, ids = ["a+b", "b+c", "a", "c+d", "C++"], np.array([0, 1, 2, 3, 2, 4])
    split = np.array(["train", "train", "test", "test", "", "test"])
    assert quality.never_trained_on("label", names, ids, split) == [
        "label: 2 classes are in test but not in train: c+d (1 clip), C++ (1 clip)."
    ]
    assert quality.never_trained_on("label", names, ids, np.full(6, "test")) == []
