"""AN4: transcripts, official and validation splits, both forms of the recordings."""

import collections

import numpy as np
import pytest

from gru_audio.data.datasets.an4 import An4, An4Mfcc
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import prepared, values, write_tar

TRAIN = [(f"an{i}-speaker{i // 2:02d}-b", "YES" if i % 2 else "A B") for i in range(40)]
TEST = [("an1-other-b", "YES"), ("an2-other-b", "GO ON")]


def transcription(rows, marks):
    line = "<s> {} </s> ({})" if marks else "{} ({})"
    return "\n".join(line.format(text, name) for name, text in rows).encode()


def release(folder, suffix, encode, marks=False):
    """An archive like those of AN4, with transcripts with or without sentence marks."""
    files = {
        f"an4/wav/{'an4test_clstk' if rows is TEST else 'an4_clstk'}/{name}{suffix}": encode(i)
        for rows in (TRAIN, TEST)
        for i, (name, _) in enumerate(rows)
    }
    lists = {
        f"an4/etc/an4_{split}.transcription": transcription(rows, marks)
        for split, rows in (("train", TRAIN), ("test", TEST))
    }
    return write_tar(folder / "an4.tar.gz", files | lists)


def sphere(i):
    return sounds.encode(sounds.tone(0.05 + 0.001 * i), form="NIST")


def sphinx(i):
    values = np.random.default_rng(i).random((3 + i, 13))
    return values.size.to_bytes(4, "big") + values.astype(">f4").tobytes()


def check(source):
    names = source.columns["clip"].tolist()
    splits = dict(zip(names, source.columns["split"].tolist(), strict=True))
    held_out = {"speaker09", "speaker19"}
    speakers = values(source, "speaker")
    for name, speaker in zip(names, speakers, strict=True):
        assert name.split("-")[1] == speaker
        expected = "test" if speaker == "other" else "train"
        assert splits[name] == ("validation" if speaker in held_out else expected)
    texts = dict(zip(names, source.columns["text"]["text"].tolist(), strict=True))
    assert (
        len(texts) == 42 and texts["an3-speaker01-b"] == "YES" and texts["an2-other-b"] == "GO ON"
    )


@pytest.mark.parametrize("marks", [False, True])
def test_sounds_and_transcripts_of_a_release(tmp_path, marks):
    archive = release(tmp_path, ".sph", sphere, marks)
    source = prepared("an4", tmp_path, archive=archive, verify=False)
    check(source)
    assert source.columns["length"].min() == 0.05 * sounds.RATE


def test_features_of_a_release(tmp_path):
    archive = release(tmp_path, ".mfc", sphinx)
    source = prepared("an4_mfcc", tmp_path, archive=archive, verify=False)
    check(source)
    row = source.columns["clip"].tolist().index("an5-speaker02-b")
    expected = np.random.default_rng(5).random((8, 13))
    np.testing.assert_allclose(next(iter(source.signals([row]))), expected, rtol=1e-6)


def test_a_manifest_replaces_the_transcription_files(tmp_path):
    rows = [(name, text, "train") for name, text in TRAIN] + [(*row, "test") for row in TEST]
    path = tmp_path / "list.csv"
    path.write_text(
        "file,text,split\n" + "\n".join(f"an4/{name}.ogg,{text},{s}" for name, text, s in rows)
    )
    files = {f"an4/{name}.wav": sphere(i) for i, (name, *_) in enumerate(rows)}
    archive = write_tar(tmp_path / "x.tar.gz", files)
    check(prepared("an4", tmp_path, archive=archive, manifest=path, verify=False))
    with pytest.raises(UserError, match=r"no etc/an4_train\.transcription: pass --manifest"):
        An4(data_dir=tmp_path / "a", archive=archive).download_and_prepare()


def test_missing_recordings_are_reported_and_other_archives_refused(tmp_path):
    archive = release(tmp_path, ".mfc", sphinx)
    with pytest.raises(UserError, match=r"there are 42\. To prepare them anyway, pass --noverify"):
        An4Mfcc(data_dir=tmp_path / "a", archive=archive).download_and_prepare()
    with pytest.raises(UserError, match=r"has no recordings \.sph, \.wav, \.flac, \.ogg of AN4"):
        An4(data_dir=tmp_path / "b", archive=archive, verify=False).download_and_prepare()
    lists = {
        "etc/an4_train.transcription": transcription(TRAIN, False),
        "etc/an4_test.transcription": transcription(TEST, False),
        "an0-speaker00-b.sph": sphere(0),
    }
    builder = An4(
        data_dir=tmp_path / "c",
        archive=write_tar(tmp_path / "one.tar.gz", lists),
        verify=False,
        on_bad_file="refuse",
    )
    with pytest.raises(UserError, match=r"41 of 42 clips cannot be used(.|\n)*an1-speaker00-b"):
        builder.download_and_prepare()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"YES", "line 1: not TEXT"),
        (b"YES (fash)", '"fash" is not a recording of AN4'),
        (b"\xff (an1-fash-b)", "Cannot read etc/an4_train.transcription"),
    ],
)
def test_damaged_transcripts_are_refused(tmp_path, line, message):
    files = {"etc/an4_train.transcription": line, "etc/an4_test.transcription": b""}
    archive = write_tar(tmp_path / "x.tar.gz", files | {"fash.sph": sphere(0)})
    with pytest.raises(UserError, match=message):
        An4(data_dir=tmp_path / "a", archive=archive, verify=False).download_and_prepare()


def test_the_real_features(tmp_path):
    source = prepared("an4_mfcc", tmp_path, archive=sounds.archive("an4/*.tar.gz"))
    splits = collections.Counter(source.columns["split"].tolist())
    assert splits == {"train": 857, "validation": 91, "test": 130}
    assert source.columns["length"].sum() == 289_252
    speakers = collections.defaultdict(set)
    for split, speaker in zip(source.columns["split"], values(source, "speaker"), strict=True):
        speakers[split].add(speaker)
    assert {split: len(found) for split, found in speakers.items()} == {
        "train": 67,
        "validation": 7,
        "test": 10,
    }


def test_the_real_sounds(tmp_path):
    archive = sounds.archive("an4-audio/*.tar.gz")
    source = prepared("an4", tmp_path, archive=archive, manifest=archive.with_name("manifest.csv"))
    assert len(source) == 1078
    assert source.columns["length"].sum() == pytest.approx(2903.3 * sounds.RATE, rel=1e-4)
