"""Listing, splitting, unpacking and writing: what each builder does with good and bad input."""

import collections
import csv
import io
import os
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_audio.audio.io import Audio, decode
from gru_audio.config import UserError
from gru_audio.data import index
from gru_audio.data.builders import BUILDERS, archive, espeak, splitting, tts_digits
from gru_audio.data.builders.clips import SPLITS, Clip, ClipBuilder, natural
from gru_audio.data.builders.folder import Folder
from gru_audio.data.builders.manifest import Manifest
from gru_audio.data.builders.spoken_digit import SpokenDigit, official_split
from gru_audio.data.builders.tts_digits import TtsDigits
from tests import sounds


def build(builder: ClipBuilder) -> tuple[dict, dict[str, np.ndarray]]:
    builder.download_and_prepare()
    folder = Path(builder.data_dir)
    return index.read_description(folder), index.read_columns(folder)


def folder_builder(tmp_path, **options) -> Folder:
    return Folder(data_dir=tmp_path / "data", name="mine", folder=tmp_path / "sounds", **options)


def manifest_builder(tmp_path, rows: list[dict], **options) -> Manifest:
    path = tmp_path / "list.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return Manifest(data_dir=tmp_path / "data", name="mine", manifest=path, **options)


# Splits


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    fractions=st.sampled_from([(80, 10, 10), (50, 25, 25), (70, 0, 30), (1, 0, 0)]),
    seed=st.integers(0, 10),
)
@settings(max_examples=60, deadline=None)
def test_stratified_splits_give_every_label_its_share(counts, fractions, seed):
    labels = [str(c) for c, count in enumerate(counts) for _ in range(count)]
    shares = splitting.shares(fractions)
    splits = splitting.stratified(labels, shares, seed)
    assert splits == splitting.stratified(labels, shares, seed)
    for label, count in collections.Counter(labels).items():
        got = collections.Counter(s for s, x in zip(splits, labels, strict=True) if x == label)
        assert got["train"] >= 1
        for split, share in zip(SPLITS, shares, strict=True):
            assert abs(got[split] - share * count) <= 2.5
    total = collections.Counter(splits)
    for split, share in zip(SPLITS, shares, strict=True):
        assert (total[split] == 0) if share == 0 else abs(total[split] - share * len(labels)) <= 2


def test_rare_labels_reach_every_split():
    labels = [str(c) for c in range(100) for _ in range(4)]
    splits = splitting.stratified(labels, splitting.shares((80, 10, 10)), 0)
    assert collections.Counter(splits) == {"train": 320, "validation": 40, "test": 40}


def test_how_to_draw_splits_is_refused_where_they_are_given():
    given = ["train", "test"]
    assert splitting.choose(given, ["a", "b"], None, splitting.shares((80, 10, 10)), 0) == given
    for fractions, seed in (((80, 0, 20), 0), ((80, 10, 10), 1)):
        with pytest.raises(UserError, match="--fractions and --seed decide nothing"):
            splitting.choose(given, ["a", "b"], None, splitting.shares(fractions), seed)


def test_the_seed_changes_who_goes_where():
    labels = ["a"] * 50 + ["b"] * 50
    draws = {tuple(splitting.stratified(labels, (0.8, 0.1, 0.1), seed)) for seed in range(5)}
    assert len(draws) == 5


@given(
    groups=st.lists(st.integers(0, 12), min_size=1, max_size=200),
    fractions=st.sampled_from([(80, 10, 10), (60, 20, 20), (90, 0, 10)]),
    seed=st.integers(0, 10),
)
@settings(max_examples=100, deadline=None)
def test_no_group_is_in_two_splits_and_no_split_is_empty(groups, fractions, seed):
    shares = splitting.shares(fractions)
    wanted = {split for split, share in zip(SPLITS, shares, strict=True) if share}
    if len(set(groups)) < len(wanted):
        with pytest.raises(UserError, match="groups cannot fill"):
            splitting.by_group(groups, shares, seed)
        return
    splits = splitting.by_group(groups, shares, seed)
    assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
    assert set(splits) == wanted


def test_groups_of_like_size_meet_the_shares():
    groups = [i // 5 for i in range(500)]
    counts = collections.Counter(splitting.by_group(groups, (0.8, 0.1, 0.1), 0))
    assert counts == {"train": 400, "validation": 50, "test": 50}


@pytest.mark.parametrize("fractions", [(1, 2), "abc", (0, 1, 1), (1, -1, 1), ("nan", 1, 1), ()])
def test_impossible_fractions_are_refused(fractions):
    with pytest.raises(UserError, match="Fractions"):
        splitting.shares(fractions)


def test_natural_order():
    assert sorted(["10", "9", "a10", "a9", "b"], key=natural) == ["9", "10", "a9", "a10", "b"]
    assert sorted({"a1", "a", "a01", "a001"}, key=natural) == ["a", "a001", "a01", "a1"]


# Archives


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


EVIL = [
    member("../evil"),
    member("a/../../evil"),
    member("/tmp/evil"),
    member("a/link", tarfile.SYMTYPE, "../../evil"),
    member("a/link", tarfile.SYMTYPE, "/etc/passwd"),
    member("a/link", tarfile.LNKTYPE, "../evil"),
    member("a/device", tarfile.CHRTYPE),
    member("a/pipe", tarfile.FIFOTYPE),
]


@pytest.mark.parametrize("evil", EVIL, ids=lambda info: f"{info.name} {info.linkname}".strip())
def test_a_tar_member_that_would_escape_is_refused(tmp_path, evil):
    path = tar_of(tmp_path / "x.tar.gz", [(member("a/good"), b"1"), (evil, b"")])
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(UserError, match=r"x\.tar\.gz is refused"):
        archive.unpack(path, target)
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()}
    assert written <= {"x.tar.gz", "deep/target/a/good"}


def test_a_file_is_not_written_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = member("a", tarfile.SYMTYPE, str(outside))
    path = tar_of(tmp_path / "x.tar", [(link, b""), (member("a/evil"), b"1")], "w")
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(UserError, match="refused"):
        archive.unpack(path, target)
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil"])
def test_a_zip_member_that_would_escape_is_refused(tmp_path, name):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("a/good", "1")
        zipped.writestr(zipfile.ZipInfo(name), "2")
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(UserError, match=r"x\.zip is refused"):
        archive.unpack(path, target)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_good_archives_come_out_whole(tmp_path, suffix):
    content = os.urandom(5000)
    path = tmp_path / f"x.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("top/a/1", content)
            zipped.writestr("__MACOSX/top/a/._1", b"")  # as Macs do
            zipped.writestr(".DS_Store", b"")
    else:
        mode = "w" if suffix == "tar" else f"w:{suffix.removeprefix('tar.')}"
        links = [
            (member("top/b/soft", tarfile.SYMTYPE, "../a/1"), b""),
            (member("top/b/hard", tarfile.LNKTYPE, "top/a/1"), b""),
        ]
        tar_of(path, [(member("top/a/1"), content), *links], mode)
    target = tmp_path / "target"
    target.mkdir()
    root = archive.unpack(path, target)
    assert root == target / "top"
    files = [p for p in root.rglob("*") if p.is_file()]
    assert len(files) == (1 if suffix == "zip" else 3)
    assert all(p.read_bytes() == content and not p.is_symlink() for p in files)


@given(st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_a_cut_off_archive_is_an_error(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("cut")
    rng = np.random.default_rng(0)
    path = tar_of(folder / "x.tar.gz", [(member(f"a/{i}"), rng.bytes(2000)) for i in range(20)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="Cannot unpack"):
        archive.unpack(path, folder)


def test_what_is_no_archive_is_an_error(tmp_path):
    with pytest.raises(UserError, match="There is no archive"):
        archive.unpack(tmp_path / "absent.tar", tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="Cannot unpack"):
        archive.unpack(tmp_path / "text", tmp_path)


# Folder


def test_a_directory_per_class(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 10, "dog": 20, "10": 10, "9": 10})
    (tmp_path / "sounds" / "cat" / ".hidden").write_text("x")
    (tmp_path / "sounds" / ".git").mkdir()
    about, columns = build(folder_builder(tmp_path))
    assert about["class_names"] == {"label": ["9", "10", "cat", "dog"]}
    names = np.array(about["class_names"]["label"])[columns["label"]]
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
            path.write_bytes(sounds.encode(sounds.tone()))
    about, columns = build(folder_builder(tmp_path, split_by=r"(speaker\d)_"))
    assert about["class_names"]["group"] == [f"speaker{i}" for i in range(6)]
    pairs = set(zip(columns["group"].tolist(), columns["split"].tolist(), strict=True))
    assert len(pairs) == 6
    assert {split for _, split in pairs} == set(SPLITS)
    with pytest.raises(UserError, match="finds no group"):
        build(
            Folder(data_dir=tmp_path / "b", name="m", folder=tmp_path / "sounds", split_by="voice")
        )
    with pytest.raises(UserError, match="no regular expression"):
        folder_builder(tmp_path, split_by="(")


def test_links_are_followed_and_lead_nowhere_twice(tmp_path):
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


# Manifest


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
        ("file,label\n", "lists nothing"),
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


# Spoken digits


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


def test_other_recordings_are_refused_unless_asked_for(tmp_path):
    path = digits_archive(tmp_path / "x.tar.gz")
    with pytest.raises(UserError, match="--noverify"):
        build(SpokenDigit(data_dir=tmp_path / "a", archive=path))
    about, columns = build(SpokenDigit(data_dir=tmp_path / "b", archive=path, verify=False))
    assert about["class_names"]["speaker"] == ["lucas", "theo"]
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
    names = {field: np.array(about["class_names"][field]) for field in builder.fields}
    for i, clip in enumerate(columns["clip"]):
        row = truth[clip]
        assert (columns["split"][i] == "test") == (row["split"] == "test")
        assert names["digit"][columns["digit"][i]] == row["digit"]
        assert names["speaker"][columns["speaker"][i]] == row["speaker"]
        assert columns["length"][i] == int(row["samples"])
    validation = columns["clip"][columns["split"] == "validation"]
    assert {int(clip[:-4].split("_")[2]) for clip in validation} == {5, 6, 7, 8, 9}
    assert "release 1.0.10" in about["verified"]


# Spoken on the spot


@pytest.fixture(scope="module")
def few_voices():
    """Utterances of two voices: enough to hear, quick to speak."""
    pytest.importorskip("espeakng_loader", reason="eSpeak NG comes with the extra [demo]")
    return [
        tts_digits.utterance(f"{variant}_{accent}_{digit}", variant, accent, digit)
        for variant in ("f2", "Michael")
        for accent in tts_digits.ACCENTS
        for digit in range(10)
    ]


def test_words_are_heard_and_alike_in_every_process(tmp_path, few_voices):
    spoken = []
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        tts_digits._speak(few_voices, tmp_path / name)
        spoken.append({p.name: p.read_bytes() for p in sorted((tmp_path / name).iterdir())})
    assert spoken[0] == spoken[1]
    assert len(spoken[0]) == len(few_voices)
    assert len(set(spoken[0].values())) == len(few_voices)
    for content in spoken[0].values():
        audio = decode(content, None)
        level = np.abs(audio.samples.astype(int))
        assert 0.2 < len(audio.samples) / audio.sample_rate < 1.2
        assert level.max() > 3000
        quiet = level < 0.01 * level.max()
        assert not quiet[: audio.sample_rate // 20].all()


def test_the_voices_of_the_splits_differ_and_exist():
    loader = pytest.importorskip("espeakng_loader")
    voices = Path(loader.get_data_path(), "voices", "!v")
    variants = [variant for split in tts_digits.VARIANTS.values() for variant in split]
    assert len(set(variants)) == len(variants)
    assert all((voices / variant).is_file() for variant in variants)  # eSpeak ignores unknown ones


def test_rates_and_pitches_vary():
    drawn = [tts_digits.utterance(f"v_{d}", "v", "en", d) for d in range(10)] * 2
    assert len({u["rate"] for u in drawn}) > 5
    assert len({u["pitch"] for u in drawn}) > 5
    assert drawn[0] == drawn[10]
    for u in drawn:
        assert tts_digits.RATES[0] <= u["rate"] <= tts_digits.RATES[1]
        assert tts_digits.PITCHES[0] <= u["pitch"] <= tts_digits.PITCHES[1]


def test_a_voice_that_does_not_exist_is_an_error(tmp_path):
    pytest.importorskip("espeakng_loader")
    wrong = tts_digits.utterance("x", "f2", "en", 1) | {"voice": "nobody"}
    with pytest.raises(UserError, match="refuses voice nobody"):
        tts_digits._speak([wrong], tmp_path)
    with pytest.raises(RuntimeError, match="refuses voice"):
        espeak.Speaker().say("one", "nobody", 150, 50)


# The TFDS builder


class Noise(ClipBuilder):
    """Large clips made on the spot."""

    VERSION = tfds.core.Version("1.0.0")
    fields = ("label",)

    def __init__(self, *, data_dir, count: int, samples: int):
        self._count, self._samples = count, samples
        super().__init__(data_dir=data_dir, sample_rate=16000, on_bad_file="skip")

    def clips(self, scratch, downloads):
        return [Clip(str(i), "train", {"label": "x"}, self._read) for i in range(self._count)]

    def _read(self, rate: int) -> Audio:
        return Audio(np.ones(self._samples, np.int16), rate, rate)


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    builder = Noise(data_dir=tmp_path, count=200, samples=500_000)  # 200 MB
    tracemalloc.start()
    build(builder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_progress_counts_every_clip(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 5})
    (tmp_path / "sounds" / "cat" / "bad").write_text("x")
    builder = folder_builder(tmp_path)
    seen = []
    builder.progress = lambda done, total: seen.append((done, total))
    build(builder)
    assert seen == [(i, 6) for i in range(1, 7)]


def test_tfds_reads_what_we_write_without_tensorflow(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 10, "dog": 10})
    builder = folder_builder(tmp_path)
    _, columns = build(builder)
    again = tfds.builder_from_directory(builder.data_dir)
    assert again.info.features["label"].names == ["cat", "dog"]
    assert again.info.file_format.value == "array_record"
    clips = [clip for split in SPLITS for clip in again.as_data_source(split=split)]
    assert [len(clip["audio"]) for clip in clips] == columns["length"].tolist()
    assert [clip["label"] for clip in clips] == columns["label"].tolist()


def test_preparing_twice_gives_one_fingerprint_and_a_changed_sample_another(tmp_path):
    sounds.write_classes(tmp_path / "sounds", {"cat": 5, "dog": 5})
    options = {"name": "mine", "folder": tmp_path / "sounds"}
    prints = [build(Folder(data_dir=tmp_path / name, **options))[0]["fingerprint"] for name in "ab"]
    assert prints[0] == prints[1]
    path = tmp_path / "sounds" / "cat" / "0.wav"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert build(Folder(data_dir=tmp_path / "c", **options))[0]["fingerprint"] != prints[0]


def test_every_name_has_a_builder():
    assert all(issubclass(builder, ClipBuilder) for builder in BUILDERS.values())
    assert BUILDERS["tts_digits"] is TtsDigits
