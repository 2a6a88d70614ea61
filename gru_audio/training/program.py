"""Construction of the program of a run from a config, with checks of the combination."""

import dataclasses

from ml_collections import ConfigDict

from gru_audio.audio.frontends import make_frontend
from gru_audio.audio.frontends.samples import Samples
from gru_audio.data.fields import Field
from gru_audio.data.signal import Signal
from gru_audio.nn.generative import SampleModel
from gru_audio.nn.model import Model
from gru_audio.nn.models import MODELS, make_model
from gru_audio.settings import UserError
from gru_audio.tasks import make_task
from gru_audio.training.step import DATA, Program


def make_program(config: ConfigDict, signal: Signal, field: Field | None) -> Program:
    """Makes the program of a config.

    Args:
      config: a whole config.
      signal: the kind of signal of the data set.
      field: the target field; None if there is none.

    Raises:
      UserError: a value is invalid, or values do not go together.
    """
    features = None if signal.is_sound else signal.width
    frontend = make_frontend(config.frontend, signal.rate, features)
    levels = frontend.levels if isinstance(frontend, Samples) else 0
    task = make_task(config.task, field, frontend.features, levels)
    if task.of_samples and not levels:
        raise UserError(
            f"config.task.name={config.task.name} predicts codes of samples: "
            'set config.frontend.name="samples".'
        )
    model = make_model(
        config.model,
        task.outputs,
        per_frame=task.per_frame,
        keep_frames=task.aligned,
        batch_axis=DATA,
    )
    deltas, stack = config.frontend.get("deltas", 0), config.frontend.get("stack", 1)
    if task.of_samples:
        _check_sample_model(config, model, frontend.features)
    elif model.of_samples:
        raise UserError(
            f'config.model.name="{config.model.name}" predicts samples: set '
            'config.task.name="generation", or choose another model.'
        )
    if not signal.is_sound:
        _check_augmentation(config.augment)
    if config.augment.frequency_warp and frontend.band_frequencies is None:
        raise UserError(
            f"config.augment.frequency_warp needs frequency bands, and those of "
            f'config.frontend.name="{config.frontend.name}" are not: set it to 0, or choose '
            '"log_mel" or "pcen".'
        )
    if config.augment.tempo and (stack > 1 or not frontend.takes_deltas):
        raise UserError(
            "config.augment.tempo interpolates between single frames of features: set it to 0, or "
            'config.frontend.stack=1 and a config.frontend.name other than "raw".'
        )
    if task.requires_raw_values and config.frontend.normalise:
        raise UserError(
            f"config.task.name={config.task.name} needs unnormalised values: "
            "set config.frontend.normalise=False."
        )
    if task.needs is None or task.of_samples:  # the inputs themselves are the targets
        if deltas:
            raise UserError(
                f"config.task.name={config.task.name} needs frames without deltas: "
                "set config.frontend.deltas=0."
            )
        if stack > 1:
            raise UserError(
                f"config.task.name={config.task.name} needs single frames: "
                "set config.frontend.stack=1."
            )
    if config.augment.mixup and not task.mixable:
        raise UserError(
            f"config.augment.mixup: {task.needs.plural if task.needs else 'targets'} cannot be "
            "mixed: set it to 0."
        )
    if config.data.crop_seconds and not task.croppable:
        raise UserError(
            f"config.task.name={config.task.name} has one label for a whole sequence: "
            "set config.data.crop_seconds=None."
        )
    if task.bottleneck and not model.bottleneck:
        raise UserError(
            f"config.task.name={config.task.name} needs a model that makes one vector of a "
            "sequence: set config.model.name=autoencoder."
        )
    if model.bottleneck and not task.bottleneck:
        raise UserError(
            f"config.model.name={config.model.name} reconstructs what it reads: set "
            "config.task.name=reconstruction."
        )
    if task.causal and not model.causal:
        raise UserError(
            f"config.task.name={config.task.name} needs a causal model: set {model.look_ahead}."
        )
    if config.train.tbptt_frames:
        if task.per_frame and not task.aligned:
            raise UserError(
                f"config.task.name={config.task.name} has one loss for a whole sequence: "
                "set config.train.tbptt_frames=0."
            )
        if config.train.tbptt_frames % model.stride:
            raise UserError(
                f"config.train.tbptt_frames={config.train.tbptt_frames} must be a multiple of the "
                f"model's frames of {model.stride}."
            )
        try:
            model.initial_state(1)
        except UserError as error:
            raise UserError(
                f'config.model.name="{config.model.name}": {error} Otherwise set '
                "config.train.tbptt_frames=0."
            ) from error
    program = Program(
        signal=signal,
        frontend=frontend,
        normalise=config.frontend.normalise,
        model=model,
        task=task,
        optimizer=config.optimizer.name,
        schedule=config.optimizer.schedule,
        time_masks=config.augment.time_masks,
        frequency_masks=config.augment.frequency_masks,
        blocks=(deltas + 1) * stack,
        grad_accumulation=config.train.grad_accumulation,
        tbptt_frames=config.train.tbptt_frames,
        skip_nonfinite=config.train.skip_nonfinite,
        freeze=config.init.freeze,
    )
    return dataclasses.replace(program, task=task.timed(program.frame_times))


def _check_sample_model(config: ConfigDict, model: Model, codes: int) -> None:
    """Checks the config of a generative model of sound, which gets `codes` codes per sample."""
    name = f'config.model.name="{config.model.name}"'
    if not isinstance(model, SampleModel):
        able = [name for name, other in MODELS.items() if other.of_samples]
        raise UserError(f"{name} predicts no samples: choose one of {', '.join(able)}.")
    if model.codes != codes:
        raise UserError(f"{name}: set config.frontend.split={model.codes == 2}.")
    for key in ("time_mask_ms", "frequency_mask_bands"):
        if config.augment[key]:
            raise UserError(f"config.augment.{key} does not apply to codes: set it to 0.")


def _check_augmentation(augmentation: ConfigDict) -> None:
    for name in ("speed", "tempo", "time_shift_ms", "gain_db", "background", "mixup"):
        if augmentation[name]:
            raise UserError(f"config.augment.{name} is for sound: set it to 0.")
