"""Files that are changed at random, read by the readers of this package, within limits.

    python -m tests.reliability.fuzzing SHARE [SEED]

For each kind of file an original is made, and mutants of it are read. A reader may refuse a mutant
by its own kind of error, read what is in the original, or read something else; the latter not where
a checksum tells the difference. Anything else ends the process: another error, a file outside of
the reader's folder, too much time or memory. In the end it prints a table.

SHARE is how many mutants of each kind are tried, as a multiple of `Kind.count`. The same SEED makes
the same changes.
"""

import dataclasses
import functools
import gzip
import io
import itertools
import lzma
import os
import re
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import kaldiio
import numpy as np
from etils import epath

from gru_audio.audio.io import BadAudio, decode
from gru_audio.audio.normalise import Normalisation
from gru_audio.config import default_config, override
from gru_audio.data import source as sources
from gru_audio.data.datasets import archive, event_lists, feature_files
from gru_audio.data.datasets.polyphonic_music import _read as read_rolls
from gru_audio.data.datasets.tables import read_table
from gru_audio.data.fields import ClassField, Event, EventsField
from gru_audio.data.signal import Signal
from gru_audio.events.formats import audacity, dcase
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from gru_audio.training.checkpoint import Checkpoints, silence
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.program import make_program
from gru_audio.training.step import Weights
from tests.reliability.damage import FORMS, speech
from tests.rolls import made_rolls, write_rolls
from tests.sounds import encode

MEMORY = 2**31  # bytes that all mutants may take beyond what the originals do
SECONDS = 60  # for a mutant, on a machine that is busy
REFUSED, SAME, DIFFERENT = "refused", "same", "different"
HEADS = ("kind of file", "mutants", "refused", "read the same", "read differently")

Read = Callable[[bytes, Path], Any]  # content, an empty folder for what is made of it -> values


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: of the row in the table.
        count: mutants in all.
        original: content of a whole file.
        read: gives what is in a file, as JSON could hold it and arrays.
        is_text: mutants change tokens, too.
        has_checksum: what is read of a mutant must be in the original.
    """

    name: str
    count: int
    original: bytes
    read: Read
    is_text: bool = False
    has_checksum: bool = False


# Mutants


def mutate(rng: np.random.Generator, content: bytes, is_text: bool) -> bytes:
    """The content after one to three random changes; never the same."""
    changes = _BYTES + (_TOKENS if is_text else [])
    for _ in range(100):
        mutant = content
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            mutant = changes[rng.integers(len(changes))](rng, mutant)
        if mutant != content:
            return mutant
    raise AssertionError("nothing changes it")


def _place(rng: np.random.Generator, content: bytes) -> int:
    """Anywhere, but as often in the first or last 200 bytes, where headers are."""
    size = max(1, len(content))
    near = int(rng.integers(min(200, size)))
    return int(rng.choice([rng.integers(size), near, size - 1 - near]))


def _span(rng: np.random.Generator, content: bytes) -> slice:
    at = _place(rng, content)
    return slice(at, at + int(rng.choice([1, 2, 8, 64, 1000])))


def _overwritten(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def _flip(rng: np.random.Generator, content: bytes) -> bytes:
    at = _place(rng, content)
    return _overwritten(content, at, bytes(b ^ 1 << rng.integers(8) for b in content[at : at + 1]))


def _extreme_byte(rng: np.random.Generator, content: bytes) -> bytes:
    return _overwritten(content, _place(rng, content), bytes([rng.choice([0, 1, 127, 128, 255])]))


def _extreme_number(rng: np.random.Generator, content: bytes) -> bytes:
    size = int(rng.choice([2, 4, 8]))
    bits = 8 * size
    value = int(rng.integers(6))
    value = [0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 2 ** (bits - 2)][value]
    order = "little" if rng.random() < 0.7 else "big"
    return _overwritten(content, _place(rng, content), value.to_bytes(size, order))


def _cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def _inserted(rng: np.random.Generator, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + rng.bytes(int(rng.choice([1, 4, 300]))) + content[at:]


def _deleted(rng: np.random.Generator, content: bytes) -> bytes:
    span = _span(rng, content)
    return content[: span.start] + content[span.stop :]


def _doubled(rng: np.random.Generator, content: bytes) -> bytes:
    span = _span(rng, content)
    return content[: span.stop] + content[span.start :]


def _zeroed(rng: np.random.Generator, content: bytes) -> bytes:
    span = _span(rng, content)
    return _overwritten(content, span.start, bytes(len(content[span])))


def _moved(rng: np.random.Generator, content: bytes) -> bytes:
    return _overwritten(content, _place(rng, content), content[_span(rng, content)])


_VALUES = [
    *(b"0", b"-1", b"1e999", b"NaN", b"Infinity", b"-Infinity", b"null", b"true", b"1e15", b"0.5"),
    *(b"9" * 400, b"9" * 5000, b"2147483648", b'"x"', b'""', b"[]", b"{}", b"[" * 50_000, b"\0"),
    *(b'"\\ud800"', b"\xff\xfe", b'"' + b"a" * 200_000 + b'"', "ä\u2028".encode(), b"1e-999"),
]


def _other_value(rng: np.random.Generator, content: bytes) -> bytes:
    """A number or a quoted text becomes something else."""
    found = list(re.finditer(rb'-?\d[\d.e+-]*|"[^"]*"|\w+', content))
    if not found:
        return content + b"x"
    at = found[rng.integers(len(found))]
    return content[: at.start()] + _VALUES[rng.integers(len(_VALUES))] + content[at.end() :]


def _other_mark(rng: np.random.Generator, content: bytes) -> bytes:
    """Something of the syntax is lost or doubled, or becomes something else of it."""
    found = list(re.finditer(rb"[\[\]{}:,;\"\n]", content))
    if not found:
        return content + b'"'
    at = found[rng.integers(len(found))]
    marks = [b"", b",", b'"', b"\n", b"[", b"}", b";", b"\t", at[0] * 2]
    return content[: at.start()] + marks[rng.integers(len(marks))] + content[at.end() :]


_BYTES = [
    *(_flip, _extreme_byte, _extreme_number, _cut, _inserted),
    *(_deleted, _doubled, _zeroed, _moved),
]
_TOKENS = [_other_value] * 5 + [_other_mark] * 3


# Kinds


def archives() -> Iterable[Kind]:
    rng = np.random.default_rng(0)
    files = {f"top/{c}/{i}.wav": rng.bytes(700) for c in ("a", "ö") for i in range(3)}

    def read(content: bytes, folder: Path) -> dict[str, bytes]:
        (folder / "x").write_bytes(content)
        (folder / "unpacked").mkdir()
        root = archive.unpack(folder / "x", folder / "unpacked")
        found = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
        return {name: path.read_bytes() for name, path in found.items()}

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    yield Kind("archive, zip", 250, file.getvalue(), read, has_checksum=True)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    plain = file.getvalue()
    yield Kind("archive, tar", 250, plain, read)
    yield Kind("archive, tar.gz", 150, gzip.compress(plain, mtime=0), read, has_checksum=True)
    yield Kind("archive, tar.xz", 100, lzma.compress(plain), read, has_checksum=True)


def tables() -> Iterable[Kind]:
    rows = [f"a/{i}.wav,{'cat' if i % 2 else 'dog'},{i / 4},{i / 2}" for i in range(12)]
    listed = "\n".join(["file,label,start,end", *rows]).encode()

    def read(content: bytes, folder: Path) -> list[dict[str, str]]:
        (folder / "x.csv").write_bytes(content)
        return [dict(row) for row in read_table(folder / "x.csv", ("file", "label"))]

    yield Kind("manifest, csv", 200, listed, read, is_text=True)
    rows = [f"clip{i // 5},{i},{i / 7:.3f},{'cat' if i < 30 else 'dog'}" for i in range(60)]
    framed = "\n".join(["clip,x,y,label", *rows]).encode()

    def read_frames(content: bytes, folder: Path) -> Any:
        (folder / "x.csv").write_bytes(content)
        usual = ("label",)
        return sequences(feature_files.from_table(folder / "x.csv", "clip", (), usual, ()), folder)

    yield Kind("features, csv", 150, framed, read_frames, is_text=True)


def lists_of_events() -> Iterable[Kind]:
    events = [Event(i / 7, i / 7 + 0.1, "cat" if i % 2 else "barn owl") for i in range(12)]
    of_raven = ["Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies"]
    for i, (on, off, label) in enumerate(events):
        of_raven.append(f"{i}\t{on}\t{off}\tx.wav\t{on}\t{label}")
    contents = {
        "DCASE": dcase({"x.wav": events, "y.wav": ()}),
        "Audacity": audacity(events),
        "Raven": "\n".join(of_raven),
    }

    def read(content: bytes, folder: Path) -> Any:
        (folder / "x.txt").write_bytes(content)
        found, remarks = event_lists.read(folder / "x.txt", ["x.wav", "y.wav"])
        return {name: EventsField.clean(of_name) for name, of_name in found.items()}, remarks

    for name, content in contents.items():
        yield Kind(f"events, {name}", 100, content.encode(), read, is_text=True)


def sequences(found: feature_files.Sequences, folder: Path) -> Any:
    """Rows, names and values of all sequences that can be used."""
    values = [
        feature_files.check(found.read(i, folder), found.width, str(i))
        for i in range(len(found.rows))
    ]
    return [dict(row) for row in found.rows], dict(found.names), values


def features() -> Iterable[Kind]:
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(40, 5)).astype(np.float32)

    def of_file(read: Callable[[Path], feature_files.Sequences], suffix: str) -> Read:
        def reader(content: bytes, folder: Path) -> Any:
            (folder / f"x{suffix}").write_bytes(content)
            return sequences(read(folder / f"x{suffix}"), folder)

        return reader

    file = io.BytesIO()
    columns = {"label": np.array(["cat", "dog"]), "lengths": np.array([15, 25])}
    np.savez_compressed(file, features=frames, **columns)
    npz = of_file(feature_files.from_npz, ".npz")
    yield Kind("features, npz", 200, file.getvalue(), npz, has_checksum=True)

    def read_npy(content: bytes, folder: Path) -> Any:
        (folder / "x.npy").write_bytes(content)
        return sequences(feature_files.from_files(folder, [{"file": "x.npy"}], "file", 5), folder)

    file = io.BytesIO()
    np.save(file, frames)
    yield Kind("features, npy", 150, file.getvalue(), read_npy)

    for method, count in ((None, 150), (2, 100)):
        with tempfile.NamedTemporaryFile() as saved:
            kaldiio.save_ark(
                saved.name, {"one": frames[:15], "two": frames[15:]}, compression_method=method
            )
            content = Path(saved.name).read_bytes()
        name = "features, Kaldi" + (" compressed" if method else "")
        yield Kind(name, count, content, of_file(feature_files.from_kaldi, ".ark"))

    def read_mat(content: bytes, folder: Path) -> Any:
        (folder / "x.mat").write_bytes(content)
        return read_rolls(folder / "x.mat")

    rolls = {split: pieces[:3] for split, pieces in made_rolls().items()}
    with tempfile.TemporaryDirectory() as place:
        write_rolls(Path(place) / "x.mat", rolls, True)
        content = (Path(place) / "x.mat").read_bytes()
    yield Kind("piano rolls, mat", 150, content, read_mat, has_checksum=True)


def sounds() -> Iterable[Kind]:
    """Each container, with a seconds' part of something like speech."""
    waveform = speech(np.random.default_rng(0), 0.3, 16000)

    def read(content: bytes, folder: Path, ending: str) -> Any:
        (folder / f"x.{ending}").write_bytes(content)
        return decode(folder / f"x.{ending}", 16000).samples

    for form, subtype, ending in FORMS:
        if subtype in ("PCM_U8", "PCM_16", "FLOAT", "VORBIS", "OPUS", "MPEG_LAYER_III"):
            content = encode(waveform, 16000, form, subtype)
            name = f"sound, {form} {subtype.split('_')[-1]}"
            yield Kind(name, 40, content, functools.partial(read, ending=ending))


def models() -> Iterable[Kind]:
    config = override(default_config(), {"model.hidden": 4, "frontend.mels": 8})
    signal_, field = Signal(8000), ClassField(("a", "b"))
    program = make_program(config, signal_, field)
    feature = jax.ShapeDtypeStruct((8,), np.float32)
    hyper = {name: column[0] for name, column in hyperparameters([config]).items()}
    shapes = jax.eval_shape(
        program.init, np.uint32(0), hyper, Normalisation(feature, feature)
    ).weights
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    normalisation = Normalisation(np.ones(8, np.float32), np.ones(8, np.float32))
    trained = TrainedModel(
        config,
        field,
        signal_,
        4096,
        Weights(weights.params, weights.model_state),
        normalisation,
        {"run": "one"},
    )
    with tempfile.TemporaryDirectory() as place:
        trained.save(epath.Path(place))
        files = {path.name: path.read_bytes() for path in Path(place).iterdir()}

    def read(content: bytes, folder: Path, name: str) -> Any:
        for other, whole in files.items():
            (folder / other).write_bytes(content if other == name else whole)
        found = TrainedModel.load(epath.Path(folder))
        described = [str(found.config), str(found.field), str(found.signal), found.longest]
        return described, jax.tree.leaves((found.weights.params, found.normalisation))

    described = functools.partial(read, name="model.json")
    yield Kind("model, json", 200, files["model.json"], described, is_text=True)
    arrays = functools.partial(read, name="arrays.npz")
    yield Kind("model, arrays", 120, files["arrays.npz"], arrays, has_checksum=True)


def data_sets() -> Iterable[Kind]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "x.npz"
        columns = {"label": ["a", "b"] * 6, "kinds": ["x+y", "none", ""] * 4, "age": [1, 2] * 6}
        arrays = {name: np.array(column) for name, column in columns.items()}
        np.savez(path, features=rng.normal(size=(12, 9, 5)), **arrays)
        events = Path(place) / "events.csv"
        events.write_text("file,onset,offset,label\n00000,0,1,x\n00000,0.5,2,y\n00001,,,\n")
        typed = {"tags": ["kinds"], "text": ["words=kinds"], "numbers": ["age"], "events": events}
        prepare("features", place, name="mine", archive=path, fractions=[1, 0, 0], **typed)
        (folder,) = (Path(place) / "mine").glob("[0-9]*")
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    (records,) = (name for name in files if ".array_record" in name)

    def read(content: bytes, folder: Path, name: str) -> Any:
        place = folder / "mine" / "1.0.0"
        place.mkdir(parents=True)
        for other, whole in files.items():
            (place / other).write_bytes(content if other == name else whole)
        sources._open_records.cache_clear()
        found = sources.open_source("mine", folder)
        columns = jax.tree.map(np.ndarray.tolist, found.columns)
        about = (str(found.fields), str(found.signal), columns)
        return about, found.signals(range(len(found)))

    described = functools.partial(read, name="source.json")
    yield Kind("data set, json", 200, files["source.json"], described, is_text=True)
    columns = functools.partial(read, name="columns.npz")
    yield Kind("data set, columns", 120, files["columns.npz"], columns, has_checksum=True)
    size = len(files[records])

    def recorded(content: bytes, folder: Path) -> Any:
        return read(content.ljust(size, b"\0"), folder, records)

    filled = files[records].rstrip(b"\0")  # zeros follow, to the end of a block
    yield Kind("data set, records", 150, filled, recorded, has_checksum=True)


def checkpoints() -> Iterable[Kind]:
    silence()
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 50)).astype(np.float32)
    state = {"weights": {"kernel": kernel}, "step": np.full(2, 7, np.int32)}
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    with tempfile.TemporaryDirectory() as place:
        checkpoints = Checkpoints(epath.Path(place) / "saved", 1, print)
        checkpoints.save(7, state, {"best": 0.5})
        checkpoints.close()
        root = Path(place) / "saved"
        files = {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    def read(content: bytes, folder: Path, name: Path) -> Any:
        for other, whole in files.items():
            path = folder / "saved" / other
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if other == name else whole)
        said: list[str] = []
        checkpoints = Checkpoints(epath.Path(folder) / "saved", 1, said.append)
        try:
            found = checkpoints.restore(abstract)
        finally:
            checkpoints.close()
        if found is None:
            raise UserError("; ".join(said))
        return jax.tree.leaves(found[0]), found[1]

    for name, content in sorted(files.items()):
        if content:
            reader = functools.partial(read, name=name)
            is_text = content[:1] == b"{"
            yield Kind("checkpoint", 30, content, reader, is_text, has_checksum=True)


GROUPS: tuple[Callable[[], Iterable[Kind]], ...] = (
    *(archives, tables, lists_of_events, features, sounds, models, data_sets, checkpoints),
)


# Trying


def fingerprint(value: Any) -> Any:
    """A value that compares equal for equal contents."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, zlib.crc32(np.ascontiguousarray(value).tobytes())
    if isinstance(value, Mapping):
        return sorted((str(key), fingerprint(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return [fingerprint(inner) for inner in value]
    return repr(value)


def beside(folder: Path) -> dict[str, int]:
    """Names and sizes of what lies beside a folder, and in the working directory."""
    places = [folder.parent, Path.cwd()]
    return {
        str(path): path.lstat().st_size
        for path in itertools.chain.from_iterable(place.iterdir() for place in places)
        if path != folder and path.is_file()
    }


def outcome(kind: Kind, content: bytes, expected: Any, home: Path) -> str:
    """What comes of a mutant."""
    folder = Path(tempfile.mkdtemp(dir=home))
    before = beside(folder)
    signal.alarm(SECONDS)
    try:
        found = fingerprint(kind.read(content, folder))
    except (UserError, BadAudio) as error:
        assert str(error), "a refusal without a reason"
        return REFUSED
    finally:
        signal.alarm(0)
        others = beside(folder).items() ^ before.items()
        assert not others, f"files outside of its folder: {others}"
        shutil.rmtree(folder)
    return SAME if found == expected else DIFFERENT


def main(share: float, seed: int) -> None:
    """Tries mutants of all kinds, and prints how many came to what."""
    warnings.simplefilter("ignore")  # NumPy and zipfile warn of what they then refuse
    jax.config.update("jax_platforms", "cpu")
    rows: dict[str, Counter] = {}
    with tempfile.TemporaryDirectory() as place:
        home, working = Path(place) / "home", Path(place) / "working"
        home.mkdir()
        working.mkdir()
        os.chdir(working)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 3 * MEMORY  # threads take addresses, not memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for kind in itertools.chain.from_iterable(group() for group in GROUPS):
            rows.setdefault(kind.name, Counter()).update(tried(kind, share, seed, home))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            assert peak - used < MEMORY, f"{kind.name} took {(peak - used) / 1e9:.1f} GB"
        os.chdir("/")
    print(f"| {' | '.join(HEADS)} |")
    print("|---|" + "---:|" * (len(HEADS) - 1))
    for name, row in rows.items():
        counts = (sum(row.values()), row[REFUSED], row[SAME], row[DIFFERENT])
        print(f"| {name} | {' | '.join(map(str, counts))} |")


def tried(kind: Kind, share: float, seed: int, home: Path) -> Counter:
    """How many mutants of a kind came to what; ends the process where one may not."""
    rng = np.random.default_rng((seed, zlib.crc32(kind.name.encode())))
    whole = Path(tempfile.mkdtemp(dir=home))
    expected = fingerprint(kind.read(kind.original, whole))
    shutil.rmtree(whole)
    row: Counter = Counter()
    for number in range(max(1, round(share * kind.count))):
        mutant = mutate(rng, kind.original, kind.is_text)
        try:
            came = outcome(kind, mutant, expected, home)
            assert came != DIFFERENT or not kind.has_checksum, "another content was read"
        except BaseException:
            with tempfile.NamedTemporaryFile(delete=False) as file:
                file.write(mutant)
            print(f"{kind.name}, mutant {number} of seed {seed}, {file.name}:", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # whatever hangs
        row[came] += 1
    return row


if __name__ == "__main__":
    part, *rest = sys.argv[1:]
    main(float(part), int(rest[0]) if rest else 0)
