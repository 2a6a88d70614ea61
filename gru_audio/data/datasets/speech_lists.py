"""Lists of recordings as speech toolkits write them: NeMo's JSON lines, and folders of Kaldi.

https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/asr/datasets.html
https://kaldi-asr.org/doc/data_prep.html
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from gru_audio.data.datasets.tables import Row, read_table
from gru_audio.files import read_text
from gru_audio.settings import UserError

FILE, TEXT, SPEAKER, SPLIT, START, END = "file", "text", "speaker", "split", "start", "end"

_JSON = (".json", ".jsonl")
_PATH, _OFFSET, _DURATION = "audio_filepath", "offset", "duration"  # NeMo's names
_SCP = "wav.scp"
_LISTS = (_SCP, "segments", "text", "utt2spk")  # the files of Kaldi that are read


def read_list(path: Path, columns: Sequence[str]) -> Sequence[Row]:
    """Reads a list of sounds with these columns: a table, NeMo's JSON lines or a Kaldi folder.

    Raises:
      UserError: the list or a column is missing, or the list is invalid.
    """
    if path.is_dir():
        rows = _read_kaldi(path)
    elif path.suffix.lower() in _JSON:
        rows = _read_json(path)
    else:
        return read_table(path, columns)
    if not rows:
        raise UserError(f"{path} lists no sounds.")
    for column in columns:
        if column not in rows[0]:
            raise UserError(f'{path} has no "{column}": it has {", ".join(rows[0])}.')
    return rows


def is_speech(path: Path) -> bool:
    """Whether a list is one of a speech toolkit, whose texts are transcripts."""
    return path.is_dir() or path.suffix.lower() in _JSON


def checksum(path: Path) -> str:
    """Returns a SHA-256 of a list in hex.

    Raises:
      UserError: it cannot be read.
    """
    files = [path] if not path.is_dir() else [file for _, file in _kaldi_files(path)]
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(file.read_bytes())
    except OSError as error:
        raise UserError(f"Cannot read {error.filename}: {error.strerror}.") from error
    return digest.hexdigest()


def _read_json(path: Path) -> Sequence[Row]:
    rows = []
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where} is not JSON: {error}.") from error
        if not isinstance(entry, dict) or not isinstance(entry.get(_PATH), str):
            raise UserError(f'{where} must be an object with "{_PATH}", as in NeMo manifests.')
        row = {FILE: entry.pop(_PATH)}
        offset, duration = entry.pop(_OFFSET, None), entry.pop(_DURATION, None)
        for name, value in ((_OFFSET, offset), (_DURATION, duration)):
            if value is not None and not _is_duration(value):
                raise UserError(f"{where}: {name} is {json.dumps(value)}, not seconds.")
        if offset is not None:  # otherwise the clip is the whole file
            row[START] = repr(float(offset))
            row[END] = "" if duration is None else repr(float(offset) + float(duration))
        for name, value in entry.items():
            row[name] = value if isinstance(value, str) else "" if value is None else str(value)
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in names} for row in rows]


def _is_duration(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < math.inf  # type: ignore[operator]


def _kaldi_files(folder: Path) -> list[tuple[str, Path]]:
    """Returns the files of a data folder, or of the folders of its splits, with their splits."""
    folders = [("", folder)]
    if not (folder / _SCP).exists():
        folders = [(each.name, each) for each in sorted(folder.iterdir()) if (each / _SCP).exists()]
    return [
        (split, each / name) for split, each in folders for name in _LISTS if (each / name).exists()
    ]


def _read_kaldi(folder: Path) -> Sequence[Row]:
    by_split: dict[str, dict[str, dict[str, str]]] = {}
    for split, path in _kaldi_files(folder):
        by_split.setdefault(split, {})[path.name] = _read_pairs(path)
    if not by_split:
        raise UserError(f"{folder} has no {_SCP}, as data folders of Kaldi have.")
    rows: list[Row] = []
    for split, lists in by_split.items():
        rows += _of_split(folder / split, split, lists)
    if len({frozenset(row) for row in rows}) > 1:
        names = dict.fromkeys(name for row in rows for name in row)
        rows = [{name: row.get(name, "") for name in names} for row in rows]
    return rows


def _of_split(folder: Path, split: str, lists: Mapping[str, Mapping[str, str]]) -> Sequence[Row]:
    recordings = lists[_SCP]
    for key, place in recordings.items():
        if place.endswith("|"):
            raise UserError(
                f"{folder / _SCP}: {key} is a command, and none is run: write its output to a file "
                "and name that."
            )
    parts = lists.get("segments") or {key: f"{key} 0 -1" for key in recordings}
    rows = []
    for key, part in parts.items():
        recording, *span = part.split()
        if recording not in recordings or len(span) != 2:
            raise UserError(
                f'{folder / "segments"}: "{key} {part}" must be an utterance, a recording of '
                f"{_SCP}, its start and its end in seconds."
            )
        row = {FILE: recordings[recording]}
        if "segments" in lists:
            row |= {START: span[0], END: "" if span[1].startswith("-") else span[1]}
        for name, column in (("text", TEXT), ("utt2spk", SPEAKER)):
            if name in lists:
                row[column] = lists[name].get(key, "")
        rows.append(row | ({SPLIT: split} if split else {}))
    return rows


def _read_pairs(path: Path) -> dict[str, str]:
    """Reads lines of a key and a value."""
    pairs: dict[str, str] = {}
    for line in filter(str.strip, _lines(path)):
        key, *value = line.split(maxsplit=1)
        if key in pairs:
            raise UserError(f"{path} has {key} twice.")
        pairs[key] = value[0].strip() if value else ""
    return pairs


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path, "utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read {path}: {error}") from error
