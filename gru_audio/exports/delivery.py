"""Writes an export: the file, its description, an example for checks, and a model card."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
from etils import epath

import gru_audio
from gru_audio.data import npz
from gru_audio.exports import Format
from gru_audio.exports.card import model_card
from gru_audio.exports.function import Function, difference
from gru_audio.files import write_atomically
from gru_audio.settings import UserError
from gru_audio.tasks.scale import Interval


class Inexact(UserError):
    """The outputs of an export differ from those of the model by more than the tolerance."""


def deliver(
    function: Function,
    chosen: Format,
    directory: epath.Path,
    tolerance: float,
    model: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    intervals: Mapping[str, Interval],
) -> tuple[epath.Path, float]:
    """Writes a function in a format, if its outputs in the format's runtime are right.

    The folder then has `model.SUFFIX`, `check.npz` with an example of inputs and outputs,
    `model_card.md`, and `model.json`, which is written last.

    Args:
      function: the function.
      chosen: the format.
      directory: the folder.
      tolerance: the largest allowed difference; see `difference`.
      model: the description of the trained model.
      result: the run's `result.json`; None: unknown.
      intervals: the test metrics by name, with their intervals; {}: unknown.

    Returns:
      The path of the file, and the largest difference of its outputs.

    Raises:
      Inexact: the difference is larger; the file has the suffix ".failed".
      UserError: the format does not cover the model, or its packages are missing.
    """
    module = chosen.load()
    sizes = (module.BATCH, module.FRAMES) if chosen.step else ()
    inputs = function.example(*sizes)
    expected = jax.device_get(jax.jit(function.__call__)(*inputs))
    data = module.encode(function)
    largest = difference(module.run(function, data, inputs), expected)
    file = directory / f"model{chosen.suffix}"
    if not largest <= tolerance:
        failed = file.with_name(f"{file.name}.failed")
        write_atomically(failed, data)
        raise Inexact(
            f"The outputs differ from those of the model by up to {largest:.1e}, more than "
            f"--tolerance {tolerance:g}: {failed} is for inspection only."
        )
    names = [tensor.name for tensor in (*function.inputs, *function.outputs)]
    check = dict(zip(names, (*inputs, *expected), strict=True))
    description = describe(function, chosen, data, largest) | {"model": model}
    if chosen.step:
        description |= {"batch": module.BATCH, "time": module.FRAMES}
    write_atomically(file, data)
    write_atomically(directory / "check.npz", npz.encode(check))
    card = model_card(function, description, result, intervals)
    write_atomically(directory / "model_card.md", card)
    write_atomically(directory / "model.json", json.dumps(description, indent=1))
    return file, largest


def describe(function: Function, chosen: Format, data: bytes, largest: float) -> dict[str, Any]:
    """Returns what a program needs to know to use the file, for `model.json`."""
    program, signal = function.program, function.trained.signal
    frontend, times = program.frontend, program.frame_times
    versions = {"gru_audio": gru_audio.__version__}
    for package in ("jax", "jaxlib", *chosen.packages):
        versions[package] = metadata.version(package)
    return {
        "run": function.trained.about["run"],
        "format": chosen.module,
        "file": f"model{chosen.suffix}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "inputs": [dataclasses.asdict(tensor) for tensor in function.inputs],
        "outputs": [dataclasses.asdict(tensor) for tensor in function.outputs],
        "shortest": function.shortest,
        "labels": list(program.task.names_of_outputs),
        "probabilities": program.task.activation,
        "rate": signal.rate,
        "hop": frontend.hop,
        "window": frontend.samples(1),
        "first_output_seconds": times.first if program.task.per_frame else None,
        "output_step_seconds": times.step if program.task.per_frame else None,
        "largest_difference": largest,
        "versions": versions,
    }
