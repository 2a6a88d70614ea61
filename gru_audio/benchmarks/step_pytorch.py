"""A training step of a plain classifier against the same step in eager PyTorch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

from gru_audio.audio.frontends import LogMel
from gru_audio.benchmarks import pytorch
from gru_audio.benchmarks.setting import Row, Setting, say
from gru_audio.benchmarks.timing import cores, interleave, speed, spread
from gru_audio.training.parallel import Kind, Layout
from gru_audio.training.state import TrainState

PLAIN = {  # a model and a step that both sides can have, without random numbers
    "frontend.name": "log_mel",
    "augment.time_shift_ms": 0.0,
    "augment.gain_db": 0.0,
    "augment.mixup": 0.0,
    "augment.time_mask_ms": 0.0,
    "augment.frequency_mask_bands": 0.0,
    "model.name": "rnn_classifier",
    "model.bidirectional": False,
    "model.layer_norm": False,
    "model.dropout": 0.0,
    "model.pooling": "last",
    "task.label_smoothing": 0.0,
    "optimizer.name": "adam",
    "optimizer.schedule": "constant",
    "optimizer.warmup_steps": 0,
    "optimizer.weight_decay": 0.0,
    "optimizer.clip_norm": 1.0,
    "train.weight_noise": 0.0,
}
OURS = "gru_audio"
SAME_LOSS = 1e-4

_TURN_STEPS = 5


def measure_against_pytorch(setting: Setting, seconds: float, name: str) -> list[Row]:
    """The step from features and the step from sound, ours and PyTorch's in turns.

    Both have the same weights to begin with and train on one batch over and over: the first of the
    length that most steps have.

    Args:
      setting: of a config that is `PLAIN`.
      seconds: to spend on each of the two, beside compilation.
      name: of the setting, for the user.

    Raises:
      RuntimeError: the losses before the first update differ by more than `SAME_LOSS`.
    """
    torch.set_num_threads(cores())
    program, config = setting.program, setting.config
    say(f"{name}: {config.model.cell} against PyTorch")
    stacked, _ = setting.reader().step(int(np.argmax(setting.data.plan.shares)), 0)
    batch = _first(stacked)
    state = setting.feed("streamed").initial_state(setting.hyper)
    member = _first(jax.device_get(state))
    raw, frames = jax.device_get(jax.jit(program.features)(batch))
    features = np.asarray(member.normalisation(raw))

    def from_features(state, batch, features, frames):
        keys, labels = program.keys(state, batch.row), program.task.soft_labels(batch.target)
        problem = program.task.problem(features, frames, labels)
        return program.update(state, program.share_of_problem(state, keys, problem))

    def from_sound(state, batch):
        return program.train_step(state, batch)

    assert isinstance(program.frontend, LogMel)
    frontend = pytorch.Frontend(program.frontend, member.normalisation).to(pytorch.DEVICE)
    audio = torch.tensor(batch.signal, device=pytorch.DEVICE)
    ready = torch.tensor(features, device=pytorch.DEVICE)
    inputs: dict[str, tuple[Callable, tuple, Callable[[], torch.Tensor]]] = {
        "features": (from_features, (stacked, features[None], frames[None]), lambda: ready),
        "sound": (from_sound, (stacked,), lambda: frontend(audio)),
    }
    rows = []
    for start, (function, arguments, theirs) in inputs.items():
        ours, compile_seconds = _our_step(setting.layout, function, state, arguments)
        steps = {OURS: ours} | {
            f"PyTorch, {form}": pytorch.training_step(
                pytorch.Classifier(config.model.cell, member.weights.params, form),
                theirs,
                frames,
                batch.target,
                config.optimizer.learning_rate,
                config.optimizer.clip_norm,
            )
            for form in pytorch.FORMS
        }
        losses = {contestant: step() for contestant, step in steps.items()}
        difference = max(losses.values()) - min(losses.values())
        if not difference <= SAME_LOSS:
            raise RuntimeError(f"These should be one and the same loss: {losses}.")
        times = interleave({k: _turn(step) for k, step in steps.items()}, seconds)
        ms = {contestant: taken / _TURN_STEPS * 1e3 for contestant, taken in times.items()}
        peer = min((k for k in ms if k != OURS), key=lambda k: float(np.median(ms[k])))
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


def pytorch_turn(setting: Setting, steps: int) -> Callable[[int], None]:
    """`steps` steps of PyTorch from sound, on the batch of the first step.

    Args:
      setting: of a config that is `PLAIN`.
      steps: of a turn.
    """
    torch.set_num_threads(cores())
    stacked, _ = setting.reader().step(int(np.argmax(setting.data.plan.shares)), 0)
    batch, config, program = _first(stacked), setting.config, setting.program
    member = _first(jax.device_get(setting.feed("streamed").initial_state(setting.hyper)))
    _, frames = jax.device_get(jax.jit(program.features)(batch))
    assert isinstance(program.frontend, LogMel)
    frontend = pytorch.Frontend(program.frontend, member.normalisation).to(pytorch.DEVICE)
    audio = torch.tensor(batch.signal, device=pytorch.DEVICE)
    step = pytorch.training_step(
        pytorch.Classifier(config.model.cell, member.weights.params, "packed"),
        lambda: frontend(audio),
        frames,
        batch.target,
        config.optimizer.learning_rate,
        config.optimizer.clip_norm,
    )

    def turn(_: int) -> None:
        for _ in range(steps):
            step()

    return turn


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

    return step, call.seconds


def _turn(step: Callable[[], float]) -> Callable[[int], None]:
    def turn(_: int) -> None:
        for _ in range(_TURN_STEPS):
            step()

    return turn


def _first(tree):
    """The first member."""
    return jax.tree.map(lambda leaf: leaf[0], tree)
