"""Runs a benchmark. Contestants take turns in one process; the result is medians and quartiles.

  python -m benchmarks step
  python -m benchmarks step --config experiments/spoken_digit.py --seconds 30 --json step.json
  benchmarks/on_gpu.sh results/                       all of them, a JSON file each

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
memory       memory and time of each method for training on long recordings

Run it in a checkout, on an otherwise idle machine. --config.NAME=VALUE sets any value of the
config.
"""

import importlib
from collections.abc import Sequence

from absl import flags

from gru_audio import command
from gru_audio.settings import UserError, nearest

NEED_A_CONFIG = ("frontend", "input", "memory", "scaling", "step", "sweep")
BENCHMARKS = ("cells", "convolution", "kernels", "recurrence", "streaming", *NEED_A_CONFIG)

command.define_config(
    "spoken_digit",
    "The experiment; cells, convolution, recurrence, kernels and streaming do not use it.",
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
_PLOT = flags.DEFINE_string("plot", None, "File for a figure of the speeds: .svg, .png or .pdf.")


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2 or arguments[1] not in BENCHMARKS:
        text = " ".join(arguments[1:])
        raise UserError(f'Unknown benchmark "{text}".{nearest(text, BENCHMARKS)}')
    name = arguments[1]
    if name != "recurrence" and (_CHECK.value or _GRID.value):
        raise UserError("--check and --grid are for the benchmark recurrence.")

    # These imports take seconds: --help and a wrong name do not wait for them.
    from rich.console import Console

    from benchmarks import harness
    from gru_audio.training.distributed import use_cpu_cores, use_platform

    use_cpu_cores()  # as training does
    if _DEVICE.value:
        use_platform(_DEVICE.value)
    config = command.config() if name in NEED_A_CONFIG else None
    options = harness.Options(_SECONDS.value, config, _CHECK.value, _GRID.value)
    rows = importlib.import_module(f"benchmarks.{name}").measure(options)
    result = harness.record(name, command.command_line(), rows, _JSON.value)
    if _PLOT.value:
        harness.plot(result, _PLOT.value)
    harness.show(result, Console(width=None if Console().is_terminal else 160))
    return 0 if all(row.get("passed", True) for row in result["rows"]) else 1


if __name__ == "__main__":
    command.run(main, names=True)
