"""Sounds that a CSV file lists, with good and bad lists."""

import numpy as np
import pytest

from gru_audio.config import UserError
from gru_audio.data.builders.clips import SPLITS
from gru_audio.data.builders.manifest import Manifest
from tests import sounds
from tests.data.builders.making import build, manifest_builder, member, tar_of


def rows_of(tmp_path, count: int = 12, **columns) -> list[dict]:
    rows = []
    for i in range(count):
        (tmp_path / f"{i}.wav").write_bytes(sounds.encode(sounds.tone(0.1, frequency=300 + i)))
        rows.append({"file": f"{i}.wav", "label": "ab"[i % 2]})
        rows[-1] |= {name: value(i) for name, value in columns.items()}
    return rows


def test_a_manifest_with_splits_speakers_and_other_columns(tmp_path):
    rows = rows_of(
        tmp_path,
        split=lambda i: ["train", "dev", "test", "extra"][i % 4],
        speaker=lambda i: f"s{i % 3}" if i else "",
        note=lambda i: "x",
    )
    about, columns = build(manifest_builder(tmp_path, rows))
    assert about["class_names"] == {"label": ["a", "b"], "speaker": ["s0", "s1", "s2"]}
    assert list(dict.fromkeys(columns["split"].tolist())) == [*SPLITS, "extra"]
    speakers = dict(zip(columns["clip"].tolist(), columns["speaker"].tolist(), strict=True))
    assert (speakers["0.wav"], speakers["4.wav"]) == (-1, 1)


def test_parts_of_a_file_stay_together_where_splits_are_drawn(tmp_path):
    rows = rows_of(tmp_path, 10)
    parts = [row | {"start": s, "end": e} for row in rows for s, e in ((0, 0.05), (0.05, 0.1))]
    _, columns = build(manifest_builder(tmp_path, parts))
    files = [clip.partition("@")[0] for clip in columns["clip"]]
    assert len(files) == 20
    assert len(set(zip(files, columns["split"].tolist(), strict=True))) == 10
    assert set(columns["split"].tolist()) == set(SPLITS)


@pytest.mark.parametrize("name", ["length", "clip", "split", "audio", "frames"])
def test_a_field_cannot_take_the_name_of_something_else(tmp_path, name):
    rows = rows_of(tmp_path, **{name: lambda i: f"x{i % 3}"})
    with pytest.raises(UserError, match=f'No field can be called "{name}"'):
        manifest_builder(tmp_path, rows, split_by=name)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "soon"])
def test_what_is_no_time_is_an_error(tmp_path, value):
    with pytest.raises(UserError, match=rf'0\.wav: start is "{value}", not seconds'):
        build(manifest_builder(tmp_path, rows_of(tmp_path, start=lambda i: value)))


def test_a_value_too_long_for_a_table_is_an_error(tmp_path):
    with pytest.raises(UserError, match="line 2: field larger than field limit"):
        manifest_builder(tmp_path, rows_of(tmp_path, note=lambda i: "x" * 200_000))


def test_splits_by_any_column_overrule_the_given_ones(tmp_path):
    rows = rows_of(tmp_path, split=lambda i: "train", room=lambda i: f"room {i % 4}")
    about, columns = build(manifest_builder(tmp_path, rows, split_by="room"))
    assert about["class_names"]["room"] == [f"room {i}" for i in range(4)]
    assert len(set(zip(columns["room"].tolist(), columns["split"].tolist(), strict=True))) == 4
    assert set(columns["split"].tolist()) == set(SPLITS)


def test_parts_of_a_long_recording(tmp_path):
    samples = np.arange(1, 16001, dtype=np.int16)
    (tmp_path / "long.flac").write_bytes(sounds.encode(samples, form="FLAC"))
    rows = [
        {"file": "long.flac", "label": "a", "split": "train", "start": i / 10, "end": (i + 1) / 10}
        for i in range(11)
    ]
    rows.append({"file": "long.flac", "label": "a", "split": "train", "start": 0.5, "end": ""})
    about, columns = build(manifest_builder(tmp_path, rows))
    assert columns["length"].tolist() == [1600] * 10 + [8000]
    assert about["skipped"] == [["long.flac@1-1.1", "truncated"]]


def test_a_missing_file_is_skipped_by_name(tmp_path):
    rows = [*rows_of(tmp_path), {"file": "gone.wav", "label": "a"}]
    about, _ = build(manifest_builder(tmp_path, rows))
    assert about["skipped"] == [["gone.wav", "No such file or directory"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'no column "file"'),
        ("fil,label\nx,y\n", 'no column "file". Did you mean "fil"'),
        ("file,label\n", "has no rows"),
        ("file,label\nx\n", "line 2: not as many values"),
        ("file,label\nx,y,z\n", "line 2: not as many values"),
        ("file,label\nx,y\nx,z\n", "listed 2 times: x"),
        ("file,label,start\nx,y,soon\n", 'start is "soon"'),
        ("file,label,split\nx,y,\n", "cannot name a split"),
        ("file,label,split\nx,y,a/b\n", "cannot name a split"),
    ],
)
def test_a_faulty_manifest_is_explained(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        build(Manifest(data_dir=tmp_path / "d", name="mine", manifest=tmp_path / "list.csv"))


def test_sounds_in_an_archive_listed_outside_of_it(tmp_path):
    clip = sounds.encode(sounds.tone())
    path = tar_of(tmp_path / "x.tar.gz", [(member(f"top/{i}.wav"), clip) for i in range(6)])
    rows = [{"file": f"{i}.wav", "label": "a"} for i in range(6)]
    about, columns = build(manifest_builder(tmp_path, rows, archive=path))
    assert (len(columns["clip"]), about["skipped"]) == (6, [])
