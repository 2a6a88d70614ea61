"""Long recordings: what each way to save memory saves, and what it costs in time.

One training step from sound (white noise of 15 s: time tells nothing of what was said), by each way
alone and by none. The memory of one minute, 64 clips and 512 units is the compiler's count: nothing
of that size is run. bfloat16 is left out on a CPU, which computes it in float32 and slowly.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from gru_audio.audio.normalise import Normalisation
from gru_audio.benchmarks.setting import Row, say
from gru_audio.benchmarks.timing import host, interleave, show_host, shown, spread
from gru_audio.config import check, override
from gru_audio.data.fields import ClassField
from gru_audio.data.resident import Batch
from gru_audio.data.signal import Signal
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.parallel import Compiled, Kind, make_layout
from gru_audio.training.program import make_program
from gru_audio.training.state import TrainState

SAMPLE_RATE, CLASSES = 8000, 10
NONE, HALF = "none", "bfloat16"
WAYS: Mapping[str, Mapping[str, Any]] = {
    NONE: {},
    "rematerialised": {"model.remat_frames": 100},
    "4 micro-batches": {"train.accumulate": 4},
    "truncated": {"train.truncate_frames": 250},
    HALF: {"model.compute_dtype": "bfloat16"},
}
RUN = {"seconds": 15, "model.hidden": 256, "train.batch_size": 16}
COUNTED = {"seconds": 60, "model.hidden": 512, "train.batch_size": 64}

_COMMON = {  # what all ways can do, on one device, and none of them yet
    "augment.mixup": 0.0,
    "model.name": "rnn_classifier",
    "model.bidirectional": False,
    "model.compute_dtype": "float32",
    "model.remat_frames": 0,
    "train.accumulate": 1,
    "train.truncate_frames": 0,
    "parallel.mode": "pjit",
    "parallel.data": 1,
    "parallel.member": 1,
}


def measure(
    config: ConfigDict,
    seconds: float,
    run: Mapping[str, Any] = RUN,
    counted: Mapping[str, Any] = COUNTED,
    ways: Sequence[str] = tuple(WAYS),
) -> dict[str, Any]:
    """Runs the benchmark. Numbers are in the unit that their names tell.

    Args:
      config: an experiment's; its data are not used.
      seconds: to spend on the steps, beside compilation.
      run: the size that is run: "seconds" of a clip, and changes to the config.
      counted: the size whose memory alone is counted.
      ways: which of `WAYS` to take, `NONE` among them.
    """
    check(config)
    config = override(config, _COMMON)
    steps: dict[str, Callable[[int], None]] = {}
    rows: list[Row] = []
    for name in ways:
        changes = WAYS[name]
        if name == HALF and jax.default_backend() == "cpu":
            continue
        say(f"{name}: compiling")
        small, state, batch = _step(config, {**run, **changes})
        large, _, _ = _step(config, {**counted, **changes}, abstract=True)
        steps[name] = _turn(small, state, batch)
        rows.append(
            {
                "way": name,
                "run_bytes": small.memory_bytes,
                "counted_bytes": large.memory_bytes,
                "compile_seconds": small.compile_time.wall,
            }
        )
    say("steps")
    times = interleave(steps, seconds)
    for row in rows:
        row["step_ms"] = spread(times[row["way"]] * 1e3)
        row["time_ratio"] = spread(times[row["way"]] / times[NONE])
    return {
        "benchmark": "memory",
        "host": host(),
        "run": dict(run),
        "counted": dict(counted),
        "rows": rows,
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a table of what `measure` returns: medians, with quartiles in brackets."""
    show_host(result["host"], console)
    table = Table(title=f"A training step on {_described(result['run'])}")
    for column in ("way to save memory", "set", "ms a step", "time ratio", "memory", "at large"):
        left = column in ("way to save memory", "set")
        table.add_column(column, justify="left" if left else "right")
    for row in result["rows"]:
        table.add_row(
            row["way"],
            ", ".join(f"{key}={value}" for key, value in WAYS[row["way"]].items()),
            shown(row["step_ms"]),
            shown(row["time_ratio"]),
            _size(row["run_bytes"]),
            _size(row["counted_bytes"]),
        )
    table.caption = (
        f"at large: {_described(result['counted'])}. Memory is arguments, results and what lies "
        "between, by the compiler's count."
    )
    console.print(table)


def _step(
    config: ConfigDict, size: Mapping[str, Any], abstract: bool = False
) -> tuple[Compiled, TrainState, Batch]:
    """A step for clips of a size, with a fresh state and a batch, or with their shapes only."""
    changes = {name: value for name, value in size.items() if name != "seconds"}
    config = override(config, changes)
    program = make_program(config, Signal(SAMPLE_RATE), ClassField(tuple(map(str, range(CLASSES)))))
    layout, rows = make_layout(config.parallel, 1), config.train.batch_size
    samples, width = size["seconds"] * SAMPLE_RATE, program.frontend.features

    def make() -> tuple[TrainState, Batch]:
        normalisation = Normalisation(jnp.zeros((1, width)), jnp.ones((1, width)))
        hyper = jax.tree.map(jnp.asarray, hyperparameters([config]))
        seed = jnp.full(1, config.seed, jnp.uint32)
        places = jnp.arange(rows)[None]
        audio = 3000 * jax.random.normal(jax.random.key(0), (1, rows, samples))
        length, start = jnp.full((1, rows), samples), jnp.zeros((1, rows), jnp.int32)
        batch = Batch(audio.astype(jnp.int16), length, start, places % CLASSES, places)
        return jax.vmap(program.init)(seed, hyper, normalisation), batch

    shardings = layout.sharding(Kind.MEMBER), layout.sharding(Kind.ROWS)
    if abstract:
        state, batch = (
            jax.tree.map(
                lambda a, s=sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree
            )
            for tree, sharding in zip(jax.eval_shape(make), shardings, strict=True)
        )
    else:
        state, batch = jax.jit(make, out_shardings=shardings)()
    call = layout.compile(
        lambda state, batch: program.train_step(state, batch),
        (state, batch),
        (Kind.MEMBER, Kind.ROWS),
        Kind.MEMBER,
        donate=(0,),
    )
    return call, state, batch


def _turn(step: Compiled, state: TrainState, batch: Batch) -> Callable[[int], None]:
    def turn(_: int) -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)

    return turn


def _described(size: Row) -> str:
    return (
        f"{size['train.batch_size']} clips of {size['seconds']} s at {SAMPLE_RATE} Hz, "
        f"hidden {size['model.hidden']}"
    )


def _size(count: int | None) -> str:
    return "?" if count is None else f"{count / 2**30:.2f} GiB"
