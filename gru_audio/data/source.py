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
from gru_audio.data.datasets import BUILDERS
from gru_audio.data.fields import ClassField, Field, Values
from gru_audio.data.signal import Signal
from gru_audio.settings import UserError, nearest

_MOST_COMPRESSED = 1000  # bytes of sound for one of a record file: far more than any real sound


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Clips of one data set, all splits one after another.

    `columns` has one row a clip: 'split' and 'clip' (str), 'length' (int32, steps), and the values
    of each field of `fields`, as `gru_audio.data.fields` has them. `builder` names the class that
    made them. `fingerprint` changes with any value, label or order.

    Picklable, and safe to use from several threads. A process opens the record files at its first
    read. One that was forked after that is refused: ArrayRecord may hang in it.
    """

    name: str
    signal: Signal
    columns: dict[str, Any]
    fields: dict[str, Field]
    fingerprint: str
    records: tuple[tuple[str, int], ...]  # path and number of clips, in the order of the rows
    builder: str = ""

    def __len__(self) -> int:
        return len(self.columns[index.LENGTH])

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order of the rows."""
        names, first = np.unique(self.columns[index.SPLIT], return_index=True)
        return tuple(str(names[i]) for i in np.argsort(first))

    def field(self, name: str) -> Field | None:
        """The field of a name; None for "".

        Raises:
          UserError: there is no such field.
        """
        if name and name not in self.fields:
            raise UserError(
                f'Data set {self.name} has no field "{name}".{nearest(name, self.fields)}'
            )
        return self.fields[name] if name else None

    def values(self, name: str) -> Values:
        """The values of a field, one row a clip; () for ""."""
        return self.columns[name] if self.field(name) else ()

    def known(self, name: str) -> np.ndarray:
        """Which clips have a known value of a field, bool (N,); all of them for ""."""
        field = self.field(name)
        return field.known(self.values(name)) if field else np.ones(len(self), bool)

    def classes(self, name: str, why: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """The class of every clip, int32 (N,), -1 where it is unknown; and the classes' names.

        Args:
          name: of the field.
          why: what needs classes, for the error where the field has none.
        """
        field = self.field(name)
        if not isinstance(field, ClassField):
            raise UserError(
                f'{why} needs a field of classes, and "{name}" of {self.name} has '
                f"{field.plural if field else 'none'}.{self.of_kind(ClassField)}"
            )
        return self.columns[name], field.names

    def of_kind(self, kind: type[Field]) -> str:
        """A sentence on which fields are of a type."""
        names = [name for name, field in self.fields.items() if isinstance(field, kind)]
        return f" It has {kind.plural} in: {', '.join(names) if names else 'no field'}."

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
    signal = _signal(description)
    step = np.dtype(signal.dtype).itemsize * signal.width
    stored = sum(epath.Path(path).stat().length for path, _ in records)
    length = columns[index.LENGTH]
    if length.min(initial=0) < 0 or step * length.sum(dtype=np.int64) > _MOST_COMPRESSED * stored:
        raise ValueError(f"column {index.LENGTH} claims more than there is")
    return Source(
        name=str(description["name"]),
        signal=signal,
        columns=columns,
        fields=index.read_fields(description),
        fingerprint=str(description["fingerprint"]),
        records=records,
        builder=str(dict(description.get("settings", {})).get("builder", "")),
    )


def _signal(description: dict[str, Any]) -> Signal:
    """What the clips are sequences of; data sets of sound need not say more than their rate."""
    told = description.get("signal", {})
    shape = tuple(told.get("shape", ()))
    return Signal(rate=description["sample_rate"], **{**told, "shape": shape})


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
