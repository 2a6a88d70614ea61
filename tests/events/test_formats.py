"""Lists of events that are written and read again."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gru_audio.data.datasets.event_lists import merged, read
from gru_audio.data.fields import Event, clean
from gru_audio.events.formats import audacity, dcase

# Text that files in UTF-8 can hold. Readers strip names and labels.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NAMES = TEXT.map(str.strip).filter(bool)
LABELS = st.one_of(TEXT.map(clean).filter(bool), st.sampled_from(["Begin Time (s)", "1", '"']))
MILLISECONDS = st.tuples(st.integers(0, 10**7), st.integers(1, 10**5), LABELS)
LISTS = st.lists(
    MILLISECONDS.map(lambda e: Event(e[0] / 1000, (e[0] + e[1]) / 1000, e[2])), max_size=4
)
quick = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

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


@quick
@given(st.dictionaries(NAMES, LISTS, min_size=1, max_size=3))
def test_a_table_of_any_events_is_read_again(tmp_path, events):
    path = tmp_path / "list.tsv"
    path.write_text(dcase(events), encoding="utf-8", newline="")
    assert read(path, [*events])[0] == {name: merged(each) for name, each in events.items()}


@quick
@given(LISTS)
def test_a_label_track_of_any_events_is_read_again(tmp_path, events):
    (tmp_path / "a.txt").write_text(audacity(events), encoding="utf-8", newline="")
    assert read(tmp_path, ["a.wav"])[0] == {"a.wav": merged(events)}
    if events:
        assert read(tmp_path / "a.txt", ["a.wav"])[0] == {"a.wav": merged(events)}


def test_a_label_track_is_read_again(tmp_path):
    labels = (*EVENTS, Event(1 / 3, 2 / 3, "tab\tand\nline"))
    (tmp_path / "a.txt").write_text(audacity(labels))
    found = read(tmp_path, ["a.wav"])[0]["a.wav"]
    assert [event.label for event in found] == ["barn owl", 'say "hi"', "tab and line"]
    assert found[2].onset == pytest.approx(1 / 3, abs=1e-6)
    (tmp_path / "a.txt").write_text(audacity(()))
    assert read(tmp_path, ["a.wav"])[0] == {"a.wav": ()}
