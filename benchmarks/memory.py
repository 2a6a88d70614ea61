"""Memory and time of each method for training on long recordings.

Measures one training step from sound (15 s of white noise) with each method alone and with none.
For clips of one minute, batch 64 and 512 units, the memory is the compiler's figure, and nothing is
run. bfloat16 is left out on a CPU, which emulates it slowly. Memory includes arguments, results and
temporaries.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks.harness import Contestant, Options, Row, compete
from gru_audio.audio.normalise import Normalisation
from gru_audio.config import override
from gru_audio.data.fields import ClassField
from gru_audio.data.resident import Batch
from gru_audio.data.signal import Signal
from gru_audio.training.compiled import Compiled
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.placement import Kind, make_placement
from gru_audio.training.program import make_program
from gru_audio.training.step import TrainState

SAMPLE_RATE, CLASSES = 8000, 10
NONE, HALF = "none", "bfloat16"
WAYS: Mapping[str, Mapping[str, Any]] = {
    NONE: {},
    "rematerialised": {"model.remat_frames": 100},
    "4 micro-batches": {"train.grad_accumulation": 4},
    "truncated": {"train.tbptt_frames": 250},
    HALF: {"model.compute_dtype": "bfloat16"},
}
RUN = {"seconds": 15, "model.hidden": 256, "train.batch_size": 16}
COUNTED = {"seconds": 60, "model.hidden": 512, "train.batch_size": 64}

_COMMON = {  # one device, no method, and nothing that a method does not support
    "augment.mixup": 0.0,
    "model.name": "rnn_classifier",
    "model.bidirectional": False,
    "model.compute_dtype": "float32",
    "model.remat_frames": 0,
    "train.grad_accumulation": 1,
    "train.tbptt_frames": 0,
    "parallel.mode": "pjit",
    "parallel.data": 1,
    "parallel.member": 1,
}


def measure(
    options: Options,
    run: Mapping[str, Any] = RUN,
    counted: Mapping[str, Any] = COUNTED,
    ways: Sequence[str] = tuple(WAYS),
    compete: Callable[..., Iterable[Row]] = compete,
) -> Iterator[Row]:
    """Times a step with each method.

    Args:
      options: options of the command line. The data set of the config is not used.
      run: the size to run: "seconds" of a clip, and changes to the config.
      counted: the size of which only the memory is measured.
      ways: keys of `WAYS`, including `NONE`.
      compete: times the contestants.
    """
    assert options.config
    config = override(options.config, _COMMON)
    on_a_cpu = jax.default_backend() == "cpu"

    def contestant(name: str) -> Contestant:
        changes = WAYS[name]
        step, state, batch = _step(config, {**run, **changes})
        large, _, _ = _step(config, {**counted, **changes}, abstract=True)

        def turn(_: int) -> None:
            nonlocal state
            state, metrics = step(state, batch)
            jax.block_until_ready(metrics)

        about = {
            "memory_bytes": step.memory_bytes,
            "at_large_memory_bytes": large.memory_bytes,
            "compile_seconds": step.compile_time.wall,
            "set": [f"{key}={value}" for key, value in changes.items()],
        }
        return Contestant(turn, about=about)

    makers = {
        name: lambda name=name: contestant(name) for name in ways if not (on_a_cpu and name == HALF)
    }
    table = f"A training step on {_described(run)}; at large: {_described(counted)}"
    for row in compete(makers, options.seconds, [NONE]):
        yield {"table": table, **row}


def _step(
    config: ConfigDict, size: Mapping[str, Any], abstract: bool = False
) -> tuple[Compiled, TrainState, Batch]:
    """Compiles a step for clips of a size; returns it with state and batch, or their shapes."""
    config = override(config, {name: value for name, value in size.items() if name != "seconds"})
    program = make_program(config, Signal(SAMPLE_RATE), ClassField(tuple(map(str, range(CLASSES)))))
    placement, rows = make_placement(config.parallel, 1), config.train.batch_size
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

    shardings = placement.sharding(Kind.MEMBER), placement.sharding(Kind.ROWS)
    if abstract:
        state, batch = (
            jax.tree.map(
                lambda a, s=sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree
            )
            for tree, sharding in zip(jax.eval_shape(make), shardings, strict=True)
        )
    else:
        state, batch = jax.jit(make, out_shardings=shardings)()
    call = placement.compile(
        lambda state, batch: program.train_step(state, batch),
        (state, batch),
        (Kind.MEMBER, Kind.ROWS),
        Kind.MEMBER,
        donate=(0,),
    )
    return call, state, batch


def _described(size: Mapping[str, Any]) -> str:
    return (
        f"{size['train.batch_size']} clips of {size['seconds']} s at {SAMPLE_RATE} Hz, "
        f"hidden {size['model.hidden']}"
    )
