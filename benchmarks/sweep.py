"""Many runs in one program, against single runs.

There are two tables:

  the experiment   groups of several sizes against one run on one device, with the config of the
                   experiment
  plain            the same without noise and with clips of one length, against eager `nn.GRU` in
                   PyTorch, one run at a time, on the GPU if there is one; the peer is the faster
                   of packed and padded clips

A step of a group is a step of all its runs. Speeds are steps of single runs per time.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence

import jax
from ml_collections import ConfigDict

from benchmarks.experiment import make_setting, plain, source_of, training
from benchmarks.harness import Contestant, Options, Row, compete, judged, stepping
from gru_audio.config import override
from gru_audio.data.source import Source

ALONE = "alone"
_ONE_LENGTH = {"data.buckets": 1, "data.crop_seconds": 0.5}
_TURN_STEPS = 20
# Smallest speed relative to one run, by the number of runs. On a GPU, 16 runs may take twice as
# long as one run, and 64 runs six times as long.
BARS = {"cpu": {8: 1.5}, "gpu": {16: 16 / 2, 64: 64 / 6}}
SIZES = {"cpu": (8,), "gpu": (16, 64, 256)}  # numbers of runs in a group


def measure(options: Options, sizes: Sequence[int] | None = None) -> Iterator[Row]:
    """Times the groups.

    Args:
      options: options of the command line. The duration is for each contestant.
      sizes: numbers of runs in a group; None: `SIZES` for this platform.

    Raises:
      UserError: the data set is not prepared.
    """
    assert options.config
    bars = BARS.get(jax.default_backend(), BARS["gpu"])
    config, source = options.config, source_of(options.config)
    sizes = sizes or SIZES.get(jax.default_backend(), SIZES["gpu"])
    blocks = {"the experiment": groups(config, source, sizes)}
    if importlib.util.find_spec("torch"):
        alike = override(plain(config), _ONE_LENGTH)
        blocks["plain"] = groups(alike, source, sizes) | pytorch(alike, source)
    model = f"{config.model.cell}, hidden {config.model.hidden}, batch {config.train.batch_size}"
    for block, makers in blocks.items():
        for row in compete(makers, options.seconds * len(makers), (ALONE, "PyTorch")):
            runs, _, together = row["contestant"].partition(" ")
            if together == "together" and "failed" not in row:
                speeds = row["speed"][ALONE]
                row["time_of_one"] = {
                    q: int(runs) / speeds[other]
                    for q, other in (("q1", "q3"), ("median", "median"), ("q3", "q1"))
                }
                if int(runs) in bars:
                    row = judged(row, {ALONE: bars[int(runs)]})
            yield {"table": f"{block}: {model} of {source.name}", **row}


def groups(
    config: ConfigDict, source: Source, sizes: Sequence[int]
) -> dict[str, Callable[[], Contestant]]:
    """Returns makers of one run on one device, and of groups of several sizes on all devices."""
    makers = {ALONE: training(make_setting(config, source), _TURN_STEPS)}
    for size in sizes:
        setting = make_setting(config, source, {"parallel.member": 0}, members=size)
        makers[f"{size} together"] = training(setting, _TURN_STEPS, work=size)
    return makers


def pytorch(config: ConfigDict, source: Source) -> dict[str, Callable[[], Contestant]]:
    """Returns makers of one run in PyTorch, with packed and with padded clips."""
    from benchmarks.pytorch import training_steps

    steps = training_steps(make_setting(config, source))
    return {name: stepping(step, _TURN_STEPS) for name, step in steps.items()}
