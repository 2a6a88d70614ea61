"""Hyperparameters: the numbers that may differ between the members of a group.

They are traced values in the train state, so that all members share one compiled program. Some
hyperparameters switch a feature off at one value, mostly zero. All members of a group must agree on
whether such a number is off. If it is, it is not in the tree, and the code of the feature is not
compiled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gru_audio.config import Config, differences, flatten, settings_in
from gru_audio.data.resident import Mixing


def hyperparameters(configs: Sequence[Config]) -> dict[str, np.ndarray]:
    """Returns the hyperparameters of a group by dotted name, float32 (members,)."""
    flat = [flatten(config) for config in configs]
    traced = {name: spec for name, spec in settings_in(configs[0]).items() if spec.traced}
    columns = {name: np.array([f[name] for f in flat], np.float32) for name in sorted(traced)}
    return {n: v for n, v in columns.items() if traced[n].off is None or (v != traced[n].off).any()}


def mixing(hyper: Mapping[str, Any]) -> Mixing:
    """Returns what the training steps of a group mix into its examples."""
    return Mixing("augment.mixup" in hyper, "augment.background" in hyper)


def structure(config: Config) -> tuple[tuple[str, Any], ...]:
    """Returns what members of one group have in common, as a hashable value.

    Like `differences`, it leaves out defaults.
    """
    settings = settings_in(config)
    found: list[tuple[str, Any]] = []
    for name, value in differences(config).items():
        spec = settings[name]
        if (
            spec.traced
            and spec.off is not None
            and (value == spec.off) != (spec.default == spec.off)
        ):
            found.append((name, value != spec.off))
        elif spec.per_run and isinstance(value, str):
            field, is_value, _ = value.partition("=")  # the folds of a field are in one group
            if field + is_value != spec.default:
                found.append((name, field + is_value))
        elif not spec.traced and not spec.per_run:
            found.append((name, tuple(value) if isinstance(value, list) else value))
    return tuple(found)
