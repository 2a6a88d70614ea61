"""Runs a benchmark: contestants take turns in one process, medians and quartiles are printed.

  python -m gru_audio.bench step
  python -m gru_audio.bench step --config experiments/spoken_digit.py --seconds 30 --json step.json

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

from absl import flags
from etils import epath
from ml_collections import config_flags
from rich.console import Console

from gru_audio import command
from gru_audio.benchmarks import memory, scaling, step, sweep
from gru_audio.config import UserError, nearest
from gru_audio.training.parallel import use_cpu_cores

BENCHMARKS = {"memory": memory, "scaling": scaling, "step": step, "sweep": sweep}

_CONFIG = config_flags.DEFINE_config_file(
    "config", "experiments/spoken_digit.py", "The experiment file."
)
_SECONDS = flags.DEFINE_float(
    "seconds", 20.0, "To spend on each comparison, beside compilation.", lower_bound=0.0
)
_JSON = flags.DEFINE_string("json", None, "File for the numbers.")


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2 or arguments[1] not in BENCHMARKS:
        given = " ".join(arguments[1:])
        raise UserError(f'Say which benchmark, not "{given}".{nearest(given, BENCHMARKS)}')
    use_cpu_cores()  # as training does
    benchmark = BENCHMARKS[arguments[1]]
    result = benchmark.measure(_CONFIG.value, _SECONDS.value)
    result["command"] = command.command_line()
    if _JSON.value:
        epath.Path(_JSON.value).write_text(json.dumps(result, indent=1))
    benchmark.show(result, Console(width=None if Console().is_terminal else 140))


if __name__ == "__main__":
    command.run(main)
