"""What a user should know about the clips of a data set before trusting a result on it.

Each function returns remarks: one sentence or two each, for people.
"""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from gru_audio.audio.containers import SILENT
from gru_audio.data import index
from gru_audio.data.builders.labels import alike

_SHOWN = 3  # examples of a remark


def remarks(
    columns: Mapping[str, np.ndarray],
    class_names: Mapping[str, Sequence[str]],
    contents: Sequence[bytes],
) -> list[str]:
    """All remarks on clips that are written.

    The first field is taken for the one that is learnt: what is unknown or unheard is told of it
    alone.

    Args:
      columns: as in `gru_audio.data.source.Source`, (clips,) each.
      class_names: of each field.
      contents: of each clip a value that is equal for equal samples.
    """
    found = []
    for field, names in class_names.items():
        found += look_alikes(field, names, columns[field])
    for field in list(class_names)[:1]:
        found += unknown(field, columns[field])
        found += never_trained_on(field, class_names[field], columns[field], columns[index.SPLIT])
    return found + copies(columns, class_names, contents)


def without_clips(
    field: str, missing: Sequence[str], labels: Sequence[str], reasons: Sequence[str]
) -> list[str]:
    """Classes all of whose clips were skipped.

    Args:
      field: of the classes.
      missing: the classes.
      labels: of the skipped clips.
      reasons: why each of them was skipped.
    """
    if not missing:
        return []
    told = []
    for name in missing:
        of_class = collections.Counter(
            reason for label, reason in zip(labels, reasons, strict=True) if label == name
        )
        told.append(f"{name} ({', '.join(f'{n} {reason}' for reason, n in of_class.items())})")
    silence = " --keep_silence keeps clips of digital silence." if SILENT in reasons else ""
    return [
        f"{field}: no clip of {_some(told)} can be used, so {_count(missing, 'class')} left out."
        f"{silence}"
    ]


def look_alikes(field: str, names: Sequence[str], ids: np.ndarray) -> list[str]:
    """Classes that are spelled almost the same."""
    counts = np.bincount(ids[ids >= 0], minlength=len(names)).tolist()
    told = {name: f'"{name}" ({_clips(n)})' for name, n in zip(names, counts, strict=True)}
    return [
        f"{field}: {' and '.join(told[name] for name in group)} are different classes, though they "
        "look alike. Give them one spelling to join them."
        for group in alike(names)
    ]


def unknown(field: str, ids: np.ndarray) -> list[str]:
    """Clips without a label."""
    count = int((ids < 0).sum())
    if not count:
        return []
    return [f"{field}: unknown for {count} of {len(ids)} clips. None of them is learnt or tested."]


def never_trained_on(
    field: str, names: Sequence[str], ids: np.ndarray, split: np.ndarray
) -> list[str]:
    """Classes that other splits have and the split "train" does not.

    A set of tags, such as "speech+music", is trained where all of its tags are.

    Args:
      field: of the classes.
      names: of the classes.
      ids: class of each clip (clips,), -1: unknown.
      split: of each clip (clips,); "": none.
    """
    used = [(of, c) for of, c in zip(split.tolist(), ids.tolist(), strict=True) if of and c >= 0]
    tags = {tag for c in {c for of, c in used if of == "train"} for tag in names[c].split("+")}
    if not tags:
        return []
    found = []
    for other in dict.fromkeys(of for of, _ in used):
        counts = collections.Counter(c for of, c in used if of == other)
        unheard = {c: n for c, n in sorted(counts.items()) if not tags >= {*names[c].split("+")}}
        if unheard:
            told = [f"{names[c]} ({_clips(n)})" for c, n in unheard.items()]
            found.append(
                f"{field}: {_count(unheard, 'class')} in {other} but not in train: {_some(told)}."
            )
    return found


def copies(
    columns: Mapping[str, np.ndarray],
    class_names: Mapping[str, Sequence[str]],
    contents: Sequence[bytes],
) -> list[str]:
    """Clips with the same samples that are in different splits, or have different labels."""
    groups: dict[bytes, list[int]] = collections.defaultdict(list)
    for i, content in enumerate(contents):
        groups[content].append(i)
    same = [np.array(group) for group in groups.values() if len(group) > 1]
    found = []
    for column in (index.SPLIT, *class_names):
        values = columns[column]
        odd = [group for group in same if len(set(values[group].tolist())) > 1]
        if not odd:
            continue
        pairs = []
        for group in odd[:_SHOWN]:
            first = group[0]
            other = next(i for i in group if values[i] != values[first])
            both = (
                f"{columns[index.CLIP][i]} ({_value(class_names, column, values[i])})"
                for i in (first, other)
            )
            pairs.append(" and ".join(both))
        more = "; ..." if len(odd) > _SHOWN else ""
        found.append(
            f"{sum(map(len, odd))} clips are the same as others, sample by sample, with another "
            f"{column}: {'; '.join(pairs)}{more}."
        )
    return found


def _value(class_names: Mapping[str, Sequence[str]], column: str, value: int | str) -> str:
    if column not in class_names:
        return str(value)
    return class_names[column][int(value)] if int(value) >= 0 else "none"


def _some(told: Sequence[str]) -> str:
    return ", ".join(told[:_SHOWN]) + (", ..." if len(told) > _SHOWN else "")


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _count(things: Sequence[str] | Mapping[int, int], name: str) -> str:
    """Such as "2 classes are"."""
    return f"1 {name} is" if len(things) == 1 else f"{len(things)} {name}es are"
