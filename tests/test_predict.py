"""`predict` on long recordings and on sound that is still being recorded."""

import contextlib
import io
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from etils import epath

from gru_audio.audio.io import decode
from gru_audio.audio.live import cut
from gru_audio.data import index
from gru_audio.data.source import open_source
from gru_audio.prepare import prepare
from gru_audio.sweeps.workdir import Workdir
from tests.commands import ROOT, arguments, run
from tests.sounds import encode
from tests.tones import CLASSES, RATE, tiny
from tests.trained import train

SIZE, HOP = 3200, 1600
FLAGS = ["--window=0.4", "--hop=0.2"]
ORDER = ["low", "high", "middle", "low"]  # of the recording, two seconds each

RECORDER = """
import sys, time
data = sys.stdin.buffer.read()
with open(sys.argv[1], "ab", buffering=0) as file:
    for begin in range(0, len(data), 1999):
        file.write(data[begin : begin + 1999])
        time.sleep(0.02)
    while True:  # silence
        file.write(bytes(2000))
        time.sleep(0.3)
"""


@pytest.fixture(scope="module")
def trained(source):
    return train(source, tiny({"model.pooling": "mean"}), 150)


@pytest.fixture(scope="module")
def workdir(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workdir")
    trained.save(Workdir(epath.Path(folder)).model("one"))
    return folder


@pytest.fixture(scope="module")
def sound():
    """Eight seconds of tones like those of training, int16."""
    rng, second = np.random.default_rng(1), np.arange(2 * RATE) / RATE
    parts = [
        0.2 * np.sin(2 * np.pi * CLASSES[c] * second)
        + 0.1 * np.sin(3 * np.pi * CLASSES[c] * second)
        + 0.05 * rng.standard_normal(len(second))
        for c in ORDER
    ]
    return np.rint(np.concatenate(parts) * 32768).astype(np.int16)


@pytest.fixture(scope="module")
def recording(sound, tmp_path_factory):
    file = tmp_path_factory.mktemp("recording") / "long.flac"
    soundfile.write(file, sound, RATE)
    return file


@pytest.fixture(scope="module")
def expected(trained, sound):
    """The probabilities of every window, in order."""
    return trained.probabilities([window.samples for window in cut([sound], SIZE, HOP)])


@contextlib.contextmanager
def recording_to(file, data: bytes):
    """Starts a process that appends the data, and then silence, to a file."""
    with subprocess.Popen([sys.executable, "-c", RECORDER, file], stdin=subprocess.PIPE) as process:
        process.stdin.write(data)
        process.stdin.close()
        yield
        process.kill()


def as_scored(lines: list[dict], expected: np.ndarray, trained) -> None:
    """Asserts that windows have the labels that they have as clips."""
    for line in lines:
        row = expected[round(line["start"] * RATE / HOP)]
        assert line["end"] - line["start"] == pytest.approx(SIZE / RATE)
        for label in line["labels"]:
            chance = row[trained.field.names.index(label["label"])]
            assert label["probability"] == pytest.approx(chance, abs=1e-4)


def test_a_long_recording_gives_times_and_labels(workdir, environment, recording):
    shown = run(environment, "predict", "--workdir", workdir, *FLAGS, recording)
    assert "long.flac is cut into windows of 0.4 s, one every 0.2 s" in shown.stderr
    assert str(recording) in shown.stdout
    rows = [line.split() for line in shown.stdout.splitlines()[2:]]
    times = [[60 * int(m) + float(s) for _, m, s in (t.split(":") for t in r[:2])] for r in rows]
    assert times[0][0] == 0
    assert times[-1][1] == 8
    assert all(one[1] == other[0] for one, other in itertools.pairwise(times))
    told = [next(r[2] for r, t in zip(rows, times, strict=True) if t[1] > s) for s in (1, 3, 5, 7)]
    assert told == ORDER


def test_windows_as_json_and_a_short_clip_beside_them(
    workdir, environment, recording, tones_folder, expected, trained
):
    clip = next(tones_folder.rglob("fay_0.wav"))
    shown = run(environment, "predict", "--workdir", workdir, "--json", *FLAGS, recording, clip)
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    windows = [line for line in lines if line["file"] == str(recording)]
    assert len(windows) == len(expected)
    as_scored(windows, expected, trained)
    (alone,) = (line for line in lines if line["file"] == str(clip))
    assert "start" not in alone
    sure = run(
        environment, "predict", "--workdir", workdir, "--json", *FLAGS, "--threshold=0.9", recording
    )
    assert len(sure.stdout.splitlines()) == (expected.max(axis=1) >= 0.9).sum()


def test_by_default_a_window_is_the_longest_clip_of_training(
    workdir, environment, recording, trained
):
    flags = ["--workdir", workdir, "--json", recording]
    lines = run(environment, "predict", *flags).stdout.splitlines()
    windows = [json.loads(line) for line in lines]
    assert windows[0]["end"] * RATE == trained.longest
    assert windows[1]["start"] * RATE == trained.longest // 2


def test_clips_longer_than_the_crop_are_labelled_as_evaluate_scores_them(
    source, environment, tmp_path
):
    cropped = train(source, tiny({"data.crop_seconds": 0.3}), 20)
    cropped.save(Workdir(epath.Path(tmp_path)).model("one"))
    longest = cropped.longest_clip
    assert cropped.longest < 0.3 * RATE < longest
    lengths = [1000, round(0.3 * RATE), longest - 1, longest, longest + 50]
    rng, sounds = np.random.default_rng(0), {}
    for length in lengths:
        sounds[length] = rng.integers(-9000, 9000, length).astype(np.int16)
        sounds[length][:500] //= 50
        soundfile.write(tmp_path / f"{length}.wav", sounds[length], RATE)
    files = [tmp_path / f"{length}.wav" for length in lengths]
    shown = run(environment, "predict", "--workdir", tmp_path, "--json", *files)
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    *clips, recording = lengths
    alone = {line["file"]: line["labels"] for line in lines if "start" not in line}
    assert set(alone) == {str(tmp_path / f"{length}.wav") for length in clips}
    scores = cropped.scores([sounds[length] for length in clips], np.zeros(4, np.int32))
    for length, row in zip(clips, scores["probabilities"], strict=True):
        told = {
            label["label"]: label["probability"] for label in alone[str(tmp_path / f"{length}.wav")]
        }
        assert told == pytest.approx(dict(zip(cropped.field.names, row, strict=True)), abs=1e-5)
    windows = [line for line in lines if "start" in line]
    assert {line["file"] for line in windows} == {str(tmp_path / f"{recording}.wav")}
    assert windows[0]["end"] == cropped.longest / RATE


def test_predict_takes_the_files_of_a_folder_that_prepare_takes(workdir, environment, tmp_path):
    folder = tmp_path / "my sounds" / "a"
    (folder / "deeper").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.2, RATE // 5)
    forms = {"opus": ("OGG", "OPUS"), "caf": ("CAF", "ALAC_16"), "w64": ("W64", "PCM_16")}
    forms |= {"rf64": ("RF64", "PCM_16"), "au": ("AU", "PCM_16"), "AIFC": ("AIFF", "FLOAT")}
    for ending, (form, subtype) in forms.items():
        (folder / "deeper" / f"x.{ending}").write_bytes(encode(noise, RATE, form, subtype))
    (folder / "without_ending").write_bytes(encode(noise, RATE))
    (folder / "notes.txt").write_text("a note")
    (folder / "._x.wav").write_text("what a Mac leaves")
    os.mkfifo(folder / "pipe.wav")

    prepare("folder", tmp_path, name="mine", folder=folder.parent, sample_rate=RATE)
    described = index.read_description(index.versions(epath.Path(tmp_path), "mine")[-1])
    clips = {str(folder.parent / clip) for clip in open_source("mine", tmp_path).columns["clip"]}
    skipped = {f"skipped {folder.parent / name}: {why}" for name, why in described["skipped"]}
    assert len(clips) == 7
    assert {line.rpartition("/")[2] for line in skipped} == {
        *("notes.txt: not audio", "pipe.wav: not a regular file"),
    }
    shown = run(environment, "predict", "--workdir", workdir, "--json", folder.as_uri(), code=1)
    assert {json.loads(line)["file"] for line in shown.stdout.splitlines()} == clips
    assert {line for line in shown.stderr.splitlines() if line.startswith("skipped")} == skipped


def test_a_recording_that_breaks_off_is_labelled_until_there(
    workdir, environment, tmp_path, recording
):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(-9000, 9000, 200 * RATE).astype(np.int16)
    soundfile.write(whole, noise, RATE, format="FLAC")
    (tmp_path / "cut.flac").write_bytes(whole.getvalue()[: len(whole.getvalue()) * 3 // 4])
    shown = run(
        environment, "predict", "--workdir", workdir, "--json", tmp_path / "cut.flac", code=1
    )
    assert "skipped the rest of" in shown.stderr
    assert "cut.flac: truncated" in shown.stderr
    assert 100 < json.loads(shown.stdout.splitlines()[-1])["end"] < 150


def test_a_hop_beyond_the_window_is_refused(workdir, environment, recording):
    flags = ["--workdir", workdir, "--window=1", "--hop=2", recording]
    assert "--hop (2 s) must be" in run(environment, "predict", *flags, code=2).stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--window=nan"], "--window must be seconds above 0, not nan"),
        (["--live"], "is a file, but --live and --follow take no files"),
        (["--workdir="], "--workdir DIR"),
    ],
)
def test_invalid_flags_are_refused(workdir, environment, recording, flags, message):
    shown = run(environment, "predict", "--workdir", workdir, *flags, recording, code=2)
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_closed_pipe_ends_the_command(workdir, environment, recording):
    command = arguments("predict", "--workdir", workdir, "--json", "--window=0.4", recording)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()  # as `head` does
        told = process.stderr.read().decode()
    assert process.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in told


def test_a_file_is_followed_while_another_process_writes_it(
    workdir, environment, sound, expected, trained, tmp_path
):
    data, file = bytearray(encode(sound, RATE)), tmp_path / "growing.wav"
    data[40:44] = bytes(4)  # as long as nobody knows the length
    file.write_bytes(data[:50])
    flags = ["--workdir", workdir, "--live", "--follow", file, "--json", *FLAGS]
    predicting = subprocess.Popen(
        arguments("predict", *flags),
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with predicting, recording_to(file, data[50:]):
        lines = []
        while not lines or lines[-1]["end"] < 8:
            lines.append(json.loads(predicting.stdout.readline()))
        predicting.send_signal(signal.SIGINT)
        lines += map(json.loads, predicting.stdout)
        errors = predicting.stderr.read()
    assert predicting.returncode == 0, errors
    assert "Traceback" not in errors
    assert "Latency: at most" in errors
    told = re.search(r"0:00:([0-9.]+) heard, (\d+) windows labelled, (\d+) skipped", errors)
    assert (float(told[1]), int(told[2])) == (lines[-1]["end"], len(lines))
    assert int(told[2]) + int(told[3]) == round(lines[-1]["end"] * RATE - SIZE) // HOP + 1
    as_scored([line for line in lines if line["end"] <= 8], expected, trained)


def test_samples_on_standard_input_are_resampled_and_end(workdir, environment, sound, trained):
    twice = np.repeat(sound, 2)  # 16 kHz
    flags = ["--workdir", workdir, "--follow=-", f"--rate={2 * RATE}", "--json", *FLAGS]
    ended = subprocess.run(
        arguments("predict", *flags),
        cwd=ROOT,
        env=environment,
        input=twice.tobytes(),
        capture_output=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert lines
    resampled = decode(encode(twice, 2 * RATE), RATE).samples
    windows = cut([resampled], SIZE, HOP)
    as_scored(lines, trained.probabilities([window.samples for window in windows]), trained)


def test_on_a_terminal_there_are_bars(workdir, environment, sound):
    ours, theirs = pty.openpty()
    flags = ["--workdir", workdir, "--follow=-", *FLAGS, "--smooth=2"]
    with subprocess.Popen(
        arguments("predict", *flags),
        cwd=ROOT,
        env=environment | {"TERM": "xterm-256color", "COLUMNS": "80"},
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        process.stdin.write(sound.tobytes())
        process.stdin.close()
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone when the command has ended
            while piece := os.read(ours, 4096):
                shown += piece
        assert "heard" in process.stderr.read().decode()
    os.close(ours)
    text = shown.decode()
    assert "█" in text
    assert "0:00:08.00" in text
    assert all(label in text for label in CLASSES)


def test_without_a_microphone_the_error_names_the_extra(workdir, environment):
    flags = ["--workdir", workdir, "--live", "--device=a device that nobody has"]
    refused = run(environment, "predict", *flags, code=2)
    assert re.search(r"gru-audio\[live\]|PortAudio|--device=list", refused.stderr)


@pytest.mark.reliability
def test_memory_does_not_grow_with_the_recording(workdir, environment, tmp_path):
    peaks = []
    for minutes in (3, 60):
        file = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(file, "w", RATE, 1) as written:
            for _ in range(minutes):
                written.write(np.tile(np.arange(-4000, 4000, dtype=np.int16), 60))
        flags = ["--workdir", workdir, "--window=5", "--hop=5", "--json", file]
        with (tmp_path / "out").open("wb") as out:
            process = subprocess.Popen(
                arguments("predict", *flags), cwd=ROOT, env=environment, stdout=out
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        assert len((tmp_path / "out").read_text().splitlines()) == 12 * minutes
        peaks.append(usage.ru_maxrss / 1024)  # MiB
    assert peaks[1] < peaks[0] + 20  # the hour alone has 55 MiB
