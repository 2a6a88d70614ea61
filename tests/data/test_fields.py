"""Fields of every type: values of a manifest reach TFDS, memory and batches unchanged."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.data import fields, index
from gru_audio.data.datasets.records import STORED, kind_of
from gru_audio.data.fields import (
    KINDS,
    ClassField,
    Event,
    EventsField,
    NumberField,
    TagsField,
    TextField,
    described,
)
from gru_audio.data.plan import BLOCK
from gru_audio.data.resident import load
from gru_audio.data.source import open_source
from gru_audio.data.stream import read
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from gru_audio.tasks import target_field
from tests import sounds
from tests.tones import tiny

CLIPS = 12
SECONDS = [0.1 + 0.05 * i for i in range(CLIPS)]
TAGS = [{"low", "high"}, set(), None, {"low"}]
TEXTS = ["caf\u00e9 au lait", "", None, "no"]
NUMBERS = [0.25, -3.0, None, 1e6]
EVENTS = [[(0.0, 0.05, "owl"), (0.03, 0.1, "cat")], [], None, [(0.01, 0.09, "cat")]]
NAMES = ["label", "kinds", "words", "age", "events"]


def write_list(folder, events=EVENTS):
    """Writes a manifest with a field of each type, and an event list."""
    rows, of_events = ["file,label,split,kinds,words,age"], ["file\tonset\toffset\tlabel"]
    for i, seconds in enumerate(SECONDS):
        name = f"{i}.wav"
        (folder / name).write_bytes(sounds.encode(sounds.tone(seconds, frequency=300 + i)))
        tags, text, number = TAGS[i % 4], TEXTS[i % 4], NUMBERS[i % 4]
        cells = [
            name,
            "ab"[i % 2],
            ["train", "validation", "test"][i % 3],
            "" if tags is None else "+".join(sorted(tags)) or "none",
            "" if text is None else text or "<none>",
            "" if number is None else str(number),
        ]
        rows.append(",".join(cells))
        told = events[i % len(events)]
        of_events += [f"{name}\t{on}\t{off}\t{label}" for on, off, label in told or ()]
        of_events += [f"{name}\t\t\t"] if told == [] else []
    (folder / "list.csv").write_text("\n".join(rows))
    (folder / "events.tsv").write_text("\n".join(of_events))
    return {
        "manifest": str(folder / "list.csv"),
        "tags": ["kinds"],
        "text": ["words"],
        "numbers": ["age"],
        "events": str(folder / "events.tsv"),
    }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("typed")
    told = prepare("manifest", folder, name="typed", **write_list(folder))
    for line in (
        "label: 2 classes: a, b",
        "kinds: 2 tags: high, low",
        "words: texts of up to 12 characters; ",
        "age: numbers from -3 to 1e+06",
        "events: 9 events, 2 classes of events: cat, owl",
    ):
        assert line in told
    return folder


@pytest.fixture(scope="module")
def source(data_dir):
    return open_source("typed", data_dir)


@pytest.fixture(scope="module")
def numbers(source):
    """The clip number of each row."""
    return [int(name.removesuffix(".wav")) for name in source.columns["clip"]]


def test_values_of_a_manifest(source, numbers):
    assert source.fields == {
        "kinds": TagsField(("high", "low")),
        "words": TextField(
            "".join(sorted(set("caf\u00e9 au laitno"))), ("au", "caf\u00e9", "lait", "no")
        ),
        "age": NumberField(),
        "label": ClassField(("a", "b")),
        "events": EventsField(("cat", "owl")),
    }
    columns = source.columns
    for row, i in enumerate(numbers):
        assert columns["label"][row] == i % 2
        tags = TAGS[i % 4]
        expected = [math.nan] * 2 if tags is None else ["high" in tags, "low" in tags]
        np.testing.assert_array_equal(columns["kinds"][row], expected)
        assert columns["words"]["text"][row] == (TEXTS[i % 4] or "")
        assert columns["words"]["known"][row] == (TEXTS[i % 4] is not None)
        number = NUMBERS[i % 4]
        np.testing.assert_array_equal(columns["age"][row], math.nan if number is None else number)
        events, found = EVENTS[i % 4], {k: v[row] for k, v in columns["events"].items()}
        assert found["counts"] == (-1 if events is None else len(events))
        for e, (onset, offset, label) in enumerate(events or ()):
            np.testing.assert_allclose(found["times"][e], [onset, offset], rtol=1e-6)
            assert found["classes"][e] == ["cat", "owl"].index(label)
        assert (found["classes"][len(events or ()) :] == -1).all()
    for name in NAMES:
        unknown = [name != "label" and i % 4 == 2 for i in numbers]
        np.testing.assert_array_equal(source.known(name), np.logical_not(unknown))


def test_tfds_reads_the_records(source, numbers, data_dir):
    """The TFDS features convert back to fields of the same types and values."""
    builder = tfds.builder_from_directory(data_dir / "typed" / "1.2.0")
    features = builder.info.features
    assert features["kinds"].feature.names == ["high", "low"]
    assert features["events"].feature["label"].names == ["cat", "owl"]
    assert {name: kind_of(features[name]) for name in NAMES} == {
        name: type(source.fields[name]) for name in NAMES
    }
    assert kind_of(features["audio"]) is None
    rows = [row for split in source.splits() for row in builder.as_data_source(split)]
    for row, i in zip(rows, numbers, strict=True):
        assert row["label"] == i % 2
        assert row["words"].decode() == (TEXTS[i % 4] or "")
        assert [["high", "low"][tag] for tag in row["kinds"]] == sorted(TAGS[i % 4] or ())
        np.testing.assert_equal(row["age"], math.nan if NUMBERS[i % 4] is None else NUMBERS[i % 4])
        told = zip(*(row["events"][name] for name in ("onset", "offset", "label")), strict=True)
        expected = [(on, off, ["cat", "owl"].index(of)) for on, off, of in EVENTS[i % 4] or ()]
        assert [*told] == [pytest.approx(event) for event in expected]
        decoded = {n: STORED[kind_of(features[n])].decode(row[n], features[n]) for n in NAMES}
        assert decoded["label"] == "ab"[i % 2]
        assert decoded["kinds"] == frozenset(TAGS[i % 4] or ())
        assert decoded["words"] == (TEXTS[i % 4] or "")
        assert [event.label for event in decoded["events"]] == [e[2] for e in EVENTS[i % 4] or ()]
        cleaned = NumberField.clean(decoded["age"])
        assert cleaned == (NUMBERS[i % 4] if NUMBERS[i % 4] is None else pytest.approx(row["age"]))


@pytest.mark.parametrize("name", ["label", "kinds", "age", "events"])
def test_resident_and_streamed_batches_carry_the_values_and_where_a_crop_begins(source, name):
    values, ids = source.values(name), np.arange(CLIPS, dtype=np.int32)[::-1]
    crop = np.random.default_rng(0).random(CLIPS, np.float32)
    resident = jax.device_put(load(source, values, 8 * BLOCK))
    gather = jax.jit(type(resident).batch, static_argnums=3)
    batch = jax.device_get(gather(resident, jnp.asarray(ids), ids, 8 * BLOCK, jnp.asarray(crop)))
    streamed = read(source, values, ids, ids, 8 * BLOCK, crop)
    for leaf, its in zip(jax.tree.leaves(batch), jax.tree.leaves(streamed), strict=True):
        assert leaf.dtype == its.dtype
        np.testing.assert_array_equal(leaf, its)
    assert batch.start.max() > 0
    for row, samples in enumerate(source.signals(ids)):
        part = samples[batch.start[row] :][: batch.length[row]]
        np.testing.assert_array_equal(batch.signal[row, : batch.length[row]], part)
    expected = jax.tree.map(lambda leaf: leaf[ids], values)
    for leaf, its in zip(jax.tree.leaves(batch.labels), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(leaf, its)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ((0.05, 0.05, "owl"), "event owl from 0.05 to 0.05 s does not fit in a clip of"),
        ((0.05, 0.05 + 1e-12, "owl"), "event owl from 0.05 to 0.05 s does not fit in a clip of"),
        ((-0.1, 0.05, "owl"), "event owl from -0.1 to 0.05 s"),
        ((8.0, 9.0, "owl"), "event owl from 8 to 9 s"),
    ],
)
def test_a_clip_with_an_invalid_event_is_skipped(tmp_path, event, why):
    events = [[event], *[[(0.0, 0.05, "owl")]] * (CLIPS - 1)]
    told = prepare("manifest", tmp_path, name="typed", **write_list(tmp_path, events))
    assert "skipped: 1" in told and f"0.wav: events: {why}" in told


@given(st.floats(0, 2, width=32), st.floats(0, 2, width=32), st.floats(0.05, 1.5))
def test_events_begin_in_their_clip_and_are_cut_at_its_end(onset, offset, seconds):
    events, end = (Event(onset, offset, "x"),), np.float32(seconds)
    assert (EventsField.problem(events, seconds) == "") == (onset < offset and onset < end)
    ((begin, stop, _),), cut = EventsField.fitted(events, seconds)
    assert (begin, stop) == (onset, min(offset, end))
    assert cut == (offset > seconds + fields.TOLERANCE)


def test_events_of_a_part_of_a_file_are_those_of_the_part(tmp_path):
    (tmp_path / "long.wav").write_bytes(sounds.encode(sounds.tone(1.0)))
    (tmp_path / "list.csv").write_text(
        "file,start,end,split\n"
        + "\n".join(f"long.wav,{s},{e},train" for s, e in [(0, 0.5), (0.5, ""), (0.2, 0.3)])
    )
    (tmp_path / "events.csv").write_text("file,onset,offset,label\nlong.wav,0.4,0.7,owl\n")
    events = str(tmp_path / "events.csv")
    prepare("manifest", tmp_path, name="parts", manifest=tmp_path / "list.csv", events=events)
    found = open_source("parts", tmp_path).values("events")
    assert found["counts"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(found["times"][:, 0], [[0.4, 0.5], [0, 0.2], [0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,onset,offset\n0.wav,0,1\n", 'no column "label"'),
        ("file,onset,offset,label\n0.wav,soon,1,owl\n", "row 1: an event needs an onset"),
        ("file,onset,offset,label\n0.wav,0,1,\n", "row 1: an event needs an onset"),
        ("file,onset,offset,label\nx.wav,0,1,owl\n", r"lists x\.wav, but there is no clip"),
    ],
)
def test_an_invalid_event_list_is_refused(tmp_path, text, message):
    options = write_list(tmp_path)
    (tmp_path / "events.tsv").write_text(text)
    with pytest.raises(UserError, match=message):
        prepare("manifest", tmp_path, name="typed", **options)


def test_a_folder_and_features_have_other_fields_too(tmp_path):
    for name in ("cat+dog/0.wav", "none/1.wav", "dog/2.wav"):
        (tmp_path / "sounds" / name).parent.mkdir(parents=True)
        (tmp_path / "sounds" / name).write_bytes(sounds.encode(sounds.tone()))
    options = {"folder": tmp_path / "sounds", "fractions": [1, 0, 0], "tags": ["label"]}
    prepare("folder", tmp_path, name="tagged", **options)
    found = open_source("tagged", tmp_path)
    assert found.fields["label"] == TagsField(("cat", "dog"))
    assert sorted(found.columns["label"].tolist()) == [[0, 0], [0, 1], [1, 1]]
    with pytest.raises(UserError, match='The only tags of a folder are "label"'):
        prepare("folder", tmp_path, name="no", **(options | {"tags": ["x"]}))
    arrays = {"features": np.ones((3, 4, 2)), "said": np.array(["yes", "no", ""])}
    np.savez(tmp_path / "x.npz", age=np.array([1, 2, 3]), **arrays)
    options = {"archive": tmp_path / "x.npz", "fractions": [1, 0, 0]}
    prepare("features", tmp_path, name="said", text=["words=said"], numbers=["age"], **options)
    found = open_source("said", tmp_path)
    assert found.columns["words"]["text"].tolist() == ["yes", "no", ""]
    assert found.columns["words"]["known"].tolist() == [True, True, False]
    assert found.columns["age"].tolist() == [1, 2, 3]


def test_an_invalid_number_is_reported_with_its_row(tmp_path):
    options = write_list(tmp_path)
    with pytest.raises(UserError, match=r'list\.csv, row 1: "caf. au lait" is not a number'):
        prepare("manifest", tmp_path, name="typed", **(options | {"numbers": ["x=words"]}))


VALUES = {
    "class": st.sampled_from(["a", "b", "\u00e9"]),
    "tags": st.frozensets(st.sampled_from(["a", "b", "c"])),
    "text": st.text("ab \u00e9", max_size=5).map(fields.clean),
    "events": st.lists(
        st.tuples(st.floats(0, 1, width=16), st.floats(2, 3, width=16), st.sampled_from(["x", "y"]))
    ).map(EventsField.clean),
    "number": st.floats(-10, 10, width=32),
}


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_a_field_is_described_in_json_and_its_arrays_are_what_they_should_be(kind, data):
    values = data.draw(st.lists(st.none() | VALUES[kind], min_size=1, max_size=6))
    field = KINDS[kind].of(values, [True] * len(values))
    assert described(json.loads(json.dumps(fields.describe(field)))) == field
    arrays = field.arrays(values)
    leaves = arrays if isinstance(arrays, dict) else {"": arrays}
    assert leaves.keys() == field.leaves().keys()
    for name, leaf in field.leaves().items():
        assert len(leaves[name]) == len(values)
        assert leaf.fits(leaves[name].shape, leaves[name].dtype)
    field.check(arrays)
    if field != TagsField(()):  # of which no task can learn
        assert field.known(arrays).tolist() == [value is not None for value in values]
    assert field.summary(arrays)
    again = field.matched(field, arrays, "itself")
    jax.tree.map(np.testing.assert_array_equal, again, arrays)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(
    st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"kind": st.sampled_from([*KINDS, "other"])},
            optional={"names": JSON, "characters": JSON, "words": JSON, "other": JSON},
        ),
    )
)
def test_a_damaged_description_is_refused_or_a_field(description):
    try:
        field = described(description)
    except (UserError, ValueError):
        return
    names = getattr(field, "names", ())
    assert all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    assert fields.describe(field).keys() - {"words"} == description.keys() - {"words"}


def test_old_descriptions_of_texts_have_no_words():
    assert described({"kind": "text", "characters": "ab"}) == TextField("ab", ())
    for damaged in ({"words": ["a"]}, {"characters": "ab", "words": ["a", "a"]}):
        with pytest.raises((UserError, ValueError)):
            described({"kind": "text"} | damaged)


BAD_COLUMNS = [
    ("kinds", np.full((CLIPS, 2), 0.5, np.float32), "tags are 0 or 1"),
    ("kinds", np.zeros((CLIPS, 3), np.float32), "the wrong type or shape"),
    ("words/known", np.zeros(CLIPS, bool), "marked as unknown"),
    ("words/text", np.arange(CLIPS), "the wrong type or shape"),
    ("age", np.full(CLIPS, np.inf, np.float32), "infinite"),
    ("events/counts", np.full(CLIPS, 3, np.int32), "event count is out of range"),
    ("events/counts", np.full(CLIPS, -2, np.int32), "event count is out of range"),
    ("events/counts", np.zeros(CLIPS, np.int32), "a class index is out of range"),
    ("events/classes", np.full((CLIPS, 2), 2, np.int32), "a class index is out of range"),
    ("events/times", np.zeros((CLIPS, 2, 2), np.float32), "ends before it begins"),
    ("events/times", np.ones((CLIPS, 2), np.float32), "the wrong type or shape"),
    ("events/times", np.ones((CLIPS, 1, 2), np.float32), "times and event classes differ"),
]


@pytest.mark.parametrize(("column", "values", "why"), BAD_COLUMNS)
def test_invalid_columns_are_refused(data_dir, tmp_path, column, values, why):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (data_dir / "typed" / "1.2.0").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    columns, name = index.read_columns(folder), column.partition("/")
    if name[1]:
        columns[name[0]] = columns[name[0]] | {name[2]: values}
    else:
        columns[column] = values
    index.write(folder, index.read_description(folder), columns)
    with pytest.raises(ValueError, match=why):
        index.read_columns(folder)


def old(data_dir, folder):
    """The data set in the old format, which had only class fields."""
    target = folder / "typed" / "1.2.0"
    target.mkdir(parents=True)
    for path in (data_dir / "typed" / "1.2.0").iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    description = index.read_description(target)
    names = description.pop("fields")["label"]["names"]
    own = ("split", "length", "clip", "label")
    everything = index.read_columns(target)
    columns = {name: everything[name] for name in own}
    index.write(target, description | {"class_names": {"label": names}}, columns)
    return open_source("typed", folder)


def test_old_data_sets_have_class_fields(data_dir, source, tmp_path):
    found = old(data_dir, tmp_path)
    assert found.fields == {"label": source.fields["label"]}
    np.testing.assert_array_equal(found.columns["label"], source.columns["label"])


def test_a_task_says_which_fields_it_could_have_and_how_to_get_one(data_dir, source, tmp_path):
    config = tiny({"task.name": "tagging", "data.target": "label"})
    for data, has in ((source, "kinds"), (old(data_dir, tmp_path), "no field")):
        with pytest.raises(UserError) as refusal:
            target_field(data, config)
        assert str(refusal.value) == (
            'config.task.name=tagging needs config.data.target, a field of tags, and "label" of '
            f"typed has classes. It has tags in: {has}. If its classes are sets of tags: python -m "
            "gru_audio.prepare manifest --name typed --manifest LIST.csv --tags label --overwrite, "
            "with the other options as before."
        )
    for name in ("kinds", "words", "age", "events"):
        with pytest.raises(UserError, match=r"a field of classes, and .*classes in: label\."):
            target_field(source, tiny({"data.target": name}))
    assert target_field(source, tiny({"task.name": "tagging", "data.target": "kinds"}))


def test_values_of_another_data_set_are_matched_by_name():
    own, other = TagsField(("a", "b", "c")), TagsField(("c", "a"))
    values = np.array([[1, 0], [0, 1], [np.nan, np.nan]], np.float32)
    expected = [[0, 0, 1], [1, 0, 0], [np.nan] * 3]
    np.testing.assert_array_equal(own.matched(other, values, "other"), expected)
    events = {"classes": np.array([[1, 0, -1]])}
    matched = EventsField(("x", "y", "z")).matched(EventsField(("z", "x")), events, "other")
    assert matched["classes"].tolist() == [[0, 2, -1]]
    classes = ClassField(("a", "b")).matched(ClassField(("b", "a")), np.array([0, -1, 1]), "other")
    assert classes.tolist() == [1, -1, 0]
    with pytest.raises(UserError, match="does not know these tags of other: d, e"):
        own.matched(TagsField(("a", "e", "d")), values, "other")
    with pytest.raises(UserError, match="was trained on tags, and other has classes"):
        own.matched(ClassField(("a",)), values, "other")
