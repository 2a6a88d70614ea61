"""Hyperparameters: every number that may differ between the members of a group.

They travel in the train state as traced values, so that one compiled program serves all members.
What is zero in every member is left out of the tree and its code is not compiled; "is zero" is
therefore part of what members of a group must have in common.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gru_audio.config import decides_numbers, flatten

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
    "augment.frequency_mask_bands",
    "augment.gain_db",
    "augment.mixup",
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


def structure(config: ConfigDict) -> tuple[tuple[str, Any], ...]:
    """What must be equal for two configs to be members of one group, hashable."""
    flat = {name: value for name, value in flatten(config).items() if decides_numbers(name)}
    for name in REQUIRED:
        del flat[name]
    for name in OPTIONAL:
        flat[name] = flat[name] != 0
    del flat["seed"], flat["data.train_examples"]
    flat["data.hold_out"] = flat["data.hold_out"].partition("=")[0]
    return tuple((n, tuple(v) if isinstance(v, list) else v) for n, v in flat.items())
