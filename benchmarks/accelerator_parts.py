"""The parts of `accelerator`, each in a process of its own."""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
from ml_collections import ConfigDict

from benchmarks import input, kernels, memory, recurrence
from benchmarks.experiment import make_setting, source_of, training
from benchmarks.harness import Options, Row, compete_in_turn, judged, say
from benchmarks.layers import Case
from gru_audio.config import override
from gru_audio.training.tuning import Tuning

# Benchmarks that are measured as they are.
WHOLE = ("scaling", "streaming", "frontend", "convolution", "cells")
KINDS = ("check", "recurrence", "cudnn", "kernels", "sweep", "step", "input", "memory", *WHOLE)
ALONE = "1 run"
MOST_TIMES = {64: 6.0}  # how much longer than one run so many may take together
_SHAPES = {64: (128, 101, 40), 128: (32, 100, 40), 256: (64, 100, 64)}  # by hidden units
_TINY = (4, 10, 5)
_STEPS = 20  # of training in one turn
_COMPILING = 0.6  # of the limit of a part; contestants that need longer are left out


def measure(
    name: str, seconds: float, limit: float, config: ConfigDict, tiny: bool
) -> Iterator[Row]:
    """Yields the rows of a part.

    Args:
      name: of the part.
      seconds: duration of each comparison, without compilation.
      limit: seconds after which the process ends.
      config: config of an experiment on prepared noise.
      tiny: whether to measure tiny sizes, to try the command.
    """
    kind, *words = name.split()
    compete = functools.partial(compete_in_turn, patience=_COMPILING * limit)
    options = Options(seconds, config)
    size = int(words[-1]) if words and words[-1].isdigit() else 0
    usual = recurrence.precisions()[0]
    shape = (*_TINY, 8) if tiny else (*_SHAPES.get(size, _TINY), size)
    if kind == "check":
        yield from recurrence.checks(words)
    elif kind in ("recurrence", "cudnn"):
        precision = usual if kind == "recurrence" else "float32"
        case = Case(words[0], *shape, precision=precision)
        yield from recurrence.measure_case(case, seconds, compete=compete)
    elif kind == "kernels":
        case = Case(words[0], *shape, precision=usual)
        yield from kernels.measure(options, [case], compete=compete)
    elif kind == "sweep":
        one_by_one = functools.partial(compete, threads=1)  # they measure recurrences
        yield from sweep(config, [2 if tiny else size], seconds, one_by_one)
    elif kind == "step":
        yield from step(options)
    elif kind == "input":
        yield from input.measure(options, larger={})
    elif kind == "memory":
        yield from memory.measure(options, compete=compete)
    elif kind in WHOLE and (kind != "scaling" or len(jax.devices()) > 1):
        yield from importlib.import_module(f"benchmarks.{kind}").measure(options)


def sweep(
    config: ConfigDict,
    sizes: Sequence[int],
    seconds: float,
    compete: Callable[..., Iterator[Row]],
) -> Iterator[Row]:
    """Times groups of runs against one run, with recurrences chosen by measuring."""
    source = source_of(config)
    tunings = {size: Tuning(say) for size in (1, *sizes)}
    makers = {ALONE: training(make_setting(config, source, tuning=tunings[1]), _STEPS)}
    for size in sizes:
        spread = {"parallel.member": 0}
        setting = make_setting(config, source, spread, size, tunings[size])
        makers[f"{size} runs"] = training(setting, _STEPS, work=size)
    for row in compete(makers, seconds, [ALONE]):
        size = int(row["contestant"].split()[0])
        yield from chosen(tunings[size], size)
        if size > 1 and "failed" not in row:
            row["times_of_one"] = size / row["speed"][ALONE]["median"]
            if size in MOST_TIMES:
                row = judged(row, {ALONE: size / MOST_TIMES[size]})
        yield {"table": "Runs in one program", **row}


def chosen(tuning: Tuning, runs: int) -> Iterator[Row]:
    """Yields what was measured for the recurrences of a program."""
    for record in tuning.records():
        for row in record["rows"]:
            about: Mapping[str, object] = row["choice"]["settings"]
            words = [f"{name} {value}" for name, value in about.items()]
            found = {key: row[key] for key in ("us", "error", "failed") if key in row}
            yield {
                "table": "What auto measured",
                "runs": runs,
                "cell": record["problem"]["cell"],
                "contestant": ", ".join([row["choice"]["implementation"], *words])
                + (", command buffers" if row["choice"]["compiler_options"] else ""),
                **found,
            }


def step(options: Options) -> Iterator[Row]:
    """Times a training step: against PyTorch if it is there, else alone."""
    if importlib.util.find_spec("torch"):
        from benchmarks import step as against_pytorch

        yield from against_pytorch.measure(options, larger={}, cells=("gru",))
        return
    say("PyTorch is missing: a step of ours alone")
    assert options.config
    config = override(options.config, {"model.cell": "gru"})
    setting = make_setting(config, source_of(config), tuning=Tuning(say))
    for row in compete_in_turn({"ours": training(setting, _STEPS)}, options.seconds):
        yield {"table": "A training step; PyTorch is missing", **row}
