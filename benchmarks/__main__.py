"""Runs a benchmark. Contestants take turns in one process; the result is medians and quartiles.

  python -m benchmarks step
  python -m benchmarks step --config spoken_digit --seconds 30 --json step.json
  python -m benchmarks accelerator --minutes 8 --json h200.json

accelerator  the first minutes on a GPU or TPU: the most valuable parts of what follows, each in a
             process with a limit; results come one by one, and a second call continues

recurrence   one recurrent layer, forward and backward: our implementations against linen, PyTorch
             and, on a GPU, cuDNN; --check first compares all implementations with float64, --grid
             measures many more sizes, --plot FILE draws the result
cells        one layer of every cell, forward and backward, against the LSTM of equal width
convolution  our gradients of convolutions against those that JAX derives, in a loop and outside
kernels      settings of the Pallas kernels, on a GPU or TPU
frontend     the log-mel frontend against JAX, PyTorch and SciPy
input        resident and streamed input against a constant batch
step         a training step of GRU and LSTM against PyTorch (which the extra [bench] installs)
scaling      speed on several devices, and an estimate of how many devices can usefully share a
             batch; virtual devices of a CPU can check the losses:
             XLA_FLAGS=--xla_force_host_platform_device_count=8
sweep        many runs in one program against single runs, and against PyTorch
streaming    packets of 20 ms through a GRU, for 1 to 1000 streams, against ONNX Runtime and PyTorch
generation   sound drawn sample by sample, by all models of sound and by a GRU in PyTorch
memory       memory and time of each method for training on long recordings

Run it in a checkout, on an otherwise idle machine. --config.NAME=VALUE sets any value of the
config.
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags

from gru_audio import command
from gru_audio.settings import UserError, nearest

NEED_A_CONFIG = ("frontend", "input", "memory", "scaling", "step", "sweep")
BENCHMARKS = (
    *("accelerator", "cells", "convolution", "generation", "kernels", "recurrence", "streaming"),
    *NEED_A_CONFIG,
)

command.define_config(
    "spoken_digit",
    "The experiment; only frontend, input, memory, scaling, step and sweep use it.",
)
_SECONDS = flags.DEFINE_float(
    "seconds", 20.0, "Duration of each comparison, without compilation.", lower_bound=0.0
)
_DEVICE = flags.DEFINE_enum(
    "device", None, ["cpu", "gpu", "tpu"], "Where to run; by default on the best device."
)
_CHECK = flags.DEFINE_bool(
    "check", False, "recurrence: first compare all implementations with float64."
)
_GRID = flags.DEFINE_bool("grid", False, "recurrence: 60 sizes of each cell instead of 4.")
_JSON = flags.DEFINE_string("json", None, "File for the results.")
_MINUTES = flags.DEFINE_float("minutes", 8.0, "accelerator: duration of the call, at most.")
_TINY = flags.DEFINE_bool("tiny", False, "accelerator: tiny sizes, to try the command.")
_PART = flags.DEFINE_string("part", None, "accelerator: the part of this process.")
_LIMIT = flags.DEFINE_float("limit", 600.0, "accelerator: seconds until the part is stopped.")
_DATA = flags.DEFINE_string("data", None, "accelerator: the folder of its noise.")
_PLOT = flags.DEFINE_string("plot", None, "File for a figure of the speeds: .svg, .png or .pdf.")


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2 or arguments[1] not in BENCHMARKS:
        text = " ".join(arguments[1:])
        raise UserError(f'Unknown benchmark "{text}".{nearest(text, BENCHMARKS)}')
    name = arguments[1]
    if name != "recurrence" and (_CHECK.value or _GRID.value):
        raise UserError("--check and --grid are for the benchmark recurrence.")
    if name == "accelerator" and not _PART.value:
        return accelerate()

    # These imports take seconds: --help and a wrong name do not wait for them.
    from rich.console import Console

    from benchmarks import harness
    from gru_audio.training.distributed import use_cpu_cores, use_platform

    use_cpu_cores()  # as training does
    if _DEVICE.value:
        use_platform(_DEVICE.value)
    if name == "accelerator" and _PART.value:
        measure_part(_PART.value)
    config = command.config() if name in NEED_A_CONFIG else None
    options = harness.Options(_SECONDS.value, config, _CHECK.value, _GRID.value)
    rows = importlib.import_module(f"benchmarks.{name}").measure(options)
    result = harness.record(name, command.command_line(), rows, _JSON.value)
    if _PLOT.value:
        harness.plot(result, _PLOT.value)
    harness.show(result, Console(width=None if Console().is_terminal else 160))
    return 0 if all(row.get("passed", True) for row in result["rows"]) else 1


def accelerate() -> int:
    """Runs the parts of `accelerator`."""
    from benchmarks import accelerator

    if not _JSON.value:
        raise UserError("Name a file for the results: --json FILE")
    passed = [f"--config={flags.FLAGS.config}"]
    passed += [f"--device={_DEVICE.value}"] * bool(_DEVICE.value) + ["--tiny"] * _TINY.value
    with tempfile.TemporaryDirectory() as folder:
        accelerator.prepare_noise(Path(folder), _TINY.value)
        commands = accelerator.child_command(passed, Path(folder))
        result = accelerator.run(_MINUTES.value, _JSON.value, commands)
    print(f"{_JSON.value} and {Path(_JSON.value).with_suffix('.html')}")
    return int(any(part["state"] == "failed" for part in result["parts"].values()))


def measure_part(part: str) -> NoReturn:
    """Writes the results of one part of `accelerator`, and ends the process."""
    from benchmarks import accelerator, accelerator_parts, harness
    from gru_audio.config import override
    from gru_audio.training.compilation import use_compilation_cache

    use_compilation_cache()
    config = override(command.config(), accelerator.changes(str(_DATA.value), _TINY.value))
    seconds = min(_SECONDS.value, accelerator.SECONDS)
    rows = accelerator_parts.measure(part, seconds, _LIMIT.value, config, _TINY.value)
    harness.record(part, command.command_line(), rows, _JSON.value)
    sys.stderr.flush()
    os._exit(0)  # a compiler may hang in a thread


if __name__ == "__main__":
    command.run(main, names=True)
