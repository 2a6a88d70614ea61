"""A directory per class, with good and bad files."""

import collections
import os

import numpy as np
import pytest

from gru_audio.data.datasets.clips import SPLITS
from gru_audio.data.datasets.folder import Folder
from gru_audio.settings import UserError
from tests import sounds
from tests.data.datasets.making import build, folder_builder


def test_a_directory_per_class(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 10, "dog": 20, "10": 10, "9": 10})
    (tmp_path / "sounds" / "cat" / ".hidden").write_text("x")
    (tmp_path / "sounds" / ".git").mkdir()
    about, columns = build(folder_builder(tmp_path))
    assert about["fields"] == {"label": {"kind": "class", "names": ["9", "10", "cat", "dog"]}}
    names = np.array(about["fields"]["label"]["names"])[columns["label"]]
    assert all(
        clip.split("/")[0] == name for clip, name in zip(columns["clip"], names, strict=True)
    )
    assert columns["split"].tolist() == ["train"] * 40 + ["validation"] * 5 + ["test"] * 5
    assert (columns["length"].dtype, columns["label"].dtype) == (np.int32, np.int32)


def test_splits_above_the_classes_are_kept_under_their_usual_names(tmp_path):
    for split, count in {"test": 3, "training": 5, "val": 2}.items():
        sounds.write_classes(tmp_path / "sounds" / split, {"cat": count, "dog": count})
    _, columns = build(folder_builder(tmp_path))
    assert columns["split"].tolist() == ["train"] * 10 + ["validation"] * 4 + ["test"] * 6
    (tmp_path / "sounds" / "cats").mkdir()
    with pytest.raises(UserError, match="cats/ is none"):
        build(Folder(data_dir=tmp_path / "again", name="mine", folder=tmp_path / "sounds"))


def test_groups_found_in_file_names_stay_together(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "sounds" / label).mkdir(parents=True)
        for i in range(30):
            path = tmp_path / "sounds" / label / f"speaker{i % 6}_{i}.wav"
            path.write_bytes(sounds.encode(sounds.tone(frequency=400 + i + 50 * (label == "cat"))))
    about, columns = build(folder_builder(tmp_path, split_by=r"(speaker\d)_"))
    assert about["fields"]["group"]["names"] == [f"speaker{i}" for i in range(6)]
    pairs = set(zip(columns["group"].tolist(), columns["split"].tolist(), strict=True))
    assert len(pairs) == 6
    assert {split for _, split in pairs} == set(SPLITS)
    with pytest.raises(UserError, match="finds no group"):
        build(
            Folder(data_dir=tmp_path / "b", name="m", folder=tmp_path / "sounds", split_by="voice")
        )
    with pytest.raises(UserError, match="no regular expression"):
        folder_builder(tmp_path, split_by="(")


@pytest.mark.parametrize("expression", [r"a(\d+)|b(\d+)", r"(x)?[ab](\d+)", r"(?P<take>\d+)|(z)"])
def test_the_parenthesis_that_matched_is_the_group(tmp_path, expression):
    sounds.write_classes(tmp_path / "sounds", {"no": 9, "yes": 9})
    for label, letter in (("no", "a"), ("yes", "b")):
        for i in range(9):
            path = tmp_path / "sounds" / label / f"{i}.wav"
            path.rename(path.with_name(f"{letter}{i}.wav"))
    about, columns = build(folder_builder(tmp_path, split_by=expression))
    groups = np.array(about["fields"]["group"]["names"])[columns["group"]]
    assert [clip[-5] for clip in columns["clip"]] == groups.tolist()


@pytest.mark.parametrize("expression", [r"(x)?\d+", r"a(\d+)|b\d+|(c)", "(x*)", "q"])
def test_a_path_without_a_group_is_named(tmp_path, expression):
    sounds.write_classes(tmp_path / "sounds", {"b": 3})
    with pytest.raises(UserError, match=r"finds no group in b/0\.wav"):
        build(folder_builder(tmp_path, split_by=expression))


def test_train_and_test_alone_and_empty_classes(tmp_path):
    for split, count in {"train": 20, "test": 3}.items():
        sounds.write_classes(tmp_path / "sounds" / split, {"cat": count, "dog": count})
    (tmp_path / "sounds" / "train" / "owl").mkdir()
    about, columns = build(folder_builder(tmp_path))
    counts = collections.Counter(columns["split"].tolist())
    assert counts == {"train": 36, "validation": 4, "test": 6}
    assert "There are no files in train/owl/." in about["remarks"]
    assert any("11% of train (4 clips) becomes one" in remark for remark in about["remarks"])
    # The tones of both splits are equal.
    assert any("with another split" in remark for remark in about["remarks"])


def test_links_and_copies_stay_with_their_files(tmp_path):
    root = tmp_path / "sounds"
    sounds.write_classes(root, {"cat": 20, "dog": 20})
    for i in range(20):
        (root / "cat" / f"link{i}.wav").symlink_to(root / "cat" / f"{i}.wav")
        os.link(root / "dog" / f"{i}.wav", root / "dog" / f"link{i}.wav")
    about, columns = build(folder_builder(tmp_path))
    split = dict(zip(columns["clip"].tolist(), columns["split"].tolist(), strict=True))
    assert len(split) == 80
    assert all(split[clip] == split[clip.replace("link", "")] for clip in split)
    assert "Copies of other clips: 40. Each is in the split of its original." in about["remarks"]


def test_classes_without_clips_are_left_out_and_reported(tmp_path):
    root = tmp_path / "sounds"
    sounds.write_classes(root, {"no": 10, "yes": 10})
    for label, content in (("broken", b"x"), ("silence", sounds.encode(np.zeros(800, np.int16)))):
        (root / label).mkdir()
        for i in range(10):
            (root / label / f"{i}.wav").write_bytes(content)
    about, columns = build(folder_builder(tmp_path))
    assert about["fields"]["label"]["names"] == ["no", "yes"]
    assert np.bincount(columns["label"]).tolist() == [10, 10]
    for clip, label in zip(columns["clip"], columns["label"], strict=True):
        assert clip.startswith(["no", "yes"][label])
    (told,) = [remark for remark in about["remarks"] if "no clip of" in remark]
    assert told.startswith(
        "label: no clip of broken (10 not audio), silence (10 silent) can be used, so 2 classes are"
    )
    assert "--keep_silence" in told
    again = {"data_dir": tmp_path / "again", "name": "mine", "folder": root, "keep_silence": True}
    about, columns = build(Folder(**again))
    assert about["fields"]["label"]["names"] == ["no", "silence", "yes"]
    assert np.bincount(columns["label"]).tolist() == [10, 10, 10]
    assert set(columns["split"][columns["label"] == 1]) == set(SPLITS)


def test_a_split_without_usable_clips_is_reported(tmp_path):
    for split in ("train", "test"):
        sounds.write_classes(tmp_path / "sounds" / split, {"no": 5, "yes": 5})
    for path in (tmp_path / "sounds" / "test").rglob("*.wav"):
        path.write_bytes(b"x")
    about, columns = build(folder_builder(tmp_path))
    assert "No clip of the split test can be used." in about["remarks"]
    assert "test" not in columns["split"]


def test_one_class_in_two_unicode_forms_is_one_class(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"caf\u00e9": 10, "cafe\u0301": 5, " dog": 5})
    about, columns = build(folder_builder(tmp_path))
    assert about["fields"]["label"]["names"] == ["caf\u00e9", "dog"]
    assert np.bincount(columns["label"]).tolist() == [15, 5]


def test_links_are_followed_once(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 3, "dog": 3})
    sounds.write_classes(tmp_path / "elsewhere", {"wolf": 4})
    dogs = tmp_path / "sounds" / "dog"
    (dogs / "wolves").symlink_to(tmp_path / "elsewhere" / "wolf")
    (dogs / "again").symlink_to(dogs)
    (dogs / "broken.wav").symlink_to(tmp_path / "nowhere.wav")
    about, columns = build(folder_builder(tmp_path))
    of_label = collections.Counter(columns["label"].tolist())
    assert of_label == {0: 3, 1: 7}
    assert [name for name, _ in about["skipped"]] == ["dog/broken.wav"]


def test_a_name_that_is_no_text_is_shown(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 3})
    os.rename(os.fsencode(tmp_path / "sounds" / "cat"), os.fsencode(tmp_path / "sounds") + b"/\xff")
    with pytest.raises(UserError, match=r"Rename '\\udcff/.*not written in UTF-8"):
        build(folder_builder(tmp_path))


def test_one_place_for_the_sounds(tmp_path):
    with pytest.raises(UserError, match="give one of them"):
        folder_builder(tmp_path, archive="x.tar")


def test_bad_files_are_named_and_skipped(tmp_path):
    root = tmp_path / "sounds"
    sounds.write_classes(root, {"cat": 10, "dog": 10})
    whole = sounds.encode(sounds.tone())
    bad = {
        "cat/cut.wav": (whole[:-100], "truncated"),
        "cat/notes.txt": (b"a note", "not audio"),
        "cat/nothing.wav": (b"", "empty"),
        "dog/silence.wav": (sounds.encode(np.zeros(100, np.float32)), "silent"),
        "dog/nan.wav": (sounds.encode(np.array([np.nan, 0.1]), subtype="FLOAT"), "non-finite"),
    }
    for name, (content, _) in bad.items():
        (root / name).write_bytes(content)
    about, columns = build(folder_builder(tmp_path))
    assert {name: reason for name, reason in about["skipped"]} == {
        n: r for n, (_, r) in bad.items()
    }
    assert len(columns["clip"]) == 20
    with pytest.raises(UserError) as caught:
        build(Folder(data_dir=tmp_path / "no", name="mine", folder=root, on_bad_file="refuse"))
    for name, (_, reason) in bad.items():
        assert f"{name}: {reason}" in str(caught.value)
    assert not list((tmp_path / "no").rglob("*array_record*"))


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        build(folder_builder(tmp_path))
    (tmp_path / "sounds" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match="no directory per class"):
        build(folder_builder(tmp_path))
    (tmp_path / "sounds" / "cat" / "x.wav").write_text("no sound")
    with pytest.raises(UserError, match=r"cat/x\.wav: not audio\n.*nothing left"):
        build(folder_builder(tmp_path))
