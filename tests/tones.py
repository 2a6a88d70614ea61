"""A small data set of tones, and configs that learn from it in a second or two."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gru_audio.config import default_config, override
from gru_audio.data.group import gather_data
from gru_audio.data.source import Source
from gru_audio.tasks import target_field
from gru_audio.training.hyper import hyperparameters, mixing
from gru_audio.training.loader import LOADERS, Loader
from gru_audio.training.placement import make_placement
from gru_audio.training.program import make_program
from gru_audio.training.step import TrainState
from tests.sounds import encode

NAME, RATE = "tones", 8000
CLASSES = {"low": 400.0, "middle": 800.0, "high": 1600.0}  # Hz
SPEAKERS = ("ann", "ben", "cid", "dot", "eve", "fay")
TAKES = 4
SPLIT_BY = "([a-z]+)_[0-9]+"

# One length bucket, one device, no noise: each test asks for what it is about.
TINY: Mapping[str, Any] = {
    "data.name": NAME,
    "data.target": "label",
    "data.cluster": "group",
    "data.buckets": 1,
    "frontend.hop_ms": 20.0,
    "frontend.mels": 8,
    "model.hidden": 8,
    "optimizer.learning_rate": 0.01,
    "optimizer.schedule": "constant",
    "optimizer.warmup_steps": 0,
    "optimizer.clip_norm": 0.0,
    "train.batch_size": 8,
    "train.steps": 20,
    "train.log_every": 5,
    "train.eval_every": 10,
    "parallel.member": 1,
}
NOISE: Mapping[str, Any] = {  # all that draws random numbers in a step, and averaged weights
    "model.dropout": 0.2,
    "data.background": "group=fay",
    "augment.time_shift_ms": 20.0,
    "augment.gain_db": 6.0,
    "augment.speed": 0.1,
    "augment.tempo": 0.1,
    "augment.frequency_warp": 0.1,
    "augment.background": 0.5,
    "augment.snr_max_db": 10.0,
    "augment.mixup": 0.4,
    "augment.time_masks": 1,
    "augment.time_mask_ms": 60.0,
    "augment.frequency_masks": 1,
    "augment.frequency_mask_bands": 2.0,
    "train.weight_noise": 0.01,
    "train.ema_decay": 0.9,
}


def write_tones(folder: Path) -> None:
    """CLASS/SPEAKER_TAKE.wav: a chord on the class's pitch, 0.1 to 0.5 s long, in noise."""
    rng = np.random.default_rng(0)
    for label, pitch in CLASSES.items():
        (folder / label).mkdir(parents=True)
        for s, speaker in enumerate(SPEAKERS):
            for take in range(TAKES):
                time = np.arange(int(rng.uniform(0.1, 0.5) * RATE)) / RATE
                base = pitch * (0.9 + 0.04 * s)
                sound = np.sin(2 * np.pi * base * time) + 0.5 * np.sin(3 * np.pi * base * time)
                sound = 0.2 * sound + 0.05 * rng.standard_normal(len(time))
                (folder / label / f"{speaker}_{take}.wav").write_bytes(encode(sound, RATE))


def tiny(changes: Mapping[str, Any] | None = None) -> ConfigDict:
    """A config for the tones."""
    return override(override(default_config(), TINY), changes or {})


def make_loader(source: Source, configs: Sequence[ConfigDict]) -> Loader:
    """The loader of a group of such configs."""
    config, configs = configs[0], list(configs)
    hyper, field = hyperparameters(configs), target_field(source, config)
    program = make_program(config, source.signal, field)
    labels = program.task.labels(source.values(config.data.target))
    return LOADERS[config.data.loader](
        program=program,
        placement=make_placement(config.parallel, len(configs)),
        data=gather_data(source, configs, labels, program.task.whole),
        mixing=mixing(hyper),
        max_steps=max(c.train.steps for c in configs),
        threads=config.data.workers,
    )


def fresh(loader: Loader, configs: Sequence[ConfigDict]) -> TrainState:
    """The state of a group before its first step."""
    return loader.initial_state(hyperparameters(list(configs)))


def steps(
    loader: Loader, configs: Sequence[ConfigDict], calls: Sequence[int]
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Trains a group from its beginning by calls of these lengths.

    Returns:
      The state on the host, without padding of the members, and metrics (members, steps).
    """
    state, series, start = fresh(loader, configs), [], 0
    alive = np.ones(len(configs), bool)
    for count in calls:
        state, metrics = loader.train(state, alive, start, start + count)
        series.append(metrics)
        start += count
    joined = {k: np.concatenate([m[k] for m in series], axis=1) for k in series[0]}
    return jax.device_get(loader.placement.gather(state)), joined


def member(tree: Any, index: int) -> Any:
    """One member of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def assert_same(one: Any, other: Any) -> None:
    """Two trees of arrays are equal to the bit."""
    leaves, others = jax.tree.leaves_with_path(one), jax.tree.leaves_with_path(other)
    assert [path for path, _ in leaves] == [path for path, _ in others]
    for (path, leaf), (_, its) in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(leaf, its, err_msg=jax.tree_util.keystr(path))
