"""A prepared data set: its columns in memory, its clips by random access.

Reads ArrayRecord files and `tf.Example` messages directly. TFDS's own `builder_from_directory`
would import whatever Python class a data set's files name, and data should never choose code.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from gru_audio.data import index
from gru_audio.data.builders import BUILDERS
from gru_audio.data.signal import Signal
from gru_audio.settings import UserError, nearest

_MOST_COMPRESSED = 1000  # bytes of sound for one of a record file: far more than any real sound


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Clips of one data set, all splits one after another.

    `columns` has one row a clip: 'split' and 'clip' (str), 'length' (int32, steps), and an int32
    column for each class field, whose values index into `class_names[field]` (-1: unknown).
    `fingerprint` changes with any value, label or order.

    Picklable, and safe to use from several threads. A process opens the record files at its first
    read. One that was forked after that is refused: ArrayRecord may hang in it.
    """

    name: str
    signal: Signal
    columns: dict[str, np.ndarray]
    class_names: dict[str, tuple[str, ...]]
    fingerprint: str
    records: tuple[tuple[str, int], ...]  # path and number of clips, in the order of the rows

    def __len__(self) -> int:
        return len(self.columns[index.LENGTH])

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order of the rows."""
        names, first = np.unique(self.columns[index.SPLIT], return_index=True)
        return tuple(str(names[i]) for i in np.argsort(first))

    def signals(self, ids: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """The samples (length,) or frames (length, features) of the clips `ids`, in that order."""
        reader, opener = self._reader()
        if opener != os.getpid():
            raise RuntimeError(
                f"{self.name} was read before this process was forked, which ArrayRecord does not "
                'survive: start processes by "spawn".'
            )
        return [self._clip(reader, int(i)) for i in ids]

    def _reader(self) -> tuple[ArrayRecordDataSource, int]:
        try:
            return _open_records(self.records, self.fingerprint)
        except Exception as error:  # ArrayRecord raises what comes
            raise UserError(
                f"The records of {self.name} cannot be read ({_first_line(error)}): prepare the "
                "data set again."
            ) from error

    def _clip(self, reader: ArrayRecordDataSource, i: int) -> np.ndarray:
        try:
            clip = self._decode(reader[i])
            if len(clip) == self.columns[index.LENGTH][i]:
                return clip
            reason = "another length"
        except Exception as error:  # ArrayRecord and protobuf raise what comes
            reason = _first_line(error)
        raise UserError(
            f"Clip {i} of {self.name} is damaged ({reason}): prepare the data set again."
        )

    def _decode(self, record: bytes) -> np.ndarray:
        example = tf_example_pb2.Example.FromString(record)
        values = example.features.feature[self.signal.feature].bytes_list.value[0]
        stored = np.dtype(self.signal.dtype).newbyteorder("<")
        return np.frombuffer(values, stored).reshape(-1, *self.signal.shape)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def open_source(name: str, data_dir: epath.PathLike | None = None) -> Source:
    """Opens the newest prepared version of a data set.

    Raises:
      UserError: it is not prepared in `data_dir`; says which command prepares it.
    """
    data_dir = epath.Path(data_dir) if data_dir else default_data_dir()
    versions = index.versions(data_dir, name)
    if not versions:
        raise UserError(_how_to_prepare(name, data_dir))
    folder = versions[-1].resolve()  # so that a worker may have another working directory
    try:
        return _read(folder)
    except Exception as error:  # a crafted description fails wherever it is first believed
        reason = (str(error) or type(error).__name__).rstrip(".")
        raise UserError(
            f"The data set in {folder} cannot be used: {reason}. Prepare it again, by the same "
            "command with --overwrite."
        ) from error


def _read(folder: epath.Path) -> Source:
    """The data set in a folder; raises `ValueError` and others for what cannot be one."""
    description = index.read_description(folder)
    records = tuple(
        (str(folder / epath.Path(file).name), int(count)) for file, count in description["records"]
    )
    if min((count for _, count in records), default=0) < 0:
        raise ValueError("a record file holds fewer than no clips")
    index.check_records(folder)
    columns = index.read_columns(folder)
    class_names = {field: tuple(names) for field, names in description["class_names"].items()}
    signal = _signal(description)
    step = np.dtype(signal.dtype).itemsize * signal.width
    stored = sum(epath.Path(path).stat().length for path, _ in records)
    _check_columns(columns, class_names, step, stored)
    return Source(
        name=str(description["name"]),
        signal=signal,
        columns=columns,
        class_names=class_names,
        fingerprint=str(description["fingerprint"]),
        records=records,
    )


def _signal(description: dict[str, Any]) -> Signal:
    """What the clips are sequences of; data sets of sound need not say more than their rate."""
    told = description.get("signal", {})
    shape = tuple(told.get("shape", ()))
    return Signal(rate=description["sample_rate"], **{**told, "shape": shape})


def _check_columns(
    columns: dict[str, np.ndarray],
    class_names: dict[str, tuple[str, ...]],
    step: int,
    stored: int,
) -> None:
    """Raises `ValueError` for lengths, of `step` bytes each, and classes that cannot be.

    `stored` is how many bytes the clips take on disk.
    """
    length = columns[index.LENGTH]
    for name in (index.LENGTH, *class_names):
        if columns[name].dtype.kind != "i":
            raise ValueError(f"column {name} holds no numbers")
    if length.min(initial=0) < 0 or step * length.sum(dtype=np.int64) > _MOST_COMPRESSED * stored:
        raise ValueError(f"column {index.LENGTH} claims more than there is")
    for name, names in class_names.items():
        if not ((columns[name] >= -1) & (columns[name] < len(names))).all():
            raise ValueError(f"column {name} names classes that do not exist")


def default_data_dir() -> epath.Path:
    """Where data sets are prepared: $GRU_AUDIO_DATA, else ~/.cache/gru_audio/data."""
    return epath.Path(os.environ.get("GRU_AUDIO_DATA") or "~/.cache/gru_audio/data").expanduser()


@functools.lru_cache(maxsize=8)
def _open_records(
    records: tuple[tuple[str, int], ...], fingerprint: str
) -> tuple[ArrayRecordDataSource, int]:
    """All files of a data set, opened now, and the process that did.

    The fingerprint tells a data set from one it has replaced.
    """
    # Without ArrayRecord's pool of threads: one clip needs none.
    reader = ArrayRecordDataSource(
        [f"{path}[0:{count}]" for path, count in records], {"max_parallelism": "0"}
    )
    for first in itertools.accumulate((count for _, count in records[:-1]), initial=0):
        reader[first]
    return reader, os.getpid()


def _how_to_prepare(name: str, data_dir: epath.Path) -> str:
    command = "python -m gru_audio.prepare"
    of_catalogue, recipe = name.startswith("tfds_"), name.replace("tfds_", "tfds:", 1)
    if name in BUILDERS or of_catalogue:
        return (
            f"Data set {name} is not prepared in {data_dir}. "
            f"Run: {command} {recipe} --data_dir {data_dir}"
        )
    known = {*BUILDERS, *index.prepared(data_dir)}
    return (
        f'There is no data set "{name}" in {data_dir}.{nearest(name, known)} '
        f"To prepare your own sounds: {command} folder --name {name} --folder DIR "
        f"--data_dir {data_dir}"
    )
