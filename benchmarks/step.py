"""A training step of a GRU and an LSTM classifier, against the same step in eager PyTorch.

Measures the size of the config and a larger one, from features and from sound. All contestants
have the same initial weights and train on one batch repeatedly, without random numbers. Where there
are several devices, another contestant shares the batch over them (`config.parallel.data`).
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.experiment import Setting, first, make_setting, plain, source_of
from benchmarks.harness import Options, Row, compete, cores, judged, say, stepping
from gru_audio.config import override
from gru_audio.data.resident import Batch
from gru_audio.settings import UserError
from gru_audio.training.placement import Kind
from gru_audio.training.step import TrainState
from gru_audio.training.tuning import Tuning

OURS, SHARED, PEER = "gru_audio", "gru_audio, shared batch", "PyTorch"
LARGER = {"model.hidden": 256, "train.batch_size": 64}
CELLS = ("gru", "lstm")
SAME_LOSS = 1e-4
BAR = 1.0
_TURN_STEPS = 5


def measure(
    options: Options, larger: Mapping[str, Any] = LARGER, cells: Sequence[str] = CELLS
) -> Iterator[Row]:
    """Times the steps.

    Args:
      options: options of the command line.
      larger: changes to the config for the larger size; {}: no larger size.
      cells: cells that PyTorch has.

    Raises:
      UserError: PyTorch is missing, or the data set is not prepared.
    """
    if not importlib.util.find_spec("torch"):
        raise UserError("PyTorch is missing. Install it: make .venv/.with-bench")
    assert options.config
    source = source_of(options.config)
    for config in (options.config, override(options.config, dict(larger)))[: 1 + bool(larger)]:
        for cell in cells:
            alike = override(plain(config), {"model.cell": cell})
            settings = {OURS: make_setting(alike, source, tuning=Tuning(say))}
            if jax.device_count() > 1 and not alike.train.batch_size % jax.device_count():
                shared = {"parallel.data": jax.device_count()}
                settings[SHARED] = make_setting(alike, source, shared, tuning=Tuning(say))
            starts = {who: its.start() for who, its in settings.items()}
            size = f"{cell}, hidden {config.model.hidden}, batch {config.train.batch_size}"
            for start in ("features", "sound"):
                name = f"{size}, from {start}"
                yield from _compete(settings, starts, options.seconds, start, name)


def _compete(
    settings: Mapping[str, Setting],
    starts: Mapping[str, tuple[Batch, TrainState]],
    seconds: float,
    start: str,
    name: str,
) -> Iterator[Row]:
    """Times our steps and PyTorch's.

    Raises:
      RuntimeError: the losses before the first update differ by more than `SAME_LOSS`.
    """
    from benchmarks.pytorch import training_steps

    say(name)
    setting, (stacked, state) = settings[OURS], starts[OURS]
    raw, frames = jax.device_get(jax.jit(setting.program.features)(first(stacked)))
    features = np.asarray(first(jax.device_get(state)).normalisation(raw))
    arguments = (stacked, features[None], frames[None]) if start == "features" else (stacked,)
    compiled = {who: our_step(its, starts[who][1], arguments) for who, its in settings.items()}
    steps = {who: step for who, (step, _) in compiled.items()}
    steps |= training_steps(setting, features if start == "features" else None)
    losses = {contestant: step() for contestant, step in steps.items()}
    difference = max(losses.values()) - min(losses.values())
    if not difference <= SAME_LOSS:
        raise RuntimeError(f"The losses differ: {losses}.")
    about = {
        "frames": features.shape[1],
        "mean_valid_frames": float(np.mean(frames)),
        "threads": cores(),
        "loss_difference": difference,
        "compile_seconds": compiled[OURS][1],
    }
    makers = {name: stepping(step, _TURN_STEPS) for name, step in steps.items()}
    for row in compete(makers, seconds, [PEER]):
        if row["contestant"] == OURS:
            row = judged(row, {PEER: BAR}) | about
        yield {"table": "A training step against PyTorch", "case": name, **row}


def our_step(
    setting: Setting, state: TrainState, arguments: tuple
) -> tuple[Callable[[], float], float]:
    """Compiles a training step.

    Args:
      setting: setting of one run.
      state: initial state, which is copied.
      arguments: a batch, for a step from sound; or a batch, its features and its frame counts.

    Returns:
      A function that trains one step and returns the loss, and the compilation time in seconds.
    """
    program, placement = setting.program, setting.placement

    def from_features(state, batch, features, frames):
        keys, labels = program.keys(state, batch.row), program.task.soft_labels(batch.labels)
        prepared = program.task.inputs_and_targets(features, frames, labels)
        return program.update(
            state, program.batch_gradients(state, state.weights.model_state, keys, prepared)
        )

    def from_sound(state, batch):
        return program.train_step(state, batch)

    state, arguments = jax.tree.map(jnp.copy, state), placement.put(arguments, Kind.ROWS)
    kinds = (Kind.MEMBER, *[Kind.ROWS] * len(arguments))
    function = from_sound if len(arguments) == 1 else from_features
    call = placement.compile(
        function, (state, *arguments), kinds, Kind.MEMBER, donate=(0,), tuned=True
    )

    def step() -> float:
        nonlocal state
        state, metrics = call(state, *arguments)
        return float(metrics["loss"][0])

    return step, call.compile_time.wall
