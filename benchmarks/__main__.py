"""Runs a benchmark: contestants take turns in one process, medians and quartiles are printed.

  python -m gru_audio.bench step
  python -m gru_audio.bench step --config experiments/spoken_digit.py --seconds 30 --json step.json

recurrence  one recurrent layer, forward and backward: our implementations against linen, PyTorch
         and, on a GPU, cuDNN; --check holds every one of them to float64 first, --grid takes many
         more sizes, --plot FILE draws the result
cells    one layer of every cell, forward and backward, beside the LSTM at equal width
convolution  the gradients of convolutions against those that JAX derives, in a loop and alone
kernels  the settings of the Pallas kernels against one another, on a GPU or TPU
frontend the log-mel frontend against JAX, PyTorch and SciPy
step     training steps: what resident and streamed input cost against a constant batch, and how GRU
         and LSTM steps compare with PyTorch (which the extra [bench] installs)
scaling  what more devices bring, and by a model of the cost to how many sharing a batch pays; a CPU
         makes devices to check the losses by: XLA_FLAGS=--xla_force_host_platform_device_count=8
sweep    many runs in one program against the same runs one after another, and against PyTorch
memory   what each way to train on long recordings saves in memory, and what it costs in time

Run it on a machine that does nothing else. Any value of the config can be set with
--config.NAME=VALUE.
"""

import json
from collections.abc import Sequence

import jax
from absl import flags
from etils import epath
from ml_collections import config_flags
from rich.console import Console

from benchmarks import (
    cells,
    convolution,
    frontend,
    kernels,
    memory,
    recurrence,
    scaling,
    step,
    sweep,
)
from gru_audio import command
from gru_audio.config import UserError, nearest
from gru_audio.training.devices import use_cpu_cores, use_platform

BENCHMARKS = {
    "cells": cells,
    "convolution": convolution,
    "frontend": frontend,
    "kernels": kernels,
    "memory": memory,
    "recurrence": recurrence,
    "scaling": scaling,
    "step": step,
    "sweep": sweep,
}

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    "experiments/spoken_digit.py",
    "The experiment; cells, convolution, recurrence and kernels need none.",
)
_SECONDS = flags.DEFINE_float(
    "seconds", 20.0, "To spend on each comparison, beside compilation.", lower_bound=0.0
)
_DEVICE = flags.DEFINE_enum(
    "device", None, ["cpu", "gpu", "tpu"], "Where to run, if not on the best device there is."
)
_CHECK = flags.DEFINE_bool("check", False, "recurrence: hold every implementation to float64.")
_GRID = flags.DEFINE_bool("grid", False, "recurrence: 60 sizes of each cell, not four.")
_JSON = flags.DEFINE_string("json", None, "File for the numbers.")
_PLOT = flags.DEFINE_string("plot", None, "recurrence: file for the picture, .svg, .png or .pdf.")


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2 or arguments[1] not in BENCHMARKS:
        given = " ".join(arguments[1:])
        raise UserError(f'Say which benchmark, not "{given}".{nearest(given, BENCHMARKS)}')
    name = arguments[1]
    if name != "recurrence" and (_CHECK.value or _GRID.value or _PLOT.value):
        raise UserError("--check, --grid and --plot are for the benchmark recurrence.")
    use_cpu_cores()  # as training does
    if _DEVICE.value:
        use_platform(_DEVICE.value)
    seconds = _SECONDS.value
    if name == "recurrence":
        result = recurrence.measure(seconds, recurrence.cases(_GRID.value), check=_CHECK.value)
    elif name == "kernels":
        tried = kernels.settings(jax.default_backend())
        result = kernels.measure(seconds, kernels.cases(), tried)
    else:
        result = BENCHMARKS[name].measure(_CONFIG.value, seconds)
    result["command"] = command.command_line()
    if _JSON.value:
        epath.Path(_JSON.value).write_text(json.dumps(result, indent=1))
    if _PLOT.value:
        recurrence.plot(result, _PLOT.value)
    BENCHMARKS[name].show(result, Console(width=None if Console().is_terminal else 160))
    return 1 if name == "recurrence" and not recurrence.passed(result) else 0


if __name__ == "__main__":
    command.run(main, names=True)
