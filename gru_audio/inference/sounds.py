"""Turns what users pass to a model, files or arrays, into signals of the kind that it reads."""

import os
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from gru_audio.audio.io import BadAudio, check_rate, convert, decode
from gru_audio.data.signal import Signal
from gru_audio.paths import local_path
from gru_audio.settings import UserError

Sound = str | os.PathLike[str] | np.ndarray | jax.Array

_LOUDEST = 16.0  # floats above this are not sound in [-1, 1]


def is_one(sounds: Any) -> bool:
    """Returns whether an argument is one sound, not several."""
    return isinstance(sounds, (str, os.PathLike)) or hasattr(sounds, "__array__")


def read_sounds(
    sounds: Sound | Iterable[Sound], rate: float | None, signal: Signal, shortest: int
) -> list[np.ndarray]:
    """Reads sounds as signals of a model.

    Args:
      sounds: one sound or several. A sound is a file, or an array (samples,) of int16 or of floats
        in [-1, 1]. For a model of frames it is an array (frames, features).
      rate: the sample rate of arrays, in Hz; files state their own.
      signal: the kind of sequence that the model reads.
      shortest: the number of steps of one frame.

    Returns:
      For each sound int16 (samples,) at the model's rate, or frames (frames, features).

    Raises:
      UserError: a sound cannot be used; the message says which one and why.
    """
    if is_one(sounds):
        return [_read("The sound", sounds, rate, signal, shortest)]
    if not isinstance(sounds, Iterable):
        raise UserError(f"A sound is a file name or an array, not {type(sounds).__name__}.")
    return [
        _read(f"Sound {i} of the list", sound, rate, signal, shortest)
        for i, sound in enumerate(sounds)
    ]


def _read(name: str, sound: Any, rate: float | None, signal: Signal, shortest: int) -> np.ndarray:
    if isinstance(sound, (str, os.PathLike)):
        name = os.fspath(sound)
        steps = _of_file(name, signal)
    elif hasattr(sound, "__array__"):
        steps = _of_array(name, np.asarray(sound), rate, signal)
    else:
        raise UserError(f"{name} is of type {type(sound).__name__}, not a file name or an array.")
    if len(steps) < shortest:
        raise UserError(
            f"{name} is too short: it has {len(steps)} samples at {signal.rate} Hz, and one frame "
            f"of the model needs {shortest}."
        )
    return steps


def _of_file(name: str, signal: Signal) -> np.ndarray:
    if not signal.is_sound:
        raise UserError(f"{name}: the model reads frames, not sound. Pass arrays of frames.")
    path = local_path(name)
    try:
        return decode(path, signal.rate, keep_silence=True).samples
    except BadAudio as error:
        raise UserError(f"{error}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _of_array(name: str, values: np.ndarray, rate: float | None, signal: Signal) -> np.ndarray:
    shape = (None, *signal.shape)
    if values.ndim != len(shape) or values.shape[1:] != signal.shape:
        wanted = "(samples,)" if signal.is_sound else f"(frames, {signal.width})"
        hint = "Average the channels, or pass several sounds as a list." if signal.is_sound else ""
        raise UserError(f"{name} has shape {values.shape}, not {wanted}. {hint}".rstrip())
    if not len(values):
        raise UserError(f"{name} is empty.")
    if values.dtype.kind not in "iuf":
        raise UserError(f"{name} holds {values.dtype}, not numbers.")
    if not np.isfinite(values).all():
        raise UserError(f"{name} has NaN or infinite values.")
    if not signal.is_sound:
        return values.astype(signal.dtype)
    return _resampled(name, values, rate, signal.rate)


def _resampled(name: str, values: np.ndarray, rate: float | None, wanted: int) -> np.ndarray:
    """Converts samples as `decode` converts those of files."""
    if rate is None:
        raise UserError(f"Pass the sample rate of the arrays in Hz. The model's is rate={wanted}.")
    check_rate(rate)
    if values.dtype == np.int16:
        values = values / 32768
    elif values.dtype.kind != "f":
        raise UserError(f"{name} holds {values.dtype}: pass int16, or floats in [-1, 1].")
    loudest = float(np.abs(values).max())
    if loudest > _LOUDEST:
        raise UserError(
            f"{name} reaches {loudest:g}, but floats are in [-1, 1]: divide 16-bit values by 32768."
        )
    block = values.astype(np.float32)[:, None]
    return np.concatenate(list(convert([block], int(rate), wanted)))
