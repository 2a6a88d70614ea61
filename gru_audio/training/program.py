"""From a config to the program of a run: all that is static is made and checked here."""

import flax.linen as nn
from ml_collections import ConfigDict

from gru_audio.audio.frontends import make_frontend
from gru_audio.config import UserError
from gru_audio.data.signal import Signal
from gru_audio.models import make_model
from gru_audio.tasks import make_task
from gru_audio.tasks.next_step import NextStep
from gru_audio.tasks.task import OfTheSignal
from gru_audio.training import optimizer
from gru_audio.training.step import DATA, Program


def make_program(config: ConfigDict, signal: Signal, class_names: tuple[str, ...]) -> Program:
    """The program of a config on signals of a kind, labelled with classes or not.

    Raises:
      UserError: a name or a number that no program could use.
    """
    optimizer.check(config.optimizer.name, config.optimizer.schedule)
    features = None if signal.is_sound else signal.width
    frontend = make_frontend(config.frontend, signal.rate, features)
    task = make_task(config.task, class_names, frontend.features)
    model = make_model(config.model, task.outputs, per_frame=task.per_frame, batch_axis=DATA)
    if not signal.is_sound:
        _check_augmentation(config.augment)
    if task.as_stored and config.frontend.normalise:
        raise UserError(
            f"config.task.name={config.task.name} reads values as they are stored: "
            "set config.frontend.normalise=False."
        )
    if config.frontend.deltas and isinstance(task, OfTheSignal):
        raise UserError(
            f"config.task.name={config.task.name} may not look ahead, as deltas do: "
            "set config.frontend.deltas=0."
        )
    if isinstance(task, NextStep):
        _check_causal(model)
    if config.train.truncate_frames:
        _check_truncation(model, config.model.name)
    return Program(
        signal=signal,
        frontend=frontend,
        normalise=config.frontend.normalise,
        model=model,
        task=task,
        optimizer=config.optimizer.name,
        schedule=config.optimizer.schedule,
        time_masks=config.augment.time_masks,
        frequency_masks=config.augment.frequency_masks,
        blocks=config.frontend.deltas + 1,
        accumulate=config.train.accumulate,
        truncate_frames=config.train.truncate_frames,
        skip_nonfinite=config.train.skip_nonfinite,
    )


def _check_causal(model: nn.Module) -> None:
    """Refuses a model that would be shown the frame it has to foretell."""
    if hasattr(model, "encoder") and model.encoder.bidirectional:
        setting = "config.model.bidirectional=False"
    elif hasattr(model, "front") and any(block.kernel[0] > 1 for block in model.front.blocks):
        setting = "config.model.conv without kernels over time, such as 16 1x3"
    else:
        return
    raise UserError(f"config.task.name=next_step may not look ahead: set {setting}.")


def _check_truncation(model: nn.Module, name: str) -> None:
    if not hasattr(model, "segment"):
        reason = f'config.model.name="{name}" does not carry its state from segment to segment'
    elif model.encoder.bidirectional:
        reason = "config.model.bidirectional also reads from the end"
    else:
        return
    raise UserError(f"{reason}: set config.train.truncate_frames=0.")


def _check_augmentation(augmentation: ConfigDict) -> None:
    for name in ("speed", "time_shift_ms", "gain_db", "background", "mixup"):
        if augmentation[name]:
            raise UserError(f"config.augment.{name} is for sound: set it to 0.")
