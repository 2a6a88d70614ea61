"""GTZAN: the split without faults, the random one, and tracks in segments."""

import collections
from pathlib import Path

import numpy as np
import pytest

from gru_audio.data.datasets import gtzan
from gru_audio.data.datasets.gtzan import Gtzan
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import counts, prepared, values, write_tar

RATE = 22050


def write_tracks(folder: Path, tracks: list[str], top: str, suffix: str) -> Path:
    clip = sounds.encode(sounds.tone(0.01, RATE), RATE, form="AU" if suffix == "au" else "WAV")
    files = {f"{top}/{name.partition('.')[0]}/{name}.{suffix}": clip for name in tracks}
    files["Data/images/blues00000.png"] = b"no sound"
    return write_tar(folder / "x.tar.gz", files)


def test_the_published_split():
    """The counts of the paper, and some of its tracks."""
    splits = gtzan.faultless_splits()
    assert collections.Counter(splits.values()) == {"train": 443, "validation": 197, "test": 290}
    genres = collections.Counter(track.partition(".")[0] for track in splits)
    assert set(genres) == set(gtzan.GENRES)
    for track, split in (
        *(("blues.00029", "train"), ("rock.00085", "validation"), ("jazz.00073", "test")),
        *(("classical.00041", "test"), ("pop.00013", "test"), ("reggae.00063", "train")),
    ):
        assert splits[track] == split
    # Two known pairs of exact copies: at most one of each pair is kept.
    assert not {"disco.00050", "disco.00051"} & splits.keys()
    assert not {"reggae.00003", "reggae.00005"} & splits.keys()


@pytest.mark.parametrize(
    ("top", "suffix"),
    [("genres", "au"), ("Data/genres_original", "wav")],
    ids=["marsyas", "kaggle"],
)
def test_faulty_tracks_are_left_out_and_missing_ones_reported(tmp_path, top, suffix):
    splits = gtzan.faultless_splits()
    there = list(splits)[::50]
    archive = write_tracks(tmp_path, [*there, "disco.00050", "blues.00100"], top, suffix)
    builder = Gtzan(data_dir=tmp_path, archive=archive)
    builder.download_and_prepare()
    columns = builder._ledger.columns()
    found = zip(columns["clip"].tolist(), columns["split"].tolist(), strict=True)
    assert dict(found) == {track: splits[track] for track in there}
    assert dict(builder._ledger.skipped) == dict.fromkeys(
        splits.keys() - set(there), "No such file or directory"
    )


def test_a_track_that_cannot_be_read_is_reported(tmp_path):
    archive = write_tar(
        tmp_path / "x.tar.gz",
        {
            "genres/jazz/jazz.00053.wav": sounds.encode(sounds.tone(0.3, RATE), RATE),
            "genres/jazz/jazz.00054.wav": b"no sound",
        },
    )
    builder = Gtzan(data_dir=tmp_path, archive=archive, segment_seconds=0.1)
    builder.download_and_prepare()
    assert ("jazz.00054@0", "not audio") in builder._ledger.skipped
    assert builder._ledger.clips == 3


def test_the_random_split_prints_a_warning(tmp_path, capsys):
    tracks = [f"{genre}.{i:05d}" for genre in ("blues", "rock") for i in range(10)]
    archive = write_tracks(tmp_path, tracks, "genres", "wav")
    source = prepared("gtzan", tmp_path / "data", archive=archive, split="random")
    assert counts(source, "label") == {
        (split, genre): count
        for split, count in (("train", 8), ("validation", 1), ("test", 1))
        for genre in ("blues", "rock")
    }
    assert "never compare" in capsys.readouterr().err
    assert prepared("gtzan", tmp_path / "data", archive=archive, split="random").name == "gtzan"


def test_segments_are_the_track_cut_up(tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, round(2.9 * RATE))
    content = sounds.encode(sound, RATE)
    archive = write_tar(tmp_path / "x.tar.gz", {"genres/pop/pop.00000.wav": content})
    source = prepared("gtzan", tmp_path / "data", archive=archive, segment_seconds=1)
    assert source.columns["clip"].tolist() == [f"pop.00000@{i}" for i in range(3)]
    assert source.columns["length"].tolist() == [RATE, RATE, round(0.9 * RATE)]
    assert values(source, "track") == ["pop.00000"] * 3
    whole = np.frombuffer(content[44:], np.int16)
    np.testing.assert_array_equal(np.concatenate(source.signals(range(3))), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "official"}, "--split is filtered or random"),
        ({"segment_seconds": 0.0}, "must be more than 0"),
        ({}, "has no tracks"),
    ],
)
def test_what_cannot_be_prepared_is_refused(tmp_path, options, message):
    archive = write_tar(tmp_path / "x.tar.gz", {"genres/notes.txt": b""})
    with pytest.raises(UserError, match=message):
        Gtzan(data_dir=tmp_path, archive=archive, **options).download_and_prepare()
