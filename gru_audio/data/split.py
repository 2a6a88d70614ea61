"""Selects the examples that a run trains, validates and tests on."""

import re
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from gru_audio.data.datasets import quality
from gru_audio.settings import UserError, nearest

if TYPE_CHECKING:
    from gru_audio.data.source import Source

ROLES = ("train", "validation", "test")
BACKGROUND = "background"  # the role of training examples that are mixed into others
SCORED = "scored"  # the role of training examples on which a finished run is scored


def select(source: "Source", data: ConfigDict, seed: int) -> dict[str, np.ndarray]:
    """Selects the example ids (int32, ascending) of each role.

    The roles are `ROLES`, `SCORED`, and `BACKGROUND` if the config names a background.

    - Without `data.hold_out` the roles are the splits that the config names. With "field=value" the
      test set is every example of that value, whatever its split. Training has the other examples
      of the training and test splits, validation the other examples of its own split.
    - `data.validation` may be "field=value" too. The training examples of that value then become
      the validation set. So one fold of a cross-validation is tested on and another one validated
      on. Validation is empty if the config names none.
    - `data.background`, "field=value", selects the training examples of that value.
    - `data.train_examples` of the training examples are drawn by `seed`. A smaller number selects a
      subset of a larger number's examples. `data.examples_per_class` does the same to each class.
    - `SCORED` has at most `data.train_scored` training examples, drawn by `data.seed`.

    Raises:
      UserError: the data set lacks a split, field or value, a role has no examples, or training
        shares examples with another role.
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
    if data.examples_per_class:
        ids["train"] = _of_each_class(source, data, ids["train"], seed)
    ids[SCORED] = _draw(ids["train"], data.train_scored or len(ids["train"]), data.seed)
    return ids


def never_trained_on(source: "Source", data: ConfigDict, ids: dict[str, np.ndarray]) -> list[str]:
    """Returns remarks on classes that a run validates or tests on but does not train on.

    Args:
      source: the data set.
      data: the section `data` of the run's config.
      ids: the run's example ids by role, from `select`.
    """
    field = source.field(data.target)
    if field is None:
        return []
    role = np.full(len(source), "", dtype="U10")
    for name in ROLES:
        role[ids[name]] = name
    return quality.never_trained_on(data.target, field, source.values(data.target), role)


def trainable(source: "Source", data: ConfigDict) -> np.ndarray:
    """Returns whether a run with some held-out value trains on each example, bool (N,).

    See `gru_audio.data.plan`.
    """
    roles = ROLES if data.hold_out else ("train",)
    names = [name for role in roles for name in _split_names(source, data, role)]
    return np.isin(source.columns["split"], names) & source.known(data.target)


def _of_each_class(source: "Source", data: ConfigDict, ids: np.ndarray, seed: int) -> np.ndarray:
    """Draws `data.examples_per_class` examples of each class from the ids, in ascending order."""
    count, key = (
        data.examples_per_class,
        f"config.data.examples_per_class={data.examples_per_class}",
    )
    if data.train_examples:
        raise UserError(f"{key} and config.data.train_examples exclude each other: set one to 0.")
    column, names = source.classes(data.target, key)
    drawn = []
    for number, name in enumerate(names):
        of_class = ids[column[ids] == number]
        if len(of_class) < count:
            raise UserError(
                f'{key}: class "{name}" of {source.name} has only {len(of_class)} to train on.'
            )
        drawn.append(_draw(of_class, count, (seed, number)))
    return np.sort(np.concatenate(drawn))


def _draw(ids: np.ndarray, count: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Draws `count` of the ids, or all if there are fewer, in ascending order."""
    # NumPy keeps only the bits of a generator stable across versions; `random` maps them directly.
    order = np.argsort(np.random.Generator(np.random.PCG64(seed)).random(len(ids)))
    return np.sort(ids[order[:count]])


def _ids(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(mask).astype(np.int32)


def _split_names(source: "Source", data: ConfigDict, role: str) -> list[str]:
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


def _of_value(source: "Source", data: ConfigDict, key: str) -> np.ndarray:
    """Returns which examples have the value that a config key names as "field=value", bool (N,)."""
    field, equals, value = data[key].partition("=")
    if not equals:
        raise UserError(f'config.data.{key}="{data[key]}" should read like "speaker=theo".')
    column, names = source.classes(field, f"config.data.{key}")
    if value not in names:
        raise UserError(
            f'Field "{field}" of {source.name} has no value "{value}".{nearest(value, names)}'
        )
    return column == names.index(value)
