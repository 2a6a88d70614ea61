"""Lists of events that are written and read again."""

import pytest

from gru_audio.data.datasets.event_lists import read
from gru_audio.data.fields import Event
from gru_audio.events.formats import audacity, dcase

EVENTS = (Event(0.0, 0.125, "barn owl"), Event(0.1, 12.5, 'say "hi"'))


def test_a_table_has_the_columns_of_dcase():
    assert dcase({"a.wav": EVENTS[:1], "b.wav": ()}) == (
        "filename\tonset\toffset\tevent_label\na.wav\t0.000\t0.125\tbarn owl\nb.wav\t\t\t\n"
    )


@pytest.mark.parametrize("name", ["a.wav", "a\tb.wav", "a\nb.wav", 'a "b".wav', "ä,;.wav", "a\rb"])
def test_any_name_survives_in_a_table(tmp_path, name):
    path = tmp_path / "list.tsv"
    path.write_text(dcase({name: EVENTS, "none.wav": ()}), newline="")
    assert read(path, [name, "none.wav"])[0] == {name: EVENTS, "none.wav": ()}


def test_a_label_track_is_read_again(tmp_path):
    labels = (*EVENTS, Event(1 / 3, 2 / 3, "tab\tand\nline"))
    (tmp_path / "a.txt").write_text(audacity(labels))
    found = read(tmp_path, ["a.wav"])[0]["a.wav"]
    assert [event.label for event in found] == ["barn owl", 'say "hi"', "tab and line"]
    assert found[2].onset == pytest.approx(1 / 3, abs=1e-6)
    (tmp_path / "a.txt").write_text(audacity(()))
    assert read(tmp_path, ["a.wav"])[0] == {"a.wav": ()}
