"""Lists of events in the formats of several programs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gru_audio.data.datasets.columns import EVENTS
from gru_audio.data.datasets.event_lists import fingerprint, merged, read
from gru_audio.data.fields import Event, EventsField
from gru_audio.settings import UserError
from tests import sounds
from tests.data.datasets.making import build, manifest_builder

CAT, OWL = Event(0.5, 1.25, "cat"), Event(1.0, 2.0, "barn owl")
RAVEN = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tAnnotation\n"


def written(folder, text: str, name: str = "list.tsv"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "file,onset,offset,label\na.wav,0.5,1.25,cat\na.wav,1,2,barn owl\nb.wav,,,\n",
        "filename\tonset\toffset\tevent_label\na.wav\t0.5\t1.25\tcat\n"
        "a.wav\t1.0\t2.0\tbarn owl\nb.wav\t\t\t\n",
        "a.wav\t0.5\t1.25\tcat\na.wav\t1.0\t2.0\tbarn owl\nb.wav\t\t\t\n",
        "\ufeffevent_label;onset;offset;filename\ncat;0.5;1.25;a.wav\nbarn owl;1;2;a.wav\n"
        ";;;b.wav\n",
    ],
    ids=["own", "dcase", "no header", "any order"],
)
def test_tables(tmp_path, text):
    events, remarks = read(written(tmp_path, text), ["a.wav", "b.wav", "c.wav"])
    assert events == {"a.wav": (CAT, OWL), "b.wav": ()}
    assert remarks == []


def test_label_tracks_and_selection_tables_in_a_folder(tmp_path):
    written(tmp_path, "0.500000\t1.250000\tcat\n\\\t100\t2000\n1.0\t2.0\tbarn owl\n", "in/a.txt")
    rows = ["1\tWaveform\t0.5\t1.25\t0\tcat", "1\tSpectrogram\t0.5\t1.25\t0\tcat"]
    rows += ["2\tSpectrogram\t1\t2\t0\tbarn owl"]
    written(tmp_path, RAVEN + "\n".join(rows), "b.Table.1.selections.txt")
    written(tmp_path, "", "empty.txt")
    written(tmp_path, RAVEN, "none.selections.txt")
    written(tmp_path, "0\t1\tdog\n", "other.txt")
    (tmp_path / "b.wav").write_bytes(b"")
    names = ["in/a.wav", "b.wav", "empty.flac", "none.wav", "unlisted.wav"]
    events, remarks = read(tmp_path, names)
    assert events == {
        **dict.fromkeys(names[:2], (CAT, OWL)),
        **dict.fromkeys(names[2:4], ()),
    }
    assert remarks == ["Files in the event list without a clip: 1 (other.txt)."]
    before = fingerprint(tmp_path)
    written(tmp_path, "0\t1\tcat\n", "other.txt")
    assert fingerprint(tmp_path) != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "0.5\t1.25\tcat\n1.0\t2.0\tbarn owl\n"),
        ("a.selections.txt", RAVEN + "1\tx\t0.5\t1.25\t0\tcat\n2\tx\t1\t2\t0\tbarn owl\n"),
    ],
    ids=["audacity", "raven"],
)
def test_a_file_of_one_recording_has_its_name(tmp_path, name, text):
    path = written(tmp_path, text, name)
    names = ["in/a.wav", "b.wav"]
    assert read(path, names) == ({"in/a.wav": (CAT, OWL)}, [])
    with pytest.raises(UserError, match="lists a, but there is no clip"):
        read(path, ["b.wav"])
    with pytest.raises(UserError, match=r"in/a\.wav and a\.flac have the same name"):
        read(path, [*names, "a.flac"])


def test_a_selection_table_of_several_files(tmp_path):
    """Begin Time counts from the first file, File Offset from the file itself."""
    head = RAVEN.replace("Annotation", "Begin File\tFile Offset (s)\tAnnotation")
    rows = ["1\tx\t0.5\t1.25\t0\ta.wav\t0.5\tcat", "2\tx\t11\t12\t0\tb.wav\t1\tbarn owl"]
    path = written(tmp_path, head + "\n".join(rows), "all.txt")
    assert read(path, ["in/a.wav", "b.wav"])[0] == {"in/a.wav": (CAT,), "b.wav": (OWL,)}
    with pytest.raises(UserError, match="pass the file itself as --events"):
        read(tmp_path, ["all.wav"])
    path.write_text(path.read_text().replace("File Offset (s)", "Other"))
    with pytest.raises(UserError, match=r"needs the column \"File Offset \(s\)\""):
        read(path, ["in/a.wav", "b.wav"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.tsv", "a.wav\tnan\t1\tcat\n", 'no column "file"'),
        (
            "list.tsv",
            "file,onset,offset,label\na.wav,nan,1,cat\n",
            "row 1: an event needs an onset",
        ),
        ("list.tsv", "a.wav\t0\t1\tcat\na.wav\t0\tinf\tcat\n", "row 2: an event needs an onset"),
        ("list.tsv", "file,onset,offset,label\na.wav,0,1,\n", "'0', '1', ''"),
        ("list.tsv", "file,onset,offset,label\nz.wav,0,1,cat\n", "lists z.wav, but there is no"),
        ("list.tsv", "filename\tonset\toffset\n", 'no column "event_label"'),
        ("list.tsv", "", 'no column "file"'),
        ("list.tsv", "x" * 200_000, "field larger than field limit"),
        ("list.tsv", "0\t1\tc\0t", "has NUL bytes"),
        ("in/a.txt", "0.5\t1.25\n", "line 1: an event needs"),
        ("in/a.txt", RAVEN.replace("Annotation", "Note") + "1\tx\t0\t1\t0\tcat\n", "Annotation"),
        ("in/other.txt", "0\t1\tcat\n", "lists other.txt, but there is no clip"),
        ("in/note.csv", "x", "has no file NAME.txt"),
    ],
)
def test_invalid_lists_are_errors(tmp_path, name, text, message):
    path = written(tmp_path, text, name)
    with pytest.raises(UserError, match=message):
        read(path if name == "list.tsv" else path.parent, ["a.wav"])


HEADERS = ["file,onset,offset,label\n", "filename\tonset\toffset\tevent_label\n", RAVEN]
HEADERS += [RAVEN.replace("View", "Begin File").replace("Low Freq (Hz)", "File Offset (s)")]
ROWS = ["a.wav,0.5,1,cat\n", "a.wav\t0.5\t1\tcat\n", "0.5\t1\tcat\n"]
ROWS += ["1\ta.wav\t0.5\t1\t0.5\tcat\n"]
PIECES = [*HEADERS, *ROWS, *'\t\n\r,;"\\ ', "0.5", "1", "-1", "nan", "1e400", "1e-9", "a.wav"]
CONTENTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=20).map(
    lambda pieces: "".join(pieces).encode("utf-8", "surrogatepass")
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    CONTENTS | st.binary(max_size=40), st.sampled_from(["a.txt", "list.tsv", "a.selections.txt"])
)
def test_any_content_is_read_or_refused(tmp_path, content, name):
    folder = tmp_path / "lists"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    for place in (path, folder):
        try:
            found, _ = read(place, ["a.wav", "in/b.wav"])
        except UserError as error:
            assert str(error)
            continue
        for events in found.values():
            cleaned = EventsField.clean(events)
            if not EventsField.problem(cleaned, 1.0):
                cut, _ = EventsField.fitted(cleaned, 1.0)
                field = EventsField.of([cut], [True])
                field.check(field.arrays([cut]))
    path.unlink()


def test_two_lists_of_one_recording_are_an_error(tmp_path):
    written(tmp_path, "", "a.txt")
    written(tmp_path, RAVEN, "a.selections.txt")
    with pytest.raises(UserError, match="two lists of the same events"):
        read(tmp_path, ["a.wav"])


def test_overlapping_events_of_a_class_are_merged():
    events = [Event(2, 3, "a"), Event(0, 1, "a"), Event(0.5, 2, "a"), Event(0.5, 1, "b")]
    assert merged(events) == (Event(0, 2, "a"), Event(0.5, 1, "b"), Event(2, 3, "a"))
    assert merged([Event(0, 5, "a"), Event(3, 2, "a")])[1] == Event(3, 2, "a")


LINES = ("0.wav\t0.1\t0.4\tcat", "0.wav\t0.2\t0.5\tcat", "1.wav\t\t\t", "9.wav\t0\t1\towl")


def prepared(tmp_path, lines=LINES, **options):
    """Four recordings of a second."""
    rows = []
    for i in range(4):
        (tmp_path / f"{i}.wav").write_bytes(sounds.encode(sounds.tone(1.0, frequency=300 + i)))
        rows.append({"file": f"{i}.wav", "split": "train"})
    events = written(tmp_path, "filename\tonset\toffset\tevent_label\n" + "\n".join(lines))
    return build(manifest_builder(tmp_path, rows, events=events, **options))


def test_events_that_end_after_their_recording_are_cut_and_counted(tmp_path):
    """Rounded ends are cut, too, but do not count. A recording that ends before an event is bad."""
    lines = ["0.wav\t0.0\t9.0\ta", "0.wav\t0.9\t1.5\tb", "1.wav\t0.5\t1.01\ta", "2.wav\t1\t1.5\ta"]
    about, columns = prepared(tmp_path, lines)
    assert "events: 2 events end after their clip, and were cut at its end." in about["remarks"]
    assert [name for name, _ in about["skipped"]] == ["2.wav"]
    assert columns[EVENTS]["times"][:2, :, 1].tolist() == [[1, 1], [1, 0]]


def test_files_without_annotations(tmp_path):
    """By default their events are unknown."""
    about, columns = prepared(tmp_path)
    assert columns[EVENTS]["counts"].tolist() == [1, 0, -1, -1]
    np.testing.assert_allclose(columns[EVENTS]["times"][0, 0], [0.1, 0.5], rtol=1e-6)
    assert {
        "Files in the event list without a clip: 1 (9.wav).",
        "Overlapping events of one class that were merged: 1.",
        "Clips that are not in the event list: 2 (2.wav, 3.wav). Their events are unknown.",
    } <= set(about["remarks"])


def test_files_without_annotations_may_be_refused(tmp_path):
    with pytest.raises(UserError, match="--unannotated empty takes them"):
        prepared(tmp_path, unannotated="refuse")


def test_files_without_annotations_may_have_no_events(tmp_path):
    about, columns = prepared(tmp_path, unannotated="empty")
    assert columns[EVENTS]["counts"].tolist() == [1, 0, 0, 0]
    assert about["settings"]["unannotated"] == "empty"


def test_unannotated_needs_a_list(tmp_path):
    with pytest.raises(UserError, match="pass --events"):
        manifest_builder(tmp_path, [{"file": "a.wav", "label": "x"}], unannotated="empty")
