"""Readers of files with precomputed features.

One file may hold all sequences: NumPy `.npz`, a table (`.csv`, `.tsv`) with one row per frame, or a
Kaldi archive (`.ark`). Or a manifest lists one file per sequence: NumPy `.npy` or Sphinx `.mfc`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gru_audio.audio.containers import DAMAGED, EMPTY, NON_FINITE, TRUNCATED
from gru_audio.audio.io import BadAudio
from gru_audio.data import npz
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets import kaldi
from gru_audio.data.datasets.tables import Row, read_cells
from gru_audio.files import read_bytes
from gru_audio.settings import UserError, nearest

SPHINX, NUMPY = ".mfc", ".npy"
NPZ, KALDI = ".npz", ".ark"
TABLES = {".csv": ",;", ".tsv": "\t"}
OF_ALL = (NPZ, KALDI, *TABLES)  # files that hold all sequences

_TRIED = 10  # the first usable one of so many files sets the dtype
_STORED = ("uint8", "int16", "float32")  # other dtypes become float32


@dataclass(frozen=True)
class Sequences:
    """Sequences of frames.

    Attributes:
      rows: the columns that describe each sequence.
      names: arrays of class names by array name; a column of `rows` may have indices into one.
      width: values per frame.
      dtype: the dtype of the values.
      read: reads sequence i, (frames, width), given the folder of unpacked files; raises `BadAudio`
        or `OSError`.
    """

    rows: Sequence[Row]
    names: Mapping[str, Sequence[str]]
    width: int
    dtype: str
    read: Callable[[int, Path], np.ndarray]


def from_npz(path: Path) -> Sequences:
    """Reads an `.npz` with `features` (N, T, F) or (frames, F).

    (N, T, F) may come with `lengths` (N,). (frames, F) comes with `lengths` (N,) or with `offsets`
    (N + 1,), the boundaries of the sequences. Each other array of N values is a column. An array of
    text may hold the class names for a column of indices.

    Raises:
      UserError: there is no such file, it is damaged, or an array has the wrong shape.
    """
    try:
        arrays = npz.decode(read_bytes(path))
    except (OSError, npz.BadArrays) as error:
        raise UserError(f"{path} cannot be read as .npz: {error}") from error
    features = arrays.pop("features", None)
    if features is None:
        hint = f"it has {', '.join(arrays)}" if arrays else "it is empty"
        raise UserError(f'{path} has no array "features": {hint}.')
    if features.dtype.kind not in "biuf":
        raise UserError(f"{path}: features are {features.dtype}, not numbers.")
    parts = _parts(features, arrays.pop("offsets", None), arrays.pop("lengths", None), path)
    flat = {name: array for name, array in arrays.items() if array.ndim == 1}
    texts = {
        name: [str(value) for value in array.tolist()]
        for name, array in flat.items()
        if len(array) == len(parts) or array.dtype.kind == "U"  # skips long arrays of numbers
    }
    columns = {name: values for name, values in texts.items() if len(values) == len(parts)}
    dtype = _stored(features.dtype)
    return Sequences(
        rows=[{name: columns[name][i] for name in columns} for i in range(len(parts))],
        names={name: values for name, values in texts.items() if flat[name].dtype.kind == "U"},
        width=features.shape[-1],
        dtype=dtype,
        read=lambda i, _: _floats(parts[i]) if dtype == "float32" else parts[i],
    )


def from_table(
    path: Path,
    clip: str,
    columns: Collection[str],
    usual: Collection[str],
    ignore: Collection[str],
) -> Sequences:
    """Reads a table with one row per frame, in order.

    Args:
      path: the table.
      clip: the column with the name of the sequence.
      columns: columns that describe sequences; each has one value per sequence.
      usual: further such columns, if the table has them.
      ignore: columns of numbers that are not features. All other columns of numbers are features.

    Raises:
      UserError: there is no such file or column, or a sequence has two values in one of `columns`.
    """
    cells = _cells(path)
    for column in (clip, *columns, *ignore):
        if column not in cells:
            raise UserError(f'{path} has no column "{column}".{nearest(column, cells)}')
    columns = dict.fromkeys([*columns, *(column for column in usual if column in cells)])
    numbers = {
        column: floats
        for column in cells
        if column not in (clip, *columns, *ignore)
        and (floats := _numbers(cells[column])) is not None
    }
    if not numbers:
        raise UserError(f"{path} has no column of numbers to take as features.")
    frames = np.stack(list(numbers.values()), axis=1)
    places: dict[str, list[int]] = {}
    for i, name in enumerate(cells[clip]):
        places.setdefault(name, []).append(i)
    parts = list(places.values())
    for column in columns:
        for name, part in places.items():
            found = sorted({cells[column][i] for i in part})
            if len(found) > 1:
                raise UserError(f'{path}: {column} of {name} is "{found[0]}" and "{found[1]}".')
    return Sequences(
        rows=[{column: cells[column][part[0]] for column in (clip, *columns)} for part in parts],
        names={},
        width=frames.shape[1],
        dtype="float32",
        read=lambda i, _: frames[parts[i]],
    )


def from_kaldi(path: Path) -> Sequences:
    """Reads a Kaldi archive, plain or compressed; the column `clip` has the key of each matrix.

    Raises:
      UserError: there is no such file, it is damaged, or it holds something else than matrices.
    """
    try:
        matrices = kaldi.parse(read_bytes(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no valid Kaldi archive of matrices: {error}") from error
    if not matrices:
        raise UserError(f"{path} does not hold matrices of features.")
    parts = list(matrices.values())
    return Sequences(
        rows=[{"clip": name} for name in matrices],
        names={},
        width=parts[0].columns,
        dtype="float32",
        read=lambda i, _: _floats(parts[i].read()),
    )


def from_files(archive: Path, rows: Sequence[Row], file: str, width: int) -> Sequences:
    """Reads one file per row, `.npy` (T, F) or `.mfc`.

    The first usable file sets the dtype of all.

    Args:
      archive: a folder, tar or zip with the files.
      rows: the rows of the manifest.
      file: the column with the paths in the archive.
      width: values per frame of `.mfc`, which does not store it.

    Raises:
      UserError: the first files are missing or damaged, or have an unknown format.
    """
    names = [row[file] for row in rows]
    dtype = "float32"
    if Path(names[0]).suffix == NUMPY:
        sequence = _first_usable(archive, names[:_TRIED])
        width, dtype = sequence.shape[1], _stored(sequence.dtype)
    elif Path(names[0]).suffix != SPHINX:
        raise UserError(f"{names[0]}: files of features are {NUMPY} or {SPHINX}.")

    def read(i: int, root: Path) -> np.ndarray:
        name = names[i]
        content = read_bytes(root / name)
        if Path(name).suffix == SPHINX:
            return _from_sphinx(content, name, width)
        values = _from_numpy(content, name)
        if not np.can_cast(values.dtype, dtype, "same_kind" if dtype == "float32" else "safe"):
            raise BadAudio(name, f"{values.dtype} values, not {dtype} as in the first file")
        return _floats(values) if dtype == "float32" else values.astype(dtype)

    return Sequences(rows=rows, names={}, width=width, dtype=dtype, read=read)


def _first_usable(archive: Path, names: Sequence[str]) -> np.ndarray:
    """Returns the first usable one of these `.npy` files; raises `UserError` if there is none."""
    first: Exception | None = None
    for name in names:
        try:
            return _from_numpy(archives.member(archive, name), name)
        except (BadAudio, UserError) as error:
            first = first or error
    raise UserError(f"The first file cannot be used: {first}") from first


def check(frames: np.ndarray, width: int, name: str) -> np.ndarray:
    """Returns the frames (T, width); raises `BadAudio` unless T > 0 and all values are finite."""
    if not len(frames):
        raise BadAudio(name, EMPTY)
    if frames.shape[1] != width:
        raise BadAudio(name, f"frames of {frames.shape[1]} values, not {width}")
    if not np.isfinite(frames).all():
        raise BadAudio(name, NON_FINITE)
    return frames


def _parts(
    features: np.ndarray, offsets: np.ndarray | None, lengths: np.ndarray | None, path: Path
) -> list[np.ndarray]:
    """Splits the features into sequences (T, F)."""
    if features.ndim == 3:
        ends = np.full(len(features), features.shape[1]) if lengths is None else lengths
        if ends.shape != features.shape[:1] or not _between(ends, features.shape[1]):
            raise UserError(f"{path}: the lengths do not fit features {features.shape}.")
        return [sequence[:end] for sequence, end in zip(features, ends, strict=True)]
    if offsets is None and lengths is not None and lengths.dtype.kind in "iu":
        offsets = np.append(0, np.cumsum(lengths, dtype=np.int64))
    if features.ndim != 2 or offsets is None:
        raise UserError(
            f"{path}: features {features.shape} are neither (sequences, frames, values) nor "
            '(frames, values) with an array of whole numbers "offsets" or "lengths".'
        )
    valid = offsets.ndim == 1 and len(offsets) > 1 and _between(offsets, len(features))
    if not valid or offsets[0] != 0 or offsets[-1] != len(features) or (np.diff(offsets) < 0).any():
        raise UserError(f"{path}: the offsets or lengths do not divide {len(features)} frames.")
    return np.split(features, offsets[1:-1])


def _between(places: np.ndarray, last: int) -> bool:
    return places.dtype.kind in "iu" and bool(((places >= 0) & (places <= last)).all())


def _stored(dtype: np.dtype) -> str:
    return dtype.name if dtype.name in _STORED else _STORED[-1]


def _cells(path: Path) -> dict[str, list[str]]:
    """Reads the columns of a table."""
    header, rows = read_cells(path, delimiters=TABLES[path.suffix])
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Converts cells to float32, NaN for empty cells; None if a cell is text."""
    try:
        return _floats(np.array([cell or "nan" for cell in cells], np.float64))
    except ValueError:
        return None


def _floats(values: np.ndarray) -> np.ndarray:
    """Converts to float32; larger values become infinite, which `check` refuses."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)


def _from_sphinx(content: bytes, name: str, width: int) -> np.ndarray:
    """Parses Sphinx features: the number of values, then the values; big-endian, 4 bytes each."""
    values = np.frombuffer(content[4 : len(content) // 4 * 4], ">f4")
    promised = int.from_bytes(content[:4], "big")
    if len(values) < promised:
        raise BadAudio(name, TRUNCATED)
    if len(values) > promised or promised % width:
        raise BadAudio(name, f"not frames of {width} values")
    return values.astype(np.float32).reshape(-1, width)


def _from_numpy(content: bytes, name: str) -> np.ndarray:
    try:
        values = npz.decode_npy(content)
    except npz.BadArrays as error:
        raise BadAudio(name, DAMAGED) from error
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise BadAudio(name, "not an array (frames, values)")
    return values
