"""Which examples a run trains, validates and tests on: its splits, less what it holds out."""

import re

import numpy as np
from ml_collections import ConfigDict

from gru_audio.data.datasets import quality
from gru_audio.data.source import Source
from gru_audio.settings import UserError, nearest

ROLES = ("train", "validation", "test")
BACKGROUND = "background"  # the role of training examples that are mixed into others
SCORED = "scored"  # the role of training examples that a finished run is scored on


def select(source: Source, data: ConfigDict, seed: int) -> dict[str, np.ndarray]:
    """Ids of the examples (int32, ascending) for each of `ROLES`, and some of the training ones.

    Without `data.hold_out` the roles are the splits the config names. With "field=value" the test
    set is every example of that value, whatever its split; training takes the examples of the
    training and test splits that are left, validation those of its own split. `data.validation`
    may be such a value too: then validation has what training would have of it. So a fold of a
    cross-validation is tested on, and another one validated on.

    With `data.background`, "field=value", there is the role of that name too: the training examples
    of that value.

    Validation is empty where the config names none. Of the training examples `data.train_examples`
    are drawn by the seed; with a smaller number come some of those that a larger one brings. If
    these are more than `data.train_scored`, the role `SCORED` has so many of them, by `data.seed`,
    else all of them.

    Raises:
      UserError: a split, field or value that the data set lacks, or not enough to train or test on.
    """
    split = source.columns["split"]
    chosen = {role: np.isin(split, _split_names(source, data, role)) for role in ROLES}
    if data.hold_out:
        held_out = _of_value(source, data, "hold_out")
        chosen = {
            "train": (chosen["train"] | chosen["test"]) & ~held_out,
            "validation": chosen["validation"] & ~held_out,
            "test": held_out,
        }
    if "=" in data.validation:
        validated = _of_value(source, data, "validation") & chosen["train"]
        chosen |= {"train": chosen["train"] & ~validated, "validation": validated}
    for role in ("test", "validation"):
        if shared := int((chosen["train"] & chosen[role]).sum()):
            raise UserError(
                f"{shared} examples of {source.name} would be trained on and used as {role} data: "
                f'config.data.train="{data.train}", {role}="{data[role]}", '
                f'hold_out="{data.hold_out}".'
            )
    known = source.known(data.target)
    ids = {role: _ids(mask & known) for role, mask in chosen.items()}
    if data.background:
        ids[BACKGROUND] = _ids(chosen["train"] & _of_value(source, data, "background"))
        if not len(ids[BACKGROUND]):
            raise UserError(f'No training example is config.data.background="{data.background}".')
    for role in ROLES:
        if data[role] and not len(ids[role]):
            held = f' without config.data.hold_out="{data.hold_out}"' if data.hold_out else ""
            raise UserError(
                f'No example in config.data.{role}="{data[role]}" of {source.name}{held}.'
            )
    if data.train_examples:
        if data.train_examples > len(ids["train"]):
            raise UserError(
                f"config.data.train_examples={data.train_examples}: {source.name} has only "
                f"{len(ids['train'])} to train on."
            )
        ids["train"] = _draw(ids["train"], data.train_examples, seed)
    ids[SCORED] = _draw(ids["train"], data.train_scored or len(ids["train"]), data.seed)
    return ids


def never_trained_on(source: Source, data: ConfigDict, ids: dict[str, np.ndarray]) -> list[str]:
    """Remarks on classes that a run validates or tests on and never trains on, with their counts.

    Args:
      source: the data set.
      data: the run's config of it.
      ids: its examples by role, as `select` gives them.
    """
    field = source.field(data.target)
    if field is None:
        return []
    role = np.full(len(source), "", dtype="U10")
    for name in ROLES:
        role[ids[name]] = name
    return quality.never_trained_on(data.target, field, source.values(data.target), role)


def trainable(source: Source, data: ConfigDict) -> np.ndarray:
    """Examples that the config trains on for some value held out (N,) bool; see `data.plan`."""
    roles = ROLES if data.hold_out else ("train",)
    names = [name for role in roles for name in _split_names(source, data, role)]
    return np.isin(source.columns["split"], names) & source.known(data.target)


def _draw(ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    """So many of the ids, or all if they are fewer, ascending."""
    # Only the bits of a generator are the same in all versions of NumPy: `random` keeps close.
    order = np.argsort(np.random.Generator(np.random.PCG64(seed)).random(len(ids)))
    return np.sort(ids[order[:count]])


def _ids(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(mask).astype(np.int32)


def _split_names(source: Source, data: ConfigDict, role: str) -> list[str]:
    if role == "validation" and "=" in data[role]:
        return []
    names = [name for name in data[role].split("+") if name]
    if len(names) == 1 and (several := re.split("[;,]", names[0])) != names:
        joined = "+".join(name.strip() for name in several)
        raise UserError(f'config.data.{role}="{names[0]}": join splits by "+": "{joined}".')
    for name in names:
        if name not in source.splits():
            raise UserError(
                f'Data set {source.name} has no split "{name}" (config.data.{role})'
                f".{nearest(name, source.splits())}"
            )
    if role != "validation" and not names:
        raise UserError(f"config.data.{role} must name a split: {', '.join(source.splits())}.")
    return names


def _of_value(source: Source, data: ConfigDict, key: str) -> np.ndarray:
    """Which examples are what a key of the config names as "field=value" (N,) bool."""
    field, equals, value = data[key].partition("=")
    if not equals:
        raise UserError(f'config.data.{key}="{data[key]}" should read like "speaker=theo".')
    column, names = source.classes(field, f"config.data.{key}")
    if value not in names:
        raise UserError(
            f'Field "{field}" of {source.name} has no value "{value}".{nearest(value, names)}'
        )
    return column == names.index(value)
