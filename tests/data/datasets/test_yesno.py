"""YesNo: transcripts from names, splits and invalid archives."""

import collections
import itertools

import pytest

from gru_audio.data.datasets.yesno import Yesno
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import prepared, write_tar

NAMES = ["_".join(bits) for bits in itertools.product("01", repeat=8)][::4][:60]


def release(folder, names=NAMES, form="WAV"):
    files = {
        f"waves_yesno/{name}.{form.lower()}": sounds.encode(
            sounds.tone(0.02, rate=8000, frequency=300 + 10 * i), rate=8000, form=form
        )
        for i, name in enumerate(names)
    }
    return write_tar(folder / "x.tar.gz", {"waves_yesno/README~": b"", **files})


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_names_are_transcripts_and_halves_are_splits(tmp_path, form):
    source = prepared("yesno", tmp_path, archive=release(tmp_path, form=form))
    names = [name.partition(".")[0] for name in source.columns["clip"]]
    splits = dict(zip(names, source.columns["split"].tolist(), strict=True))
    assert collections.Counter(splits.values()) == {"train": 25, "validation": 5, "test": 30}
    assert [name for name in NAMES[:30] if splits[name] == "validation"] == NAMES[5:30:6]
    assert {splits[name] for name in NAMES[30:]} == {"test"}
    for name, text in zip(names, source.columns["text"]["text"].tolist(), strict=True):
        assert text.replace("YES", "1").replace("NO", "0").replace(" ", "_") == name
    assert source.fields["text"].words == ("NO", "YES")


def test_other_archives_are_refused(tmp_path):
    archive = release(tmp_path, NAMES[:59])
    with pytest.raises(UserError, match="has 59 recordings, not 60"):
        Yesno(data_dir=tmp_path / "a", archive=archive).download_and_prepare()
    assert len(prepared("yesno", tmp_path / "b", archive=archive, verify=False)) == 59
    other = write_tar(tmp_path / "y.tar.gz", {"0_1.wav": b"", "notes.txt": b""})
    with pytest.raises(UserError, match=r"no recordings such as 0_1_0_1_1_0_0_1\.wav"):
        Yesno(data_dir=tmp_path / "c", archive=other).download_and_prepare()


def test_the_real_recordings(tmp_path):
    source = prepared("yesno", tmp_path, archive=sounds.archive("yesno/*.tar.gz"))
    assert len(source) == 60
    assert source.columns["length"].sum() == pytest.approx(367.7 * 8000, rel=1e-4)
