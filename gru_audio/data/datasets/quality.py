"""Checks of the quality of a data set: copies across splits, similar class names, and others.

Each function returns remarks for the user, of one or two sentences each.
"""

import collections
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gru_audio.audio.containers import SILENT
from gru_audio.data import index
from gru_audio.data.fields import ClassesField, Field, Value, Values, shorten

_SHOWN = 3  # examples per remark


def remarks(
    columns: Mapping[str, Any],
    fields: Mapping[str, Field],
    labels: Sequence[Mapping[str, Value]],
    contents: Sequence[bytes],
) -> list[str]:
    """Returns all remarks on the written clips.

    The first field counts as the target: unknown values, and classes that are not in the training
    split, are reported for it alone.

    Args:
      columns: the columns of `gru_audio.data.source.Source`.
      fields: the fields by name.
      labels: the field values of each clip.
      contents: a key of each clip that is equal for equal samples.
    """
    found = []
    for name, field in fields.items():
        if isinstance(field, ClassesField):
            found += look_alikes(name, field, columns[name])
    for name in list(fields)[:1]:
        field, values = fields[name], columns[name]
        found += unknown(name, field.known(values))
        found += never_trained_on(name, field, values, columns[index.SPLIT])
    return found + copies(columns, fields, labels, contents)


def without_clips(
    field: str,
    missing: Sequence[str],
    classes: Sequence[Iterable[str]],
    reasons: Sequence[str],
) -> list[str]:
    """Returns a remark on the classes all of whose clips were skipped.

    Args:
      field: the name of the field.
      missing: the classes without a written clip.
      classes: the classes of each skipped clip.
      reasons: why each of these clips was skipped.
    """
    if not missing:
        return []
    shown = []
    for name in missing:
        counts = collections.Counter(
            reason for names, reason in zip(classes, reasons, strict=True) if name in names
        )
        shown.append(f"{name} ({', '.join(f'{n} {reason}' for reason, n in counts.items())})")
    silence = " --keep_silence keeps clips of digital silence." if SILENT in reasons else ""
    return [
        f"{field}: no clip of {shorten(shown, _SHOWN)} can be used, so "
        f"{_count(missing, 'class')} left out.{silence}"
    ]


def look_alikes(name: str, field: ClassesField, values: Values) -> list[str]:
    """Returns remarks on classes whose names are almost the same."""
    clips, classes = field.members(values)
    pairs = np.unique(np.stack([clips, classes]), axis=1)
    counts = np.bincount(pairs[1], minlength=len(field.names)).tolist()
    shown = {each: f'"{each}" ({_clips(n)})' for each, n in zip(field.names, counts, strict=True)}
    return [
        f"{name}: {' and '.join(shown[each] for each in group)} are different {field.plural}, "
        "but look alike. Give them the same name to merge them."
        for group in alike(field.names)
    ]


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups names that differ only in case, in "_" for a space, or in compatible characters."""
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        key = unicodedata.normalize("NFKC", name).casefold()
        groups[" ".join(key.replace("_", " ").split())].append(name)
    return [group for group in groups.values() if len(group) > 1]


def unknown(name: str, known: np.ndarray) -> list[str]:
    """Returns a remark on clips whose value of a field is unknown; `known` is bool (clips,)."""
    count = int((~known).sum())
    if not count:
        return []
    return [f"{name}: unknown for {count} of {len(known)} clips. The target {name} excludes them."]


def never_trained_on(name: str, field: Field, values: Values, split: np.ndarray) -> list[str]:
    """Returns remarks on classes that another split has and the split "train" does not have.

    Args:
      name: the name of the field.
      field: the field; the result is empty for a field without classes.
      values: the values of the clips.
      split: the split of each clip, str (clips,); "": none.
    """
    if not isinstance(field, ClassesField):
        return []
    clips, classes = field.members(values)
    pairs = np.unique(np.stack([clips, classes]), axis=1)
    used = zip(split[pairs[0]].tolist(), pairs[1].tolist(), strict=True)
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for part, number in used:
        counts[part][number] += 1
    if "train" not in counts:
        return []
    found = []
    for other in dict.fromkeys(part for part in split.tolist() if part in counts and part):
        missing = {c: n for c, n in sorted(counts[other].items()) if c not in counts["train"]}
        if missing:
            noun = "tag" if field.kind == "tags" else "class"
            names = [f"{field.names[c]} ({_clips(n)})" for c, n in missing.items()]
            shown = shorten(names, _SHOWN)
            found.append(f"{name}: {_count(missing, noun)} in {other} but not in train: {shown}.")
    return found


def copies(
    columns: Mapping[str, Any],
    fields: Mapping[str, Field],
    labels: Sequence[Mapping[str, Value]],
    contents: Sequence[bytes],
) -> list[str]:
    """Returns remarks on clips with equal samples but different splits or labels."""
    groups: dict[bytes, list[int]] = collections.defaultdict(list)
    for i, content in enumerate(contents):
        groups[content].append(i)
    same = [np.array(group) for group in groups.values() if len(group) > 1]
    found = []
    for column in (index.SPLIT, *fields):
        is_split = column == index.SPLIT
        values = columns[column].tolist() if is_split else [clip[column] for clip in labels]
        conflicts = [group for group in same if len({values[i] for i in group}) > 1]
        if not conflicts:
            continue
        pairs = []
        for group in conflicts[:_SHOWN]:
            first = group[0]
            other = next(i for i in group if values[i] != values[first])
            both = (f"{columns[index.CLIP][i]} ({_shown(values[i])})" for i in (first, other))
            pairs.append(" and ".join(both))
        more = "; ..." if len(conflicts) > _SHOWN else ""
        found.append(
            f"{sum(map(len, conflicts))} clips have the same samples as others with another "
            f"{column}: {'; '.join(pairs)}{more}."
        )
    return found


def _shown(value: Value) -> str:
    """Formats a value for a remark."""
    if isinstance(value, tuple):  # events
        return f"{len(value)} events"
    if isinstance(value, frozenset):
        return "+".join(sorted(value)) or "none"
    return "unknown" if value is None else str(value)


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _count(things: Collection[Any], name: str) -> str:
    """Returns a phrase such as "2 classes are"."""
    plural = "classes" if name == "class" else f"{name}s"
    return f"1 {name} is" if len(things) == 1 else f"{len(things)} {plural} are"
