"""What a user should know about the clips of a data set before trusting a result on it.

Each function returns remarks: one sentence or two each, for people.
"""

import collections
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gru_audio.audio.containers import SILENT
from gru_audio.data import index
from gru_audio.data.fields import ClassesField, Field, Value, Values

_SHOWN = 3  # examples of a remark


def remarks(
    columns: Mapping[str, Any],
    fields: Mapping[str, Field],
    labels: Sequence[Mapping[str, Value]],
    contents: Sequence[bytes],
) -> list[str]:
    """All remarks on clips that are written.

    The first field is taken for the one that is learnt: unknown values, and classes that are not in
    the training split, are reported for it alone.

    Args:
      columns: as in `gru_audio.data.source.Source`, one row for each clip.
      fields: their types, by name.
      labels: the values of each clip.
      contents: of each clip a value that is equal for equal samples.
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
    """Classes all of whose clips were skipped.

    Args:
      field: of the classes.
      missing: the classes.
      classes: those of each of the skipped clips.
      reasons: why each of them was skipped.
    """
    if not missing:
        return []
    told = []
    for name in missing:
        of_class = collections.Counter(
            reason for of_clip, reason in zip(classes, reasons, strict=True) if name in of_clip
        )
        told.append(f"{name} ({', '.join(f'{n} {reason}' for reason, n in of_class.items())})")
    silence = " --keep_silence keeps clips of digital silence." if SILENT in reasons else ""
    return [
        f"{field}: no clip of {_some(told)} can be used, so {_count(missing, 'class')} left out."
        f"{silence}"
    ]


def look_alikes(name: str, field: ClassesField, values: Values) -> list[str]:
    """Classes that are spelled almost the same."""
    clips, classes = field.members(values)
    pairs = np.unique(np.stack([clips, classes]), axis=1)
    counts = np.bincount(pairs[1], minlength=len(field.names)).tolist()
    told = {each: f'"{each}" ({_clips(n)})' for each, n in zip(field.names, counts, strict=True)}
    return [
        f"{name}: {' and '.join(told[each] for each in group)} are different {field.plural}, "
        "though they look alike. Give them one spelling to join them."
        for group in alike(field.names)
    ]


def alike(names: Iterable[str]) -> list[list[str]]:
    """Names that differ only in case, in "_" for a space, or in compatible characters."""
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        key = unicodedata.normalize("NFKC", name).casefold()
        groups[" ".join(key.replace("_", " ").split())].append(name)
    return [group for group in groups.values() if len(group) > 1]


def unknown(name: str, known: np.ndarray) -> list[str]:
    """Clips without a value of a field (clips,)."""
    count = int((~known).sum())
    if not count:
        return []
    return [f"{name}: unknown for {count} of {len(known)} clips. None of them is learnt or tested."]


def never_trained_on(name: str, field: Field, values: Values, split: np.ndarray) -> list[str]:
    """Classes that other splits have and the split "train" does not.

    Args:
      name: of the field.
      field: of the classes; others have none.
      values: of each clip.
      split: of each clip (clips,); "": none.
    """
    if not isinstance(field, ClassesField):
        return []
    clips, classes = field.members(values)
    pairs = np.unique(np.stack([clips, classes]), axis=1)
    used = zip(split[pairs[0]].tolist(), pairs[1].tolist(), strict=True)
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for of, number in used:
        counts[of][number] += 1
    if "train" not in counts:
        return []
    found = []
    for other in dict.fromkeys(of for of in split.tolist() if of in counts and of):
        unheard = {c: n for c, n in sorted(counts[other].items()) if c not in counts["train"]}
        if unheard:
            told = [f"{field.names[c]} ({_clips(n)})" for c, n in unheard.items()]
            what = "tag" if field.kind == "tags" else "class"
            found.append(
                f"{name}: {_count(unheard, what)} in {other} but not in train: {_some(told)}."
            )
    return found


def copies(
    columns: Mapping[str, Any],
    fields: Mapping[str, Field],
    labels: Sequence[Mapping[str, Value]],
    contents: Sequence[bytes],
) -> list[str]:
    """Clips with the same samples that are in different splits, or have different labels."""
    groups: dict[bytes, list[int]] = collections.defaultdict(list)
    for i, content in enumerate(contents):
        groups[content].append(i)
    same = [np.array(group) for group in groups.values() if len(group) > 1]
    found = []
    for column in (index.SPLIT, *fields):
        of_split = column == index.SPLIT
        values = columns[column].tolist() if of_split else [of[column] for of in labels]
        odd = [group for group in same if len({values[i] for i in group}) > 1]
        if not odd:
            continue
        pairs = []
        for group in odd[:_SHOWN]:
            first = group[0]
            other = next(i for i in group if values[i] != values[first])
            both = (f"{columns[index.CLIP][i]} ({_shown(values[i])})" for i in (first, other))
            pairs.append(" and ".join(both))
        more = "; ..." if len(odd) > _SHOWN else ""
        found.append(
            f"{sum(map(len, odd))} clips are the same as others, sample by sample, with another "
            f"{column}: {'; '.join(pairs)}{more}."
        )
    return found


def _shown(value: Value) -> str:
    """A value for people."""
    if isinstance(value, tuple):  # events
        return f"{len(value)} events"
    if isinstance(value, frozenset):
        return "+".join(sorted(value)) or "none"
    return "unknown" if value is None else str(value)


def _some(told: Sequence[str]) -> str:
    return ", ".join(told[:_SHOWN]) + (", ..." if len(told) > _SHOWN else "")


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _count(things: Collection[Any], name: str) -> str:
    """Such as "2 classes are"."""
    plural = "classes" if name == "class" else f"{name}s"
    return f"1 {name} is" if len(things) == 1 else f"{len(things)} {plural} are"
