"""Opens a prepared data set: columns in memory, clips by random access.

Reads ArrayRecord files and `tf.Example` messages directly. TFDS's `builder_from_directory` imports
the Python class that the data set's files name, which would let data choose code to run.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from gru_audio.data import index
from gru_audio.data.datasets import BUILDERS
from gru_audio.data.fields import ClassField, Field, Values
from gru_audio.data.signal import Signal
from gru_audio.settings import UserError, nearest

if TYPE_CHECKING:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

_MOST_COMPRESSED = 1000  # bytes of signal per byte of record file: far above any real signal


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The clips of one prepared data set, with its splits one after another.

    It can be pickled, and several threads may use it. A process opens the record files at its first
    read. Reads in a process that was forked after that are refused, since ArrayRecord may hang.

    Attributes:
      name: the name of the data set.
      signal: the kind of sequence.
      columns: arrays with one row per clip: "split" and "clip" (str), "length" (int32, steps), and
        the values of each field; see `gru_audio.data.fields`.
      fields: the label fields by name.
      fingerprint: a hash of all values, labels and their order.
      records: path and number of clips of each record file, in the order of the rows.
      builder: the name of the builder class.
      licence: the licence of the data, as their source states it.
    """

    name: str
    signal: Signal
    columns: dict[str, Any]
    fields: dict[str, Field]
    fingerprint: str
    records: tuple[tuple[str, int], ...]
    builder: str = ""
    licence: str = index.UNKNOWN_LICENCE

    def __len__(self) -> int:
        return len(self.columns[index.LENGTH])

    def splits(self) -> tuple[str, ...]:
        """Returns the names of the splits, in the order of the rows."""
        names, first = np.unique(self.columns[index.SPLIT], return_index=True)
        return tuple(str(names[i]) for i in np.argsort(first))

    def field(self, name: str) -> Field | None:
        """Returns the field of a name; None for "".

        Raises:
          UserError: there is no such field.
        """
        if name and name not in self.fields:
            raise UserError(
                f'Data set {self.name} has no field "{name}".{nearest(name, self.fields)}'
            )
        return self.fields[name] if name else None

    def values(self, name: str) -> Values:
        """Returns the values of a field, one row per clip; () for ""."""
        return self.columns[name] if self.field(name) else ()

    def known(self, name: str) -> np.ndarray:
        """Returns whether each clip has a known value of a field, bool (N,); all True for ""."""
        field = self.field(name)
        return field.known(self.values(name)) if field else np.ones(len(self), bool)

    def classes(self, name: str, why: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Returns the class index of every clip, int32 (N,), -1: unknown; and the class names.

        Args:
          name: the name of the field.
          why: what needs the classes, for the error message.

        Raises:
          UserError: there is no such field, or its values are not classes.
        """
        field = self.field(name)
        if not isinstance(field, ClassField):
            raise UserError(
                f'{why} needs a field of classes, and "{name}" of {self.name} has '
                f"{field.plural if field else 'none'}.{self.of_kind(ClassField)}"
            )
        return self.columns[name], field.names

    def of_kind(self, kind: type[Field]) -> str:
        """Returns a sentence that lists the fields of a type."""
        names = [name for name, field in self.fields.items() if isinstance(field, kind)]
        return f" It has {kind.plural} in: {', '.join(names) if names else 'no field'}."

    def signals(self, ids: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Reads the samples (length,) or frames (length, features) of the clips `ids`, in order.

        Raises:
          UserError: the records cannot be read, or a clip is damaged.
          RuntimeError: the process was forked after the record files were opened.
        """
        reader, opener = self._reader()
        if opener != os.getpid():
            raise RuntimeError(
                f"{self.name} was read before this process was forked, which ArrayRecord does not "
                'support: start processes by "spawn".'
            )
        return [self._clip(reader, int(i)) for i in ids]

    def _reader(self) -> tuple["ArrayRecordDataSource", int]:
        try:
            return _open_records(self.records, self.fingerprint)
        except Exception as error:  # ArrayRecord raises errors of many kinds
            raise UserError(
                f"The records of {self.name} cannot be read ({_first_line(error)}): prepare the "
                "data set again."
            ) from error

    def _clip(self, reader: "ArrayRecordDataSource", i: int) -> np.ndarray:
        try:
            clip = self._decode(reader[i])
            if len(clip) == self.columns[index.LENGTH][i]:
                return clip
            reason = "wrong length"
        except Exception as error:  # ArrayRecord and protobuf raise errors of many kinds
            reason = _first_line(error)
        raise UserError(
            f"Clip {i} of {self.name} is damaged ({reason}): prepare the data set again."
        )

    def _decode(self, record: bytes) -> np.ndarray:
        # Experiments import this module: an error in a config does not wait for TFDS.
        from tensorflow_datasets.proto import tf_example_pb2

        example = tf_example_pb2.Example.FromString(record)
        values = example.features.feature[self.signal.feature].bytes_list.value[0]
        stored = np.dtype(self.signal.dtype).newbyteorder("<")
        return np.frombuffer(values, stored).reshape(-1, *self.signal.shape)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def open_source(name: str, data_dir: epath.PathLike | None = None) -> Source:
    """Opens the newest prepared version of a data set.

    Args:
      name: the name of the data set.
      data_dir: the folder of prepared data sets; None: `default_data_dir()`.

    Raises:
      UserError: the data set is damaged, or not prepared in `data_dir`; the message then gives the
        command that prepares it.
    """
    data_dir = epath.Path(data_dir) if data_dir else default_data_dir()
    versions = index.versions(data_dir, name)
    if not versions:
        raise UserError(_how_to_prepare(name, data_dir))
    folder = versions[-1].resolve()  # workers may have another working directory
    try:
        return _read(folder)
    except Exception as error:  # a crafted description can fail anywhere
        reason = (str(error) or type(error).__name__).rstrip(".")
        raise UserError(
            f"The data set in {folder} cannot be used: {reason}. Prepare it again, with the same "
            "command and --overwrite."
        ) from error


def _read(folder: epath.Path) -> Source:
    """Opens the data set in a folder; raises errors of several kinds if it is damaged."""
    description = index.read_description(folder)
    records = tuple(
        (str(folder / epath.Path(file).name), int(count)) for file, count in description["records"]
    )
    if min((count for _, count in records), default=0) < 0:
        raise ValueError("a record file has a negative number of clips")
    index.check_records(folder)
    columns = index.read_columns(folder)
    signal = _signal(description)
    step = np.dtype(signal.dtype).itemsize * signal.width
    stored = sum(epath.Path(path).stat().length for path, _ in records)
    length = columns[index.LENGTH]
    if length.min(initial=0) < 0 or step * length.sum(dtype=np.int64) > _MOST_COMPRESSED * stored:
        raise ValueError(f"column {index.LENGTH} does not fit the size of the records")
    return Source(
        name=str(description["name"]),
        signal=signal,
        columns=columns,
        fields=index.read_fields(description),
        fingerprint=str(description["fingerprint"]),
        records=records,
        builder=str(dict(description.get("settings", {})).get("builder", "")),
        licence=str(description.get("licence", index.UNKNOWN_LICENCE)),
    )


def _signal(description: dict[str, Any]) -> Signal:
    """Returns the signal of a description; for sound the description has only the rate."""
    attributes = description.get("signal", {})
    shape = tuple(attributes.get("shape", ()))
    return Signal(rate=description["sample_rate"], **{**attributes, "shape": shape})


def default_data_dir() -> epath.Path:
    """Returns the default folder of data sets: $GRU_AUDIO_DATA, else a folder of the cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    place = os.environ.get("GRU_AUDIO_DATA") or os.path.join(cache, "gru_audio", "data")
    return epath.Path(place).expanduser()


@functools.lru_cache(maxsize=8)
def _open_records(
    records: tuple[tuple[str, int], ...], fingerprint: str
) -> tuple["ArrayRecordDataSource", int]:
    """Opens all record files; returns the reader and the id of this process.

    The fingerprint keeps the cache from serving a data set that has been replaced.
    """
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    # One clip at a time needs no thread pool.
    reader = ArrayRecordDataSource(
        [f"{path}[0:{count}]" for path, count in records], {"max_parallelism": "0"}
    )
    for first in itertools.accumulate((count for _, count in records[:-1]), initial=0):
        reader[first]
    return reader, os.getpid()


def _how_to_prepare(name: str, data_dir: epath.Path) -> str:
    command = "python -m gru_audio.prepare"
    where = "" if data_dir == default_data_dir() else f" --data_dir {data_dir}"
    from_catalogue, recipe = name.startswith("tfds_"), name.replace("tfds_", "tfds:", 1)
    if name in BUILDERS or from_catalogue:
        return f"Data set {name} is not prepared in {data_dir}. Run: {command} {recipe}{where}"
    known = {*BUILDERS, *index.prepared(data_dir)}
    return (
        f'There is no data set "{name}" in {data_dir}.{nearest(name, known)} '
        f"To prepare your own sounds: {command} folder --name {name} --folder DIR{where}"
    )
