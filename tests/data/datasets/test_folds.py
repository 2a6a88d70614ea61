"""Folds divide no group, no file and no copies, and have similar numbers of each label."""

import collections

import numpy as np
import pytest

from gru_audio.data.datasets.folds import draw_folds
from gru_audio.data.datasets.splitting import Groups
from gru_audio.data.source import open_source
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from tests.tones import RATE, SPLIT_BY


def test_folds_are_stratified_and_keep_groups_and_copies():
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1]).tolist()
    speakers = [f"s{i % 40}" if i % 7 else "" for i in range(300)]
    same = [i if i % 11 else i // 33 for i in range(300)]
    folds = draw_folds(5, labels, Groups("speaker", speakers, True), same, 0)
    assert set(folds) == set("12345")
    of_speaker, of_file = collections.defaultdict(set), collections.defaultdict(set)
    for fold, speaker, file in zip(folds, speakers, same, strict=True):
        of_file[file].add(fold)
        of_speaker[speaker or file].add(fold)
    assert all(len(found) == 1 for found in (*of_speaker.values(), *of_file.values()))
    alone = draw_folds(5, labels, None, list(range(300)), 0)
    for label in "abc":
        counts = [
            sum(f == n and x == label for f, x in zip(alone, labels, strict=True)) for n in "12345"
        ]
        assert max(counts) - min(counts) <= 2
    assert alone == draw_folds(5, labels, None, list(range(300)), 0)
    assert alone != draw_folds(5, labels, None, list(range(300)), 1)


def test_too_few_groups():
    with pytest.raises(UserError, match=r"--folds 3 needs as many groups .* there are 2"):
        draw_folds(3, ["a"] * 4, Groups("group", ["x", "x", "y", "y"], True), [0, 1, 2, 3], 0)


def test_a_folder_and_a_manifest_have_a_field_of_folds(tmp_path, tones_folder):
    options = {"sample_rate": RATE, "folds": 3}
    prepare("folder", tmp_path, name="tones", folder=tones_folder, split_by=SPLIT_BY, **options)
    source = open_source("tones", tmp_path)
    fold, names = source.classes("fold", "")
    speaker, _ = source.classes("group", "")
    assert names == ("1", "2", "3")
    assert all(len(set(fold[speaker == s].tolist())) == 1 for s in set(speaker.tolist()))
    table = tmp_path / "list.csv"
    files = sorted(tones_folder.rglob("*.wav"))
    rows = [f"{file},{file.parent.name},{file.stem.split('_')[0]}" for file in files]
    table.write_text("\n".join(["file,label,group", *rows]))
    prepare("manifest", tmp_path, name="listed", manifest=table, **options)
    listed = open_source("listed", tmp_path)
    fold, names = listed.classes("fold", "")
    speaker, _ = listed.classes("group", "")
    assert names == ("1", "2", "3")
    assert all(len(set(fold[speaker == s].tolist())) == 1 for s in set(speaker.tolist()))
