"""Notes of a violin: a small archive, and the real one."""

import numpy as np
import pytest

from gru_audio.data.datasets.bach_violin import TEST, VALIDATION, BachViolin
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import counts, prepared, values, write_tar

RECORDINGS = ("some-one_bwv1001_mov1", VALIDATION[0], TEST[0])
NOTES = """recording\tonset\toffset\tpitch
{0}\t0.000\t0.200\t69
{0}\t0.210\t0.400\t70
{0}\t0.400\t0.480\t71
{0}\t0.500\t0.700\t60
{0}\t0.500\t0.700\t64
{1}\t0.100\t0.300\t69
{2}\t0.300\t0.700\t70
{2}\t0.100\t0.310\t69
""".format(*RECORDINGS)


def write(tmp_path, notes: str = NOTES, recordings=RECORDINGS):
    files = {
        f"violin/{name}.ogg": sounds.encode(sounds.tone(0.8), form="OGG", subtype="VORBIS")
        for name in recordings
    }
    (tmp_path / "notes.tsv").write_text(notes)
    return {"archive": write_tar(tmp_path / "x.tar.gz", files), "events": tmp_path / "notes.tsv"}


def test_clips_are_single_notes(tmp_path):
    """Short notes and the chord of 60 and 64 are left out; an overlap of 10 ms is none."""
    source = prepared("bach_violin", tmp_path, **write(tmp_path))
    assert source.columns["clip"].tolist() == [
        f"{name}@{onset}"
        for name, onset in zip(
            [*[RECORDINGS[0]] * 2, RECORDINGS[1], *[RECORDINGS[2]] * 2],
            ("0.000", "0.210", "0.100", "0.100", "0.300"),
            strict=True,
        )
    ]
    assert values(source, "pitch") == ["69", "70", "69", "69", "70"]
    assert values(source, "performer") == [*["some-one"] * 2, *["john-garner"] * 3]
    assert source.columns["length"].tolist() == [3200, 3040, 3200, 3360, 6400]


def test_what_is_left_out_is_counted(tmp_path):
    summary = prepare("bach_violin", tmp_path, **write(tmp_path))
    assert "Left out: 1 short notes." in summary
    assert "Left out: 2 notes that sound together with others." in summary


def test_a_clip_is_its_part_of_the_recording(tmp_path):
    source = prepared("bach_violin", tmp_path, **write(tmp_path))
    spectrum = np.abs(np.fft.rfft(source.signals([3])[0] * np.hanning(3360)))
    assert spectrum.argmax() * 16000 / 3360 == pytest.approx(440, abs=5)


def test_no_recording_is_in_two_splits(tmp_path):
    source = prepared("bach_violin", tmp_path, **write(tmp_path))
    assert counts(source, "recording") == {
        ("train", RECORDINGS[0]): 2,
        ("validation", RECORDINGS[1]): 1,
        ("test", RECORDINGS[2]): 2,
    }


def test_shorter_notes_on_request(tmp_path):
    options = write(tmp_path)
    builder = BachViolin(data_dir=tmp_path, min_note_seconds=0.05, **options)
    builder.download_and_prepare()
    assert builder._ledger.clips == 6
    with pytest.raises(UserError, match=r"--min_note_seconds must be at least 0\.01, not 0"):
        BachViolin(data_dir=tmp_path, min_note_seconds=0, **options)


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        (NOTES.replace("0.210\t0.400", "0.210\t0.2"), r"notes\.tsv, line 3: a note needs an onset"),
        (NOTES.replace("\t70\n", "\tA4\n", 1), "line 3: a note needs an onset"),
        (NOTES.replace("\t70\n", "\t128\n", 1), "line 3: .* a pitch from 0 to 127"),
        (NOTES.replace("0.210", "nan"), "line 3: a note needs"),
        (NOTES.replace("pitch", "note"), 'no column "pitch"'),
        (NOTES.replace(RECORDINGS[0], "other"), r"x\.tar\.gz has no recording other\.ogg"),
    ],
    ids=["offset", "name", "pitch", "nan", "column", "recording"],
)
def test_invalid_notes_are_refused(tmp_path, notes, message):
    with pytest.raises(UserError, match=message):
        prepared("bach_violin", tmp_path, **write(tmp_path, notes))


def test_the_real_recordings(tmp_path):
    """Counts of notes, and the pitch of the loudest partial against that of the table."""
    source = prepared(
        "bach_violin",
        tmp_path,
        archive=sounds.archive("bach-violin-9/*.tar.gz"),
        events=sounds.archive("bach-violin-9/notes.tsv"),
    )
    assert counts(source) == {("train",): 2147, ("validation",): 552, ("test",): 1062}
    long = np.flatnonzero(source.columns["length"] > 0.3 * 16000)[:200]
    names = values(source, "pitch")
    right = 0
    for i, samples in zip(long, source.signals(long), strict=True):
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        peak = spectrum.argmax() * 16000 / len(samples)
        semitones = 12 * np.log2(peak / 440) + 69 - int(names[i])
        right += min(abs(semitones - partial) for partial in (0, 12, 19, 24, 28, 31)) < 0.5
    assert right / len(long) > 0.6  # chance is 0.2
