"""Hyperparameters: every number that may differ between the members of a group.

They travel in the train state as traced values, so that one compiled program serves all members.
What is zero in every member is left out of the tree and its code is not compiled; "is zero" is
therefore part of what members of a group must have in common.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gru_audio.config import decides_numbers, flatten
from gru_audio.data.resident import Mixing

REQUIRED = (
    "optimizer.learning_rate",
    "optimizer.b1",
    "optimizer.b2",
    "optimizer.decay",
    "optimizer.eps",
    "optimizer.final_fraction",
    "train.steps",
)
# Each of these is switched off by zero.
OPTIONAL = (
    "augment.background",
    "augment.frequency_mask_bands",
    "augment.gain_db",
    "augment.mixup",
    "augment.snr_max_db",
    "augment.snr_min_db",
    "augment.speed",
    "augment.time_mask_ms",
    "augment.time_shift_ms",
    "model.dropout",
    "optimizer.clip_norm",
    "optimizer.momentum",
    "optimizer.warmup_steps",
    "optimizer.weight_decay",
    "task.label_smoothing",
    "train.weight_noise",
)


def hyperparameters(configs: Sequence[ConfigDict]) -> dict[str, np.ndarray]:
    """The hyperparameters of a group: dotted name -> float32 (members,)."""
    flat = [flatten(config) for config in configs]
    columns = {n: np.array([f[n] for f in flat], np.float32) for n in (*REQUIRED, *OPTIONAL)}
    return {n: v for n, v in sorted(columns.items()) if n in REQUIRED or v.any()}


def mixing(hyper: Mapping[str, Any]) -> Mixing:
    """What the hyperparameters of a group ask to be mixed into its examples."""
    return Mixing("augment.mixup" in hyper, "augment.background" in hyper)


def structure(config: ConfigDict) -> tuple[tuple[str, Any], ...]:
    """What must be equal for two configs to be members of one group, hashable."""
    flat = {name: value for name, value in flatten(config).items() if decides_numbers(name)}
    for name in REQUIRED:
        del flat[name]
    for name in OPTIONAL:
        flat[name] = flat[name] != 0
    del flat["seed"], flat["data.train_examples"]
    for name in ("data.hold_out", "data.validation"):
        field, is_value, _ = flat[name].partition("=")
        flat[name] = field + is_value  # folds of one field are members of one group
    return tuple((n, tuple(v) if isinstance(v, list) else v) for n, v in flat.items())
