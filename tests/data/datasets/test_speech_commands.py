"""Speech Commands: the published split and protocol, and manifests of parts of it."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from gru_audio.data.datasets.speech_commands import (
    SILENCE,
    UNKNOWN,
    WORDS,
    SpeechCommands,
    official_split,
)
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import counts, prepared, values, write_tar

OTHERS = ("bed", "cat")
SPEAKERS = [f"{i:08x}" for i in range(30)]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A small release: every speaker says every word once, in sounds of 10 ms."""
    rng = np.random.default_rng(0)
    clip = sounds.encode(sounds.tone(0.01))
    files = {
        f"./{word}/{speaker}_nohash_0.wav": clip
        for word in (*WORDS, *OTHERS)
        for speaker in SPEAKERS
    }
    for name in ("running_tap", "white_noise"):
        noise = rng.uniform(-0.5, 0.5, round(1.5 * sounds.RATE))
        files[f"./_background_noise_/{name}.wav"] = sounds.encode(noise)
    files["./_background_noise_/README.md"] = b"where the noise comes from"
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        listed = [path[2:] for path in files if "nohash" in path]
        lines = [path for path in listed if official_split(Path(path)) == split]
        files[f"./{name}"] = "\n".join(lines).encode()
    return files


@pytest.fixture(scope="module")
def release(files, tmp_path_factory) -> Path:
    return write_tar(tmp_path_factory.mktemp("release") / "x.tar.gz", files)


@pytest.fixture(scope="module")
def source(release, tmp_path_factory):
    return prepared("speech_commands", tmp_path_factory.mktemp("data"), archive=release)


def test_labels_of_the_published_protocol(source):
    by_command, by_word = counts(source, "command"), counts(source, "word")
    for split in ("train", "validation", "test"):
        speakers = sum(official_split(Path(f"{s}_nohash_0.wav")) == split for s in SPEAKERS)
        assert speakers
        extra = math.ceil(0.1 * len(WORDS) * speakers)
        for word in WORDS:
            assert by_command[split, word] == by_word[split, word] == speakers
        for word in OTHERS:
            assert by_word[split, word] == speakers
        assert by_command[split, UNKNOWN] == by_command[split, SILENCE] == extra
        assert by_word[split, ""] == extra  # silence has no word
    for command, word in zip(values(source, "command"), values(source, "word"), strict=True):
        assert word in OTHERS if command in (UNKNOWN, "") else command in (word, SILENCE)


def test_no_speaker_is_in_two_splits(source):
    speakers = counts(source, "speaker")
    assert {who for _, who in speakers} == {*SPEAKERS, ""}
    assert sum(who != "" for _, who in speakers) == len(SPEAKERS)


def test_silence_is_one_second_of_noise(source, files):
    silent = np.flatnonzero(np.array(values(source, "command")) == SILENCE)
    cuts = source.signals(silent)
    assert {len(cut) for cut in cuts} == {sounds.RATE}
    assert len({cut.tobytes() for cut in cuts}) == len(cuts)
    noises = [
        np.frombuffer(content[44:], np.int16)
        for name, content in files.items()
        if name.endswith(("tap.wav", "noise.wav"))
    ]
    for cut in cuts:
        starts = [np.flatnonzero(noise == cut[0]) for noise in noises]
        assert any(
            np.array_equal(noise[start : start + len(cut)], cut)
            for noise, places in zip(noises, starts, strict=True)
            for start in places
        )


def test_the_seed_draws_other_unknown_words_and_other_silence(source, release, tmp_path):
    assert prepared("speech_commands", tmp_path / "a", archive=release).fingerprint == (
        source.fingerprint
    )
    other = prepared("speech_commands", tmp_path / "b", archive=release, seed=1)
    assert counts(other, "command") == counts(source, "command")
    assert other.fingerprint != source.fingerprint


def test_a_folder_serves_as_well_as_its_archive(source, files, tmp_path):
    for name, content in files.items():
        (tmp_path / "sounds" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sounds" / name).write_bytes(content)
    found = prepared("speech_commands", tmp_path / "data", archive=tmp_path / "sounds")
    assert found.fingerprint == source.fingerprint


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("./stop/", "lacks some of the folders"),
        ("./_background_noise_/", "no recordings of more than a second"),
        (f"./bed/{SPEAKERS[0]}", "validation_list.txt and the recordings disagree about bed/"),
    ],
)
def test_an_archive_that_lacks_something_is_refused(files, tmp_path, gone, message):
    assert official_split(Path(f"{SPEAKERS[0]}_nohash_0.wav")) == "validation"
    kept = {name: content for name, content in files.items() if not name.startswith(gone)}
    archive = write_tar(tmp_path / "x.tar.gz", kept)
    with pytest.raises(UserError, match=message):
        SpeechCommands(data_dir=tmp_path / "data", archive=archive).download_and_prepare()


def test_a_list_that_contradicts_the_hash_is_refused(files, tmp_path):
    wrong = files["./validation_list.txt"].splitlines()[1:]
    archive = write_tar(
        tmp_path / "x.tar.gz", {**files, "./validation_list.txt": b"\n".join(wrong)}
    )
    with pytest.raises(UserError, match="it is validation"):
        SpeechCommands(data_dir=tmp_path / "data", archive=archive).download_and_prepare()


def test_a_cut_off_archive_is_refused(release, tmp_path):
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(release.read_bytes()[:-2000])
    with pytest.raises(UserError, match="Cannot unpack"):
        SpeechCommands(data_dir=tmp_path / "data", archive=cut).download_and_prepare()


HEADER = "file,label,word,speaker,split"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x/gone.wav,yes,yes,ann,train", "lists x/gone.wav, which is not in the archive"),
        ("x/1.wav,yes,no,ann,train", "contradicts itself"),
        ("x/1.wav,yes,yes,ann,train2", 'in "train2", not in train, validation, test'),
    ],
)
def test_a_manifest_with_an_error_is_refused(tmp_path, row, message):
    archive = write_tar(tmp_path / "x.tar.gz", {"top/x/1.wav": sounds.encode(sounds.tone(0.01))})
    (tmp_path / "list.csv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(UserError, match=message):
        SpeechCommands(
            data_dir=tmp_path / "data", archive=archive, manifest=tmp_path / "list.csv"
        ).download_and_prepare()


def test_a_manifest_sets_the_labels(tmp_path):
    clip = sounds.encode(sounds.tone(0.01))
    archive = write_tar(tmp_path / "x.tar.gz", {f"top/x/{i}.wav": clip for i in range(4)})
    rows = [
        "yes,yes,ann,train",
        "_unknown_,dog,,test",
        "_silence_,_silence_,,val",
        "bed,bed,bo,dev",
    ]
    listed = "\n".join(f"x/{i}.wav,{row}" for i, row in enumerate(rows))
    (tmp_path / "list.csv").write_text(f"{HEADER}\n{listed}\n")
    source = prepared(
        "speech_commands", tmp_path / "data", archive=archive, manifest=tmp_path / "list.csv"
    )
    assert counts(source, "command", "word", "speaker") == {
        ("train", "yes", "yes", "ann"): 1,
        ("test", UNKNOWN, "dog", ""): 1,
        ("validation", SILENCE, "", ""): 1,
        ("validation", "", "bed", "bo"): 1,
    }


def test_the_hash_gives_the_published_splits():
    listed = sounds.archive("speech-commands/manifest.csv")
    with listed.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if "_nohash_" in row["file"]]
    assert len(rows) > 9000
    names = {"training": "train", "validation": "validation", "testing": "test"}
    for row in rows:
        split = official_split(Path(f"{row['speaker']}_nohash_0.wav"))
        assert split == names[row["official_partition"]]
        assert split == "test" or not row["file"].startswith("test_set/")
