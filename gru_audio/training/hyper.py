"""Hyperparameters: every number that may differ between the members of a group.

They travel in the train state as traced values, so that one compiled program serves all members.
Some are off at zero. Where such a number is zero in every member it is left out of the tree, and
its code is not compiled: all members of a group must agree on whether it is zero.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gru_audio.config import Config, differences, flatten, settings_in
from gru_audio.data.resident import Mixing


def hyperparameters(configs: Sequence[Config]) -> dict[str, np.ndarray]:
    """The hyperparameters of a group: dotted name -> float32 (members,)."""
    flat = [flatten(config) for config in configs]
    traced = {name: its for name, its in settings_in(configs[0]).items() if its.traced}
    columns = {name: np.array([f[name] for f in flat], np.float32) for name in sorted(traced)}
    return {n: v for n, v in columns.items() if not traced[n].zero_is_off or v.any()}


def mixing(hyper: Mapping[str, Any]) -> Mixing:
    """What the hyperparameters of a group ask to be mixed into its examples."""
    return Mixing("augment.mixup" in hyper, "augment.background" in hyper)


def structure(config: Config) -> tuple[tuple[str, Any], ...]:
    """What must be equal for two configs to be members of one group, hashable.

    Like `differences` it holds nothing that is at its default.
    """
    settings = settings_in(config)
    found: list[tuple[str, Any]] = []
    for name, value in differences(config).items():
        its = settings[name]
        if its.traced and its.zero_is_off and bool(value) != bool(its.default):
            found.append((name, bool(value)))
        elif its.per_run and isinstance(value, str):
            field, is_value, _ = value.partition("=")  # folds of a field are members of one group
            if field + is_value != its.default:
                found.append((name, field + is_value))
        elif not its.traced and not its.per_run:
            found.append((name, tuple(value) if isinstance(value, list) else value))
    return tuple(found)
