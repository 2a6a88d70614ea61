"""Lists of events of files and of live sound."""

import json
import re

import numpy as np
import pytest

from gru_audio.inference.events import EventLists, middles
from gru_audio.settings import UserError
from gru_audio.tasks.event_metrics import events_of
from tests.songs import SONGS
from tests.tones import tiny
from tests.trained import train

OPTIONS = {"as_json": False, "format": "dcase", "threshold": None, "window": None, "hop": None}


@pytest.fixture(scope="module")
def model(songs):
    return train(songs, tiny(SONGS), 60)


@pytest.fixture(scope="module")
def recording(songs):
    """Several songs, one after another."""
    return np.concatenate(songs.signals(range(6)))


def predictor(model, **changes):
    return EventLists(model, **OPTIONS | changes)


def blocks_of(samples, size):
    return (samples[i : i + size] for i in range(0, len(samples), size))


def rows(text):
    """The events of a table: onset, offset and class."""
    cells = [line.split("\t") for line in text.splitlines()]
    return [(float(on), float(off), label) for _, on, off, label in cells if on[:1].isdigit()]


@pytest.mark.parametrize(("size", "hop"), [(10, 5), (7, 3), (12, 11)])
@pytest.mark.parametrize("count", [4, 10, 50, 53])
def test_middles_of_windows_give_each_frame_once(size, hop, count):
    frames = np.arange(count)
    starts = [*range(0, max(1, count - size + 1), hop)]
    if starts[-1] + size < count:
        starts.append(count - size)
    windows = ((start, frames[start : start + size]) for start in starts)
    np.testing.assert_array_equal(np.concatenate([*middles(windows)]), frames)


def test_the_events_of_a_clip_are_those_of_an_evaluation(model, songs, capsys):
    ids = [28, 29]
    labels = {name: values[ids] for name, values in songs.columns["events"].items()}
    signals = songs.signals(ids)
    scores = model.scores(signals, labels)
    predictor(model).clips([(f"{i}.wav", signal) for i, signal in enumerate(signals)])
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "filename\tonset\toffset\tevent_label"
    expected = [
        event for row in range(2) for event in events_of(scores, row)[1].named(model.field.names)
    ]
    found = rows(printed)
    assert [event[2] for event in found] == [event.label for event in expected]
    for event, wanted in zip(found, expected, strict=True):
        assert event[:2] == pytest.approx(wanted[:2], abs=1e-3)


def test_windows_of_a_recording_give_almost_the_events_of_the_whole(model, recording, capsys):
    """Also if blocks, window and hop are odd."""
    predictor(model).clips([("a.wav", recording)])
    whole = rows(capsys.readouterr().out)
    predictor(model, window=1.33, hop=0.61).recording("a.wav", blocks_of(recording, 1234))
    cut = rows(capsys.readouterr().out)
    assert len(whole) > 20
    near = [any(o[2] == e[2] and abs(o[0] - e[0]) < 0.05 for o in cut) for e in whole]
    assert np.mean(near) > 0.9
    assert abs(len(whole) - len(cut)) <= 0.1 * len(whole)


def objects(capsys):
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_live_sound_is_a_stream_with_the_events_of_the_whole(model, recording, capsys):
    predictor(model, as_json=True).live(blocks_of(recording, 700))
    events, told = objects(capsys)
    assert events[0].keys() == {"file", "onset", "offset", "label"}
    assert re.search(r"Latency: at most [0-9.]+ ms: window 32, look-ahead 0, chunk 20", told)
    predictor(model, as_json=True).clips([("live", recording)])
    whole, _ = objects(capsys)
    assert len(whole) > 20 and events == whole


def test_windows_of_live_sound(model, recording, capsys):
    predictor(model, as_json=True, window=1.0).live(blocks_of(recording, 700))
    events, told = objects(capsys)
    assert len(events) > 20 and not told
    onsets = [event["onset"] for event in events]
    assert onsets == sorted(onsets)


def test_a_label_track_is_of_one_file(model, songs, capsys):
    track = predictor(model, format="audacity")
    assert track.single and not predictor(model).single
    track.clips([("a.wav", songs.signals([28])[0])])
    onset, offset, label = capsys.readouterr().out.splitlines()[0].split("\t")
    assert 0 <= float(onset) < float(offset) and label in model.field.names


def test_a_file_without_events_has_a_row(model, capsys):
    noise = 300 * np.random.default_rng(0).standard_normal(4000)
    predictor(model).clips([("quiet.wav", noise.astype(np.int16))])
    assert capsys.readouterr().out.splitlines()[1:] == ["quiet.wav\t\t\t"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop": 0.0}, r"--hop must be seconds above 0"),
        ({"window": float("nan")}, r"--window must be seconds above 0"),
        ({"window": 0.1, "hop": 0.1}, r"--hop \(0\.1 s\) must be shorter than --window"),
    ],
)
def test_windows_that_cannot_be_cut(model, changes, message):
    with pytest.raises(UserError, match=message):
        predictor(model, **changes).recording("a.wav", iter([np.zeros(9000, np.int16)]))
