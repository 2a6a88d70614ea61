"""The remixed scenes of DCASE 2016 task 2: levels, places, and recordings by split."""

import numpy as np
import pytest

from gru_audio.data.datasets import dcase2016_task2_remix as remix
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import prepared, write_tar

RATE = 2000
HEADER = "part\tscene\tonset\toffset\tevent_label\n"
SCENES = {
    "train": "test_1_ebr_20_nec_1_poly_0",
    "validation": "dev_1_ebr_20_nec_1_poly_1",
    "test": "test_3_ebr_20_nec_1_poly_0",
}


def write(tmp_path, count: int = 20, annotations: str = ""):
    """Each class is a tone of its own; a recording is as long as its number says."""
    rows, members = ["filename,label,samples"], {}
    for c, label in enumerate(("keysDrop", "cough")):
        for i in range(count):
            name, seconds = f"{label}{i:03d}.wav", 0.2 + 0.02 * i
            rows.append(f"{name},{label},0")
            tone = sounds.tone(seconds, RATE, frequency=200 + 400 * c)
            members[f"d/train/{name}"] = sounds.encode(tone, RATE)
    if not annotations:
        for scene in SCENES.values():
            annotations += f"x\t{scene}\t10.0\t10.5\tkeys\nx\t{scene}\t10.2\t10.9\tcough\n"
            annotations += f"x\t{scene}\t119.9\t120\tcough\n"
    tables = {"d/train.csv": "\n".join(rows), "d/annotations.tsv": HEADER + annotations}
    tables = {name: text.encode() for name, text in tables.items()}
    return write_tar(tmp_path / "d.tar.gz", members | tables)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remix")
    archive = write(folder)
    return prepared("dcase2016_task2_remix", folder, archive=archive, sample_rate=RATE)


def test_events_are_where_the_annotations_say(source):
    assert source.columns["clip"].tolist() == list(SCENES.values())
    assert source.columns["split"].tolist() == list(SCENES)
    events = source.columns["events"]
    assert source.field("events").names == ("cough", "keys")
    for row, split in enumerate(SCENES):
        times = events["times"][row]
        np.testing.assert_allclose(times[:, 0], [10.0, 10.2, 119.9], rtol=1e-6)
        assert (times[:, 1] <= np.float32([10.5, 10.9, 120])).all()
        # The recordings of a split are those with its numbers.
        numbers = (times[0, 1] - 10.0 - 0.2) / 0.02
        low, high = {"train": (0, 11), "validation": (12, 15), "test": (15, 15)}[split]
        assert low - 0.01 <= numbers <= high + 0.01  # more than 15 are cut


def test_levels_of_events_and_background(source):
    """The event is 20 dB above the noise, at its place only."""
    signal = source.signals([0])[0] / 32768
    assert len(signal) == remix.SECONDS * RATE
    (onset, offset), second = source.columns["events"]["times"][0, :2]
    noise = signal[: 9 * RATE]
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(0.01, rel=0.05)
    alone = signal[int(onset * RATE) : int(min(offset, second[0]) * RATE)]
    assert np.sqrt(np.mean(alone**2)) == pytest.approx(0.1, rel=0.1)
    after = signal[int((second[1] + 0.01) * RATE) : 119 * RATE]
    assert np.sqrt(np.mean(after**2)) == pytest.approx(0.01, rel=0.05)


def test_scenes_are_the_same_at_each_preparation(source, tmp_path):
    archive = write(tmp_path)
    options = {"archive": archive, "sample_rate": RATE}
    again = prepared("dcase2016_task2_remix", tmp_path / "again", **options)
    other = prepared("dcase2016_task2_remix", tmp_path / "other", **options, seed=1)
    np.testing.assert_array_equal(source.signals([1])[0], again.signals([1])[0])
    assert (source.signals([1])[0] != other.signals([1])[0]).any()


@pytest.mark.parametrize(
    ("count", "annotations", "message"),
    [
        (19, "", "19 recordings of cough, not 20"),
        (20, "x\tscene 1\t0\t1\tkeys\n", "scene 1 is no scene"),
        (20, f"x\t{SCENES['test']}\t0\t1\tdog\n", "no recordings of dog"),
        (20, f"x\t{SCENES['test']}\t0\tsoon\tkeys\n", "could not convert"),
    ],
)
def test_what_cannot_be_mixed_is_refused(tmp_path, count, annotations, message):
    archive = write(tmp_path, count, annotations)
    with pytest.raises(UserError, match=message):
        prepared("dcase2016_task2_remix", tmp_path, archive=archive)
