"""Precomputed features: all file types give the values, names and splits that were written."""

import csv
import io

import numpy as np
import pytest

from gru_audio.data.datasets.features import Features
from gru_audio.settings import UserError
from tests import sounds
from tests.prepared import counts, prepared, values, write_tar

WIDTH = 3
LENGTHS = [4, 1, 7, 2, 5, 3]
NAMES = [f"take{i}" for i in range(len(LENGTHS))]
LABELS = ["cat", "dog", "cat", "dog", "cat", "dog"]
SPLITS = ["train", "train", "train", "dev", "test", "test"]
FIELDS = ["label=targets:animals", "fold=folds"]


def made(dtype: str = "float32") -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 100, (length, WIDTH)).astype(dtype) for length in LENGTHS]


def arrays(**others) -> dict[str, np.ndarray]:
    """The arrays of an .npz besides its features."""
    return {
        "targets": np.array([LABELS[i] == "dog" for i in range(len(LABELS))], np.int64),
        "animals": np.array(["cat", "dog"]),
        "folds": np.arange(len(LENGTHS)) % 2 + 1,
        "split": np.array(SPLITS),
        "clip": np.array(NAMES),
        **others,
    }


def table(columns: dict[str, list], separator: str = ",") -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator)
    writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    return file.getvalue()


def assert_holds(source, sequences: list[np.ndarray], names: list[str] = NAMES) -> None:
    places = {str(name): i for i, name in enumerate(source.columns["clip"])}
    assert sorted(places) == sorted(names)
    found = source.signals([places[name] for name in names])
    for one, other in zip(found, sequences, strict=True):
        np.testing.assert_array_equal(one, other)


def refuse(tmp_path, archive, message: str, **options) -> None:
    with pytest.raises(UserError, match=message):
        builder = Features(data_dir=tmp_path / "refused", name="mine", archive=archive, **options)
        builder.download_and_prepare()


def listed(tmp_path, **columns) -> str:
    (tmp_path / "list.csv").write_text(table(columns))
    return str(tmp_path / "list.csv")


# One file of arrays


@pytest.mark.parametrize("form", ["offsets", "lengths", "padded"])
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("uint8", "uint8"), ("int16", "int16"), ("float32", "float32"), ("float64", "float32")],
)
def test_arrays_come_back_as_they_were(tmp_path, form, dtype, stored):
    sequences = made(dtype)
    if form == "offsets":
        layout = {"features": np.concatenate(sequences), "offsets": np.cumsum([0, *LENGTHS])}
    elif form == "lengths":
        layout = {"features": np.concatenate(sequences), "lengths": np.array(LENGTHS)}
    else:
        padded = np.full((len(LENGTHS), max(LENGTHS), WIDTH), 99, dtype)
        for row, sequence in zip(padded, sequences, strict=True):
            row[: len(sequence)] = sequence
        layout = {"features": padded, "lengths": np.array(LENGTHS)}
    np.savez(tmp_path / "x.npz", **arrays(**layout))
    source = prepared(
        "features", tmp_path, name="mine", archive=tmp_path / "x.npz", fields=FIELDS, rate=50
    )
    assert (source.signal.dtype, source.signal.shape, source.signal.rate) == (stored, (WIDTH,), 50)
    assert_holds(source, sequences)
    assert counts(source, "label", "fold") == {
        **{("train", "cat", "1"): 2, ("train", "dog", "2"): 1},
        **{("validation", "dog", "2"): 1, ("test", "cat", "1"): 1, ("test", "dog", "2"): 1},
    }


def test_sequences_of_one_length_need_no_lengths(tmp_path):
    features = np.arange(6 * 2 * WIDTH, dtype=np.uint8).reshape(6, 2, WIDTH)
    np.savez(tmp_path / "x.npz", features=features)
    source = prepared("features", tmp_path, name="mine", archive=tmp_path / "x.npz")
    assert_holds(source, list(features), [f"{i:05d}" for i in range(6)])
    assert not source.fields


def test_splits_by_a_column_override_existing_ones(tmp_path):
    features = np.arange(6)[:, None, None] * np.ones((6, 2, WIDTH))
    np.savez(tmp_path / "x.npz", features=features, **arrays(folds=[1, 2, 3] * 2))
    options = {"fields": FIELDS, "split_by": "folds"}
    source = prepared("features", tmp_path, name="mine", archive=tmp_path / "x.npz", **options)
    assert len(set(counts(source, "fold"))) == 3


def test_sequences_with_the_same_frames_stay_together(tmp_path):
    features = (np.arange(40) % 20)[:, None, None] * np.ones((40, 2, WIDTH))
    np.savez(tmp_path / "x.npz", features=features, label=np.array(["a", "b"] * 20))
    source = prepared("features", tmp_path, name="mine", archive=tmp_path / "x.npz")
    split = dict(
        zip(source.columns["clip"].tolist(), source.columns["split"].tolist(), strict=True)
    )
    assert all(split[f"{i:05d}"] == split[f"{i + 20:05d}"] for i in range(20))
    assert len(set(split.values())) == 3


@pytest.mark.parametrize("ordered", [True, False])
def test_a_manifest_adds_columns(tmp_path, ordered):
    """Matched by name if there are names, otherwise by order."""
    sequences = made()
    layout = {"features": np.concatenate(sequences), "lengths": np.array(LENGTHS)}
    np.savez(tmp_path / "x.npz", **layout, clip=np.array(NAMES))
    order = range(len(NAMES)) if ordered else [3, 1, 0, 5, 4, 2]
    columns = {
        **({} if ordered else {"clip": [NAMES[i] for i in order]}),
        "label": [LABELS[i] for i in order],
        "split": [SPLITS[i] for i in order],
        "same_as": ["" if i != 2 else NAMES[0] for i in order],
    }
    manifest = listed(tmp_path, **columns)
    options = {"archive": tmp_path / "x.npz", "manifest": manifest, "drop": "same_as"}
    source = prepared("features", tmp_path, name="mine", **options)
    kept = [i for i in range(len(NAMES)) if i != 2]
    assert_holds(source, [sequences[i] for i in kept], [NAMES[i] for i in kept])
    found = dict(zip(source.columns["clip"].tolist(), values(source, "label"), strict=True))
    assert found == {NAMES[i]: LABELS[i] for i in kept}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": LABELS[1:]}, "lists 5 sequences, the archive has 6"),
        ({"clip": [*NAMES[1:], "take9"]}, "do not both have take0"),
        ({"clip": [*NAMES, NAMES[0]]}, "lists a sequence twice"),
        ({"split": ["test", *SPLITS[1:]]}, "disagree about split of sequence 0"),
    ],
)
def test_a_manifest_that_contradicts_is_refused(tmp_path, columns, message):
    np.savez(tmp_path / "x.npz", features=np.ones((6, 2, WIDTH)), **arrays())
    refuse(tmp_path, tmp_path / "x.npz", message, manifest=listed(tmp_path, **columns))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({}, 'no array "features"'),
        ({"features": np.ones(6)}, "are neither"),
        ({"features": np.ones((6, 2))}, "are neither"),
        ({"features": np.ones((6, 2)), "lengths": np.array([1.5, 4.5])}, "are neither"),
        ({"features": np.ones((6, 2)), "lengths": np.array([1, 4])}, "do not divide 6 frames"),
        ({"features": np.ones((6, 2)), "offsets": np.array([0, 4, 2, 6])}, "do not divide"),
        ({"features": np.ones((6, 2)), "offsets": np.array([0, -1, 6])}, "do not divide"),
        ({"features": np.ones((2, 3, 2)), "lengths": np.array([1, 4])}, "do not fit features"),
        ({"features": np.full((2, 3, 2), "x")}, "not numbers"),
        (
            {"features": np.ones((2, 3, 2)), "split": np.array(["all", "all"])},
            "cannot name a split",
        ),
    ],
)
def test_arrays_of_other_shapes_are_refused(tmp_path, layout, message):
    np.savez(tmp_path / "x.npz", **layout)
    refuse(tmp_path, tmp_path / "x.npz", message)


def test_a_damaged_file_and_a_missing_one_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.ones((6, 2, WIDTH)))
    content = (tmp_path / "x.npz").read_bytes()
    for end in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "x.npz").write_bytes(content[:end])
        refuse(tmp_path, tmp_path / "x.npz", "cannot be read")
    refuse(tmp_path, tmp_path / "absent.npz", "cannot be read")


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.array([[1], [2, 3]], object))
    refuse(tmp_path, tmp_path / "x.npz", "neither numbers nor text")


def test_columns_that_do_not_exist_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.ones((6, 2, WIDTH)), **arrays())
    for options, message in (
        ({"fields": ["label=target"]}, '"target".*"targets"'),
        ({"fields": ["label=targets:animal"]}, '"animal".*"animals"'),
        ({"fields": ["label=folds:animals"]}, "folds has 2, but animals only 2"),
        ({"split": "part"}, '"part"'),
        ({"drop": "same"}, '"same"'),
    ):
        refuse(tmp_path, tmp_path / "x.npz", message, **options)


def test_bad_sequences_are_named_and_skipped(tmp_path):
    features = np.ones((6, 4, WIDTH))
    features[1, 2, 0], features[2, 0, 1] = np.nan, np.inf
    layout = arrays(features=features, lengths=np.array([4, 4, 4, 0, 2, 4]))
    np.savez(tmp_path / "x.npz", **layout)
    options = {"data_dir": tmp_path / "data", "name": "mine", "archive": tmp_path / "x.npz"}
    builder = Features(**options)
    builder.download_and_prepare()
    assert sorted(builder._ledger.skipped) == [
        *(("take1", "non-finite"), ("take2", "non-finite"), ("take3", "empty"))
    ]
    refuse(tmp_path, tmp_path / "x.npz", "3 of 6 clips cannot be used", on_bad_file="refuse")


# Tables


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_table_has_a_row_for_each_frame(tmp_path, suffix, separator):
    sequences = made()
    rows = [(i, frame) for i, sequence in enumerate(sequences) for frame in sequence.tolist()]
    rows = rows[::2] + rows[1::2]  # sequences interleaved, each in its order
    order = {i: [frame for j, frame in rows if j == i] for i in range(len(LENGTHS))}
    columns = {
        "track": [NAMES[i] for i, _ in rows],
        "number": list(range(len(rows))),
        **{f"mfcc{k}": [frame[k] for _, frame in rows] for k in range(WIDTH)},
        "genre": [LABELS[i] for i, _ in rows],
        "remark": ["good" for _ in rows],
        "Type": [SPLITS[i].title() for i, _ in rows],
    }
    path = tmp_path / f"x.{suffix}"
    path.write_text(table(columns, separator))
    options = {"clip": "track", "fields": ["label=genre"], "split": "Type", "ignore": ["number"]}
    source = prepared("features", tmp_path, name="mine", archive=path, **options)
    assert_holds(source, [np.array(order[i], np.float32) for i in range(len(LENGTHS))])
    assert counts(source, "label")["train", "cat"] == 2


def test_a_table_with_the_usual_columns_needs_no_options(tmp_path):
    columns = {
        "clip": list("aabcd"),
        "x": range(5),
        "label": list("ppqpq"),
        "fold": [1, 1, 2, 1, 2],
    }
    (tmp_path / "x.csv").write_text(table(columns))
    source = prepared("features", tmp_path, name="mine", archive=tmp_path / "x.csv")
    assert_holds(source, [np.float32([[0], [1]]), *np.float32([[[2]], [[3]], [[4]]])], list("abcd"))
    found = zip(
        source.columns["clip"], values(source, "label"), values(source, "fold"), strict=True
    )
    assert sorted(found) == [("a", "p", "1"), ("b", "q", "2"), ("c", "p", "1"), ("d", "q", "2")]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("clip,x\na,1\nb", {}, "line 3: not as many values"),
        ("clip,x\n", {}, "has no rows"),
        ("track,x\na,1\n", {}, 'no column "clip"'),
        ("clip,x\na,1\n", {"ignore": ["y"]}, 'no column "y"'),
        ("clip,x\na,b\n", {}, "no column of numbers"),
        ("clip,x,g\na,1,p\na,2,q\n", {"fields": ["g"]}, 'g of a is "p" and "q"'),
        ("clip,x\na,\n", {}, "a: non-finite"),
    ],
)
def test_a_faulty_table_is_explained(tmp_path, text, options, message):
    (tmp_path / "x.csv").write_text(text)
    refuse(tmp_path, tmp_path / "x.csv", message, **options)


# A file for each sequence


def sphinx(sequence: np.ndarray) -> bytes:
    return sequence.size.to_bytes(4, "big") + sequence.astype(">f4").tobytes()


def numpy_file(sequence: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, sequence)
    return file.getvalue()


@pytest.mark.parametrize(("suffix", "encode"), [("mfc", sphinx), ("npy", numpy_file)])
@pytest.mark.parametrize("packed", [True, False])
def test_a_file_for_each_sequence(tmp_path, suffix, encode, packed):
    sequences = made("int16" if suffix == "npy" else "float32")
    names = [f"feat/{name}.{suffix}" for name in NAMES]
    files = {
        f"top/{name}": encode(sequence) for name, sequence in zip(names, sequences, strict=True)
    }
    archive = write_tar(tmp_path / "x.tar.gz", files) if packed else tmp_path / "x"
    for name, content in {} if packed else files.items():
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        (archive / name).write_bytes(content)
    manifest = listed(tmp_path, path=names, speaker=LABELS, split=SPLITS)
    options = {"archive": archive, "manifest": manifest, "clip": "path", "width": WIDTH}
    source = prepared("features", tmp_path, name="mine", **options)
    assert source.signal.dtype == sequences[0].dtype.name
    assert_holds(source, sequences, names)
    assert counts(source, "speaker")["train", "cat"] == 2


def test_values_that_the_first_file_s_type_cannot_hold_are_not_cut_down(tmp_path):
    whole, more = np.ones((2, WIDTH), np.int16), np.full((2, WIDTH), 0.5, np.float32)
    files = {f"{i}.npy": numpy_file(values) for i, values in enumerate((whole, more, whole))}
    manifest = listed(tmp_path, file=[*files], split=["train", "train", "test"])
    options = {"archive": write_tar(tmp_path / "x.tar.gz", files), "manifest": manifest}
    builder = Features(data_dir=tmp_path / "data", name="mine", **options)
    builder.download_and_prepare()
    assert dict(builder._ledger.skipped) == {
        "1.npy": "float32 values, not int16 as in the first file"
    }


def test_bad_files_are_named_and_skipped(tmp_path):
    good = np.ones((2, WIDTH), np.float32)
    files = {
        "good.npy": numpy_file(good),
        "good.mfc": sphinx(good),
        "cut.npy": numpy_file(good)[:-1],
        "cut.mfc": sphinx(good)[:-4],
        "long.mfc": sphinx(good) + b"more",
        "odd.mfc": sphinx(np.ones(WIDTH + 1)),
        "empty.mfc": sphinx(np.ones(0)),
        "nothing.mfc": b"",
        "flat.npy": numpy_file(np.ones(3)),
        "wide.npy": numpy_file(np.ones((2, WIDTH + 1))),
        "nan.npy": numpy_file(good * np.nan),
    }
    archive = write_tar(tmp_path / "x.tar.gz", files)
    manifest = listed(tmp_path, file=[*files, "gone.npy"], split=["train"] * (len(files) + 1))
    options = {"archive": archive, "manifest": manifest, "width": WIDTH}
    builder = Features(data_dir=tmp_path / "data", name="mine", **options)
    builder.download_and_prepare()
    assert dict(builder._ledger.skipped) == {
        "cut.npy": "damaged",
        "cut.mfc": "truncated",
        "long.mfc": "not frames of 3 values",
        "odd.mfc": "not frames of 3 values",
        "empty.mfc": "empty",
        "nothing.mfc": "empty",
        "flat.npy": "not an array (frames, values)",
        "wide.npy": "frames of 4 values, not 3",
        "nan.npy": "non-finite",
        "gone.npy": "No such file or directory",
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a.npy"]}, 'needs a --manifest with a column "file"'),
        ({"file": ["gone.npy"]}, "has no file gone.npy"),
        ({"file": ["cut.npy"]}, "first file cannot be used: cut.npy: damaged"),
        ({"file": ["a.txt"]}, r"files of features are \.npy or \.mfc"),
    ],
)
def test_an_archive_that_cannot_be_read_is_refused(tmp_path, columns, message):
    archive = write_tar(tmp_path / "x.tar.gz", {"cut.npy": b"\x93NUMPY", "a.txt": b""})
    refuse(tmp_path, archive, message, manifest=listed(tmp_path, **columns))


def kaldi(sequences: dict[str, np.ndarray]) -> bytes:
    """A binary archive of float matrices; https://kaldi-asr.org/doc/io.html."""
    parts = []
    for name, sequence in sequences.items():
        shape = b"".join(b"\4" + length.to_bytes(4, "little") for length in sequence.shape)
        parts.append(f"{name} \0BFM ".encode() + shape + sequence.astype("<f4").tobytes())
    return b"".join(parts)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_kaldi_archive(tmp_path, compressed):
    kaldiio = pytest.importorskip("kaldiio")
    sequences = dict(zip(NAMES, made(), strict=True))
    path = tmp_path / "feats.ark"
    if compressed:
        kaldiio.save_ark(str(path), sequences, compression_method=2)
    else:
        path.write_bytes(kaldi(sequences))
    manifest = listed(tmp_path, clip=NAMES, label=LABELS, split=SPLITS)
    source = prepared("features", tmp_path, name="mine", archive=path, manifest=manifest)
    assert counts(source, "label")["train", "cat"] == 2
    for one, other in zip(source.signals(range(6)), sequences.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1 if compressed else 0)  # of 100 in 8 bits
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refuse(tmp_path, path, "no valid Kaldi archive of matrices")
    path.write_bytes(b"")
    refuse(tmp_path, path, "does not hold matrices")


# Real features


def test_real_spectrograms(tmp_path):
    path = sounds.archive("esc-50-logmel/*.npz")
    options = {"archive": path, "clip": "names", "split_by": "folds"}
    fields = ["label=targets:categories", "fold=folds"]
    source = prepared("features", tmp_path, name="mine", fields=fields, **options)
    with sounds.archive("esc-50-logmel/*.csv").open(newline="") as file:
        truth = {row["filename"]: (row["category"], row["fold"]) for row in csv.DictReader(file)}
    found = zip(values(source, "label"), values(source, "fold"), strict=True)
    assert dict(zip(source.columns["clip"].tolist(), found, strict=True)) == truth


def test_real_cepstra(tmp_path):
    archive, manifest = sounds.archive("an4/*.tar.gz"), sounds.archive("an4/manifest.csv")
    options = {"archive": archive, "manifest": manifest, "clip": "features", "rate": 100}
    source = prepared("features", tmp_path, name="cepstra", **options)
    with manifest.open(newline="") as file:
        truth = {row["features"]: int(row["frames"]) for row in csv.DictReader(file)}
    lengths = source.columns["length"].tolist()
    assert dict(zip(source.columns["clip"].tolist(), lengths, strict=True)) == truth
    assert len(source.fields["speaker"].names) == 84
