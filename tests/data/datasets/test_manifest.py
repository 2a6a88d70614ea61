"""Valid and invalid manifests."""

import numpy as np
import pytest

from gru_audio.data.datasets.clips import SPLITS
from gru_audio.data.datasets.manifest import Manifest
from gru_audio.settings import UserError
from tests import sounds
from tests.data.datasets.making import build, manifest_builder, member, tar_of


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
    names = {"label": ["a", "b"], "speaker": ["s0", "s1", "s2"], "note": ["x"]}
    assert {name: field["names"] for name, field in about["fields"].items()} == names
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
def test_an_invalid_time_is_an_error(tmp_path, value):
    with pytest.raises(UserError, match=rf'0\.wav: start is "{value}", not seconds'):
        build(manifest_builder(tmp_path, rows_of(tmp_path, start=lambda i: value)))


def test_a_value_too_long_for_a_table_is_an_error(tmp_path):
    with pytest.raises(UserError, match="line 2: field larger than field limit"):
        manifest_builder(tmp_path, rows_of(tmp_path, note=lambda i: "x" * 200_000))


def test_splits_by_any_column_override_existing_ones(tmp_path):
    rows = rows_of(tmp_path, split=lambda i: "train", room=lambda i: f"room {i % 4}")
    about, columns = build(manifest_builder(tmp_path, rows, split_by="room"))
    assert about["fields"]["room"]["names"] == [f"room {i}" for i in range(4)]
    assert len(set(zip(columns["room"].tolist(), columns["split"].tolist(), strict=True))) == 4
    assert set(columns["split"].tolist()) == set(SPLITS)


def test_columns_with_classes_become_fields_and_others_are_reported(tmp_path):
    rows = rows_of(
        tmp_path,
        24,
        room=lambda i: f"room  {i % 4}",
        take=lambda i: i % 3,
        age=lambda i: 20 + i,
        weight=lambda i: 0.5 + i % 3,
        note=lambda i: f"note {i}",
        empty=lambda i: "",
        fold=lambda i: i + 1,
        length=lambda i: "x",
        **{"a/b": lambda i: "x"},
    )
    about, _ = build(manifest_builder(tmp_path, rows))
    assert about["fields"].keys() == {"label", "room", "take", "fold"}
    assert about["fields"]["room"]["names"] == [f"room {i}" for i in range(4)]
    (remark,) = [r for r in about["remarks"] if "not kept" in r]
    assert "--numbers age,weight --text note keeps them as numbers or text." in remark
    for told in (
        "age (numbers)",
        "weight (numbers)",
        "note (free text)",
        "empty (nothing)",
        "length (not a valid field name)",
        "a/b (not a valid field name)",
    ):
        assert told in remark


def test_fields_choose_and_rename_columns(tmp_path):
    rows = rows_of(tmp_path, word=lambda i: "xyz"[i % 3], note=lambda i: f"note {i}", b=lambda i: 1)
    fields = ["label=word", "speaker=note"]
    about, _ = build(manifest_builder(tmp_path, rows, fields=fields))
    assert about["fields"].keys() == {"label", "speaker"}
    assert about["fields"]["label"]["names"] == ["x", "y", "z"]
    assert len(about["fields"]["speaker"]["names"]) == 12
    with pytest.raises(UserError, match='no column "wird"'):
        manifest_builder(tmp_path, rows, fields=["label=wird"])
    with pytest.raises(UserError, match="are NAME or NAME=COLUMN, not x=word:note"):
        manifest_builder(tmp_path, rows, fields=["x=word:note"])
    with pytest.raises(UserError, match='two fields "x"'):
        manifest_builder(tmp_path, rows, fields=["x=word", "x=note"])


def splits_by_clip(columns) -> dict[str, str]:
    return dict(zip(columns["clip"].tolist(), columns["split"].tolist(), strict=True))


@pytest.mark.parametrize("spelling", ["./{}", "../{folder}/{}", "link/{}", "link_to_{}", "FILE"])
def test_parts_of_a_file_stay_together_however_it_is_spelled(tmp_path, spelling):
    rows = rows_of(tmp_path, 12)
    (tmp_path / "link").symlink_to(tmp_path)
    parts = []
    for i, row in enumerate(rows):
        name = row["file"]
        (tmp_path / f"link_to_{name}").symlink_to(tmp_path / name)
        other = spelling.format(name, folder=tmp_path.name)
        other = (tmp_path / name).as_uri() if spelling == "FILE" else other
        parts.append(row | {"start": 0, "end": 0.05})
        parts.append(row | {"file": other, "start": 0.05, "end": 0.1, "label": "ab"[i % 2]})
    _, columns = build(manifest_builder(tmp_path, parts))
    split = splits_by_clip(columns)
    pairs = [(f"{row['file']}@{row['start']:g}-{row['end']:g}") for row in parts]
    assert all(
        split[one] == split[other] for one, other in zip(pairs[::2], pairs[1::2], strict=True)
    )
    assert set(split.values()) == set(SPLITS)


def test_a_file_that_is_listed_twice_is_refused_however_it_is_spelled(tmp_path):
    rows = rows_of(tmp_path, 6)
    rows += [row | {"file": f"./{row['file']}", "label": "b"} for row in rows[:3]]
    with pytest.raises(UserError, match=r"listed 2 times: 0\.wav and \./0\.wav \(2 others, too\)"):
        build(manifest_builder(tmp_path, rows))


def test_copies_stay_together_and_divided_ones_are_counted(tmp_path):
    rows = rows_of(tmp_path, 30)
    for row in rows[:15]:
        (tmp_path / f"copy_{row['file']}").write_bytes((tmp_path / row["file"]).read_bytes())
    rows += [{**row, "file": f"copy_{row['file']}"} for row in rows[:15]]
    rows[-1] |= {"label": "b" if rows[-1]["label"] == "a" else "a"}
    about, columns = build(manifest_builder(tmp_path, rows))
    split = splits_by_clip(columns)
    assert all(split[row["file"].removeprefix("copy_")] == split[row["file"]] for row in rows[30:])
    (told,) = [r for r in about["remarks"] if "same samples" in r]
    assert told.startswith("2 clips have the same samples as others with another label")
    given = [{**row, "split": SPLITS[i % 3]} for i, row in enumerate(rows)]
    given[30]["split"] = "test"
    again = tmp_path / "again"
    about, _ = build(manifest_builder(tmp_path, given, data_dir=again))
    told = [r for r in about["remarks"] if "with another split" in r]
    assert told[0].startswith("2 clips have the same samples")
    assert "0.wav (train) and copy_0.wav (test)" in told[0]


def test_the_column_group_draws_the_splits_unless_something_else_does(tmp_path):
    rows = rows_of(tmp_path, 24, group=lambda i: f"g{i % 6}" if i > 3 else "")
    about, columns = build(manifest_builder(tmp_path, rows))
    known = columns["group"] >= 0
    pairs = set(zip(columns["group"][known].tolist(), columns["split"][known], strict=True))
    assert len(pairs) == 6
    assert any("drawn by group" in remark for remark in about["remarks"])
    about, _ = build(manifest_builder(tmp_path, rows, split_by="file", data_dir=tmp_path / "by"))
    assert any("drawn by file" in remark for remark in about["remarks"])
    assert "file" not in about["fields"]


def test_labels_are_normalised_and_similar_ones_reported(tmp_path):
    spellings = [
        "caf\u00e9",
        "cafe\u0301",
        " caf\u00e9  ",
        "Yes",
        "yes",
        "y\u200bes",
        "big  dog",
        "",
    ]
    rows = rows_of(tmp_path, 24)
    rows = [row | {"label": spellings[i % 8]} for i, row in enumerate(rows)]
    about, columns = build(manifest_builder(tmp_path, rows))
    assert about["fields"]["label"]["names"] == ["Yes", "big dog", "caf\u00e9", "yes"]
    assert np.bincount(columns["label"] + 1).tolist() == [3, 3, 3, 9, 6]
    remarks = " ".join(about["remarks"])
    assert 'label: "Yes" (3 clips) and "yes" (6 clips) are different classes' in remarks
    assert "label: unknown for 3 of 24 clips" in remarks


def test_a_list_without_a_label_for_any_clip(tmp_path):
    about, columns = build(manifest_builder(tmp_path, rows_of(tmp_path, 12, label=lambda i: "")))
    assert (about["fields"]["label"]["names"], set(columns["label"].tolist())) == ([], {-1})
    assert "label: unknown for 12 of 12 clips. The target label excludes them." in about["remarks"]


def test_a_decimal_comma_is_explained(tmp_path):
    with pytest.raises(UserError, match=r'start is "0,5", not seconds: write 0\.5'):
        build(manifest_builder(tmp_path, rows_of(tmp_path, start=lambda i: "0,5")))


def test_paths_as_users_write_them(tmp_path):
    rows = rows_of(tmp_path, 3)
    (tmp_path / "sub").mkdir()
    (tmp_path / "0.wav").rename(tmp_path / "sub" / "0.wav")
    rows[0]["file"] = "sub\\0.wav"
    rows[1]["file"] = (tmp_path / "1.wav").as_uri()
    about, columns = build(manifest_builder(tmp_path, [row | {"split": "train"} for row in rows]))
    assert (len(columns["clip"]), about["skipped"]) == (3, [])
    with pytest.raises(UserError, match="row 1 names no file"):
        build(manifest_builder(tmp_path, [rows[0] | {"file": ""}], data_dir=tmp_path / "no"))


def test_a_rate_in_khz_is_explained(tmp_path):
    explained = {16: "mean 16000", 22.05: "mean 22050", 44.1: "mean 44100"}
    refused = dict.fromkeys(
        (8000.5, float("inf"), float("nan"), 0.5, 0, -8000, 1e9), "whole number"
    )
    for rate, message in (explained | refused).items():
        with pytest.raises(UserError, match=message):
            manifest_builder(tmp_path, rows_of(tmp_path), sample_rate=rate)


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
        ("file,label,split\nx,y,\nz,y,train\n", "1 of 2 rows have no split"),
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
