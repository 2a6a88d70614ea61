"""A training step of a plain classifier against the same step in eager PyTorch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict

from gru_audio.audio.frontends import LogMel
from gru_audio.benchmarks import pytorch
from gru_audio.benchmarks.setting import Row, Setting, say
from gru_audio.benchmarks.timing import cores, fastest, interleave, speed, spread
from gru_audio.data.resident import Batch
from gru_audio.training.parallel import Kind, Layout
from gru_audio.training.state import TrainState

OURS = "gru_audio"
SAME_LOSS = 1e-4

_TURN_STEPS = 5


def measure_against_pytorch(setting: Setting, seconds: float, name: str) -> list[Row]:
    """The step from features and the step from sound, ours and PyTorch's in turns.

    Both have the same weights to begin with and train on one batch over and over: the first of the
    length that most steps have.

    Args:
      setting: of a config that is `plain`.
      seconds: to spend on each of the two, beside compilation.
      name: of the setting, for the user.

    Raises:
      RuntimeError: the losses before the first update differ by more than `SAME_LOSS`.
    """
    torch.set_num_threads(cores())
    program, config = setting.program, setting.config
    say(f"{name}: {config.model.cell} against PyTorch")
    stacked, batch, state = _start(setting)
    member = _first(jax.device_get(state))
    raw, frames = jax.device_get(jax.jit(program.features)(batch))
    features = np.asarray(member.normalisation(raw))

    def from_features(state, batch, features, frames):
        keys, labels = program.keys(state, batch.row), program.task.soft_labels(batch.labels)
        problem = program.task.problem(features, frames, labels)
        return program.update(state, program.share_of_problem(state, keys, problem))

    def from_sound(state, batch):
        return program.train_step(state, batch)

    ready = torch.tensor(features, device=pytorch.DEVICE)
    inputs: dict[str, tuple[Callable, tuple, Callable[[], torch.Tensor]]] = {
        "features": (from_features, (stacked, features[None], frames[None]), lambda: ready),
        "sound": (from_sound, (stacked,), _from_sound(setting, member, batch)),
    }
    rows = []
    for start, (function, arguments, theirs) in inputs.items():
        ours, compile_seconds = _our_step(setting.layout, function, state, arguments)
        steps = {OURS: ours} | _their_steps(config, member, theirs, frames, batch)
        losses = {contestant: step() for contestant, step in steps.items()}
        difference = max(losses.values()) - min(losses.values())
        if not difference <= SAME_LOSS:
            raise RuntimeError(f"These should be one and the same loss: {losses}.")
        times = interleave({k: _turn(step, _TURN_STEPS) for k, step in steps.items()}, seconds)
        ms = {contestant: taken / _TURN_STEPS * 1e3 for contestant, taken in times.items()}
        peer = fastest(
            {contestant: values for contestant, values in ms.items() if contestant != OURS}
        )
        rows.append(
            {
                "from": start,
                "frames": features.shape[1],
                "mean_valid_frames": float(np.mean(frames)),
                "rounds": len(times[peer]),
                "threads": cores(),
                "step_ms": {contestant: spread(values) for contestant, values in ms.items()},
                "peer": peer,
                "ratio": speed(ms[OURS], ms[peer]),
                "loss_difference": difference,
                "compile_seconds": compile_seconds,
            }
        )
    return rows


def pytorch_turns(setting: Setting, steps: int) -> dict[str, Callable[[int], None]]:
    """Turns of PyTorch's step from sound, in each of its forms, on the batch of the first step.

    Args:
      setting: of a config that is `plain`.
      steps: of a turn.

    Returns:
      By the name of the form; a turn takes the number of its round.
    """
    torch.set_num_threads(cores())
    _, batch, state = _start(setting)
    member = _first(jax.device_get(state))
    _, frames = jax.device_get(jax.jit(setting.program.features)(batch))
    sound = _from_sound(setting, member, batch)
    theirs = _their_steps(setting.config, member, sound, frames, batch)
    return {name: _turn(step, steps) for name, step in theirs.items()}


def _start(setting: Setting) -> tuple[Batch, Batch, TrainState]:
    """A batch of the length that most steps have, stacked and alone; the state to begin with."""
    sizes = list(map(len, setting.data.tables[0]))
    stacked, _ = setting.reader().step(int(np.argmax(sizes)), 0)
    return stacked, _first(stacked), setting.feed("streamed").initial_state(setting.hyper)


def _from_sound(setting: Setting, member: TrainState, batch: Batch) -> Callable[[], torch.Tensor]:
    """What makes a batch's features in PyTorch."""
    assert isinstance(setting.program.frontend, LogMel)
    frontend = pytorch.Frontend(setting.program.frontend, member.normalisation).to(pytorch.DEVICE)
    audio = torch.tensor(batch.signal, device=pytorch.DEVICE)
    return lambda: frontend(audio)


def _their_steps(
    config: ConfigDict,
    member: TrainState,
    features: Callable[[], torch.Tensor],
    frames: np.ndarray,
    batch: Batch,
) -> dict[str, Callable[[], float]]:
    """PyTorch's steps that begin with the weights of `member`, by the name of their form."""
    return {
        f"PyTorch, {form}": pytorch.training_step(
            pytorch.Classifier(config.model.cell, member.weights.params, form),
            features,
            frames,
            batch.labels,
            config.optimizer.learning_rate,
            config.optimizer.clip_norm,
        )
        for form in pytorch.FORMS
    }


def _our_step(
    layout: Layout, function: Callable, state: TrainState, arguments: tuple
) -> tuple[Callable[[], float], float]:
    """A step that goes on from a copy of `state` and returns the loss; and seconds to compile it.

    All `arguments` are rows of the batch.
    """
    state, arguments = jax.tree.map(jnp.copy, state), layout.put(arguments, Kind.ROWS)
    kinds = (Kind.MEMBER, *[Kind.ROWS] * len(arguments))
    call = layout.compile(function, (state, *arguments), kinds, Kind.MEMBER, donate=(0,))

    def step() -> float:
        nonlocal state
        state, metrics = call(state, *arguments)
        return float(metrics["loss"][0])

    return step, call.compile_time.wall


def _turn(step: Callable[[], float], steps: int) -> Callable[[int], None]:
    def turn(_: int) -> None:
        for _ in range(steps):
            step()

    return turn


def _first(tree):
    """The first member."""
    return jax.tree.map(lambda leaf: leaf[0], tree)
