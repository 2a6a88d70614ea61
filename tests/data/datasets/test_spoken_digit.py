"""The Free Spoken Digit Dataset: splits and refused archives."""

import collections
import csv
from pathlib import Path

import numpy as np
import pytest

from gru_audio.data.datasets.spoken_digit import SpokenDigit, official_split
from gru_audio.settings import UserError
from tests import sounds
from tests.data.datasets.making import build, member, tar_of


def digits_archive(path: Path, takes: int = 11) -> Path:
    clip = {d: sounds.encode(sounds.tone(0.05, 8000, 200 + 50 * d), 8000) for d in range(10)}
    return tar_of(
        path,
        [
            (member(f"fsdd/recordings/{d}_{who}_{take}.wav"), clip[d])
            for d in range(10)
            for who in ("theo", "lucas")
            for take in range(takes)
        ],
    )


def test_the_official_split():
    assert [official_split(t) for t in (0, 4, 5, 9, 10, 49)] == [
        *("test", "test", "validation", "validation", "train", "train")
    ]


def test_other_recordings_need_noverify(tmp_path):
    path = digits_archive(tmp_path / "x.tar.gz")
    with pytest.raises(UserError, match="--noverify"):
        build(SpokenDigit(data_dir=tmp_path / "a", archive=path))
    about, columns = build(SpokenDigit(data_dir=tmp_path / "b", archive=path, verify=False))
    assert about["fields"]["speaker"]["names"] == ["lucas", "theo"]
    assert collections.Counter(columns["split"].tolist()) == {
        **{"train": 20, "validation": 100, "test": 100}
    }


def test_a_manifest_that_disagrees_is_refused(tmp_path):
    path = digits_archive(tmp_path / "x.tar.gz", takes=6)
    listed = tmp_path / "list.csv"
    rows = [
        f"{d}_{who}_{t}.wav,{'test' if t < 5 else 'train'}"
        for d in range(10)
        for who in ("theo", "lucas")
        for t in range(6)
    ]
    options = {"archive": path, "manifest": listed, "verify": False}
    listed.write_text("\n".join(["filename,split", *rows]))
    build(SpokenDigit(data_dir=tmp_path / "a", **options))
    for wrong in (rows[1:], [rows[0].replace("test", "train"), *rows[1:]]):
        listed.write_text("\n".join(["filename,split", *wrong]))
        with pytest.raises(UserError, match=r"disagree about 0_theo_0\.wav"):
            build(SpokenDigit(data_dir=tmp_path / "b", **options))


def test_the_real_recordings(tmp_path):
    path = sounds.archive("spoken-digit/*.tar.gz")
    listed = sounds.archive("spoken-digit/manifest.csv")
    builder = SpokenDigit(data_dir=tmp_path, archive=path, manifest=listed)
    about, columns = build(builder)
    with listed.open(newline="") as file:
        truth = {row["filename"]: row for row in csv.DictReader(file)}
    assert len(columns["clip"]) == len(truth) == 3000
    names = {field: np.array(about["fields"][field]["names"]) for field in builder.fields}
    for i, clip in enumerate(columns["clip"]):
        row = truth[clip]
        assert (columns["split"][i] == "test") == (row["split"] == "test")
        assert names["digit"][columns["digit"][i]] == row["digit"]
        assert names["speaker"][columns["speaker"][i]] == row["speaker"]
        assert columns["length"][i] == int(row["samples"])
    validation = columns["clip"][columns["split"] == "validation"]
    assert {int(clip[:-4].split("_")[2]) for clip in validation} == {5, 6, 7, 8, 9}
    assert "release 1.0.10" in about["verified"]
