"""Birdsong: a small archive, and the real one."""

import pytest

from gru_audio.data.datasets.birdsong import Birdsong
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import prepared, write_tar

LIST = "filename,samples,split,events\n0.wav,,train,2\n1.wav,,validation,1\n2.wav,,test,0\n"
EVENTS = """filename\tonset\toffset\tevent_label
0.wav\t0.1\t0.2\t3
0.wav\t0.2\t0.3\t3
1.wav\t0\t0.3\t10
"""


def write(tmp_path, files: str = LIST, events: str = EVENTS):
    members = {
        f"bird/audio/{i}.wav": sounds.encode(sounds.tone(0.3, frequency=300 + i)) for i in range(3)
    }
    tables = {"bird/files.csv": files.encode(), "bird/annotations.tsv": events.encode()}
    return write_tar(tmp_path / "bird.tar.gz", members | tables)


def test_splits_and_syllables(tmp_path):
    source = prepared("birdsong", tmp_path, archive=write(tmp_path))
    assert source.columns["split"].tolist() == ["train", "validation", "test"]
    assert source.columns["events"]["counts"].tolist() == [2, 1, 0]  # those that touch stay apart
    assert source.field("events").names == ("3", "10")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (LIST.replace("test,0", "test,1"), r"2\.wav has 0 events, but files\.csv states 1"),
        (LIST.replace("validation", "dev"), r'1\.wav is in "dev", but the splits are'),
        ("filename,split\n0.wav,train\n", 'no column "events"'),
    ],
)
def test_lists_that_disagree_are_refused(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        prepared("birdsong", tmp_path, archive=write(tmp_path, files))


def test_without_verification_the_counts_may_differ(tmp_path):
    archive = write(tmp_path, LIST.replace("test,0", "test,1"))
    builder = Birdsong(data_dir=tmp_path, archive=archive, verify=False)
    builder.download_and_prepare()
    assert builder._ledger.clips == 3


def test_bird_0(tmp_path):
    """The numbers of its files and syllables."""
    archive = sounds.archive("sed-birdsong/birdsong-bird0-16khz-ogg.tar.gz")
    source = prepared("birdsong", tmp_path, archive=archive)
    events = source.columns["events"]
    assert events["counts"].sum() == 7652
    assert [(source.columns["split"] == s).sum() for s in ("train", "validation", "test")] == [
        *(94, 14, 27)
    ]
    assert source.field("events").names == tuple("012345678")
