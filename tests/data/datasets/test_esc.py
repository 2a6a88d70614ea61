"""ESC-50 and ESC-10: classes, folds and invalid archives."""

from pathlib import Path

import pytest

from gru_audio.data.datasets.esc import CLIPS_PER_FOLD, FOLDS, Esc10, Esc50
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import counts, prepared, values, write_tar

FAMILIAR = [f"familiar_{i}" for i in range(10)]
OTHERS = [f"other_{i}" for i in range(40)]
HEADER = "filename,fold,target,category,esc10,src_file,take"


def write_release(folder: Path, labels: list[str], table: str = "esc50.csv", drop: int = 0) -> Path:
    """An archive of these classes that lacks some clips at the end."""
    clip = sounds.encode(sounds.tone(0.01))
    rows = [
        f"{fold}-{i}-A-{target}.wav,{fold},{target},{label},{label in FAMILIAR},{i},A"
        for target, label in enumerate(labels)
        for fold in FOLDS
        for i in range(CLIPS_PER_FOLD)
    ]
    rows = rows[: len(rows) - drop]
    audio = {f"ESC-50-master/audio/{row.partition(',')[0]}": clip for row in rows}
    listed = {f"ESC-50-master/meta/{table}": "\n".join([HEADER, *rows]).encode()}
    return write_tar(folder / "x.tar.gz", listed | audio)


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), FAMILIAR + OTHERS)


@pytest.mark.parametrize(("name", "labels"), [("esc50", FAMILIAR + OTHERS), ("esc10", FAMILIAR)])
def test_every_class_has_its_share_of_each_fold(release, tmp_path, name, labels):
    source = prepared(name, tmp_path, archive=release)
    splits = ["train", "train", "train", "validation", "test"]
    assert counts(source, "fold", "label") == {
        (split, fold, label): CLIPS_PER_FOLD
        for split, fold in zip(splits, FOLDS, strict=True)
        for label in labels
    }
    for clip, fold in zip(source.columns["clip"], values(source, "fold"), strict=True):
        assert clip.startswith(f"{fold}-")


def test_other_counts_need_noverify(tmp_path):
    archive = write_release(tmp_path, FAMILIAR, "esc10.csv", drop=2)
    with pytest.raises(UserError, match=r"10 classes, not 50.*--noverify"):
        Esc50(data_dir=tmp_path / "a", archive=archive).download_and_prepare()
    with pytest.raises(UserError, match=r"Fold 5 has 6 clips of familiar_9, not 8.*--noverify"):
        Esc10(data_dir=tmp_path / "b", archive=archive).download_and_prepare()
    source = prepared("esc10", tmp_path / "c", archive=archive, verify=False)
    assert len(source) == 398


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"meta/other.csv": b"x"}, "neither meta/esc50.csv nor meta/esc10.csv"),
        ({"meta/esc50.csv": b"filename,fold\n"}, 'no column "category"'),
        ({"meta/esc10.csv": f"{HEADER}\na.wav,6,0,dog,True,1,A".encode()}, 'in fold "6"'),
    ],
)
def test_an_archive_of_other_things_is_refused(tmp_path, files, message):
    archive = write_tar(tmp_path / "x.tar.gz", {"notes.txt": b"", **files})
    with pytest.raises(UserError, match=message):
        Esc10(data_dir=tmp_path, archive=archive, verify=False).download_and_prepare()


def test_a_listed_clip_that_is_missing_is_named(tmp_path):
    kept = {"notes.txt": b"", "meta/esc10.csv": f"{HEADER}\na.wav,1,0,dog,True,1,A".encode()}
    archive = write_tar(tmp_path / "x.tar.gz", kept)
    with pytest.raises(UserError, match=r"a\.wav: No such file"):
        Esc10(data_dir=tmp_path, archive=archive, verify=False).download_and_prepare()


def test_the_real_recordings(tmp_path):
    source = prepared("esc10", tmp_path, archive=sounds.archive("esc-10/*.tar.gz"))
    assert source.columns["length"].tolist() == [5 * sounds.RATE] * 400
    assert len(source.fields["label"].names) == 10
