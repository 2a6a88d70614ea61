"""A training step of one member on one device, without a loader or a data set."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.normalise import Normalisation
from gru_audio.config import override
from gru_audio.data.fields import ClassField
from gru_audio.data.resident import Batch
from gru_audio.data.signal import Signal
from gru_audio.training.compiled import Compiled
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.placement import Kind, make_placement
from gru_audio.training.program import make_program
from gru_audio.training.step import DATA, Program, TrainState
from tests.tones import RATE, tiny

CLASSES = ("low", "middle", "high")
FAST: Mapping[str, Any] = {"model.recurrent_init": "uniform"}  # to compile


def on_one_device(function):
    """Compiles a function that reduces over devices, for one device."""

    @jax.jit
    def call(*arguments):
        added = jax.tree.map(lambda a: jnp.asarray(a)[None], arguments)
        return jax.tree.map(lambda a: a[0], jax.vmap(function, axis_name=DATA)(*added))

    return call


def program_of(changes: Mapping[str, Any]) -> Program:
    return make_program(override(tiny(FAST), changes), Signal(RATE), ClassField(CLASSES))


def fresh_state(program: Program, changes: Mapping[str, Any]) -> TrainState:
    """Returns a member before its first step, on features without normalisation."""
    hyper = {name: values[0] for name, values in hyperparameters([tiny(changes)]).items()}
    width = program.frontend.features
    return jax.jit(program.init)(
        np.uint32(0), hyper, Normalisation(jnp.zeros(width), jnp.ones(width))
    )


def noise(program: Program, frames: list[int]) -> Batch:
    """Returns clips of white noise with the given number of frames."""
    lengths = np.array([program.frontend.samples(count) for count in frames], np.int32)
    audio = np.random.default_rng(0).normal(0, 3000, (len(frames), lengths.max()))
    inside = np.arange(lengths.max()) < lengths[:, None]
    rows = np.arange(len(frames), dtype=np.int32)
    return Batch(
        np.where(inside, audio, 0).astype(np.int16), lengths, 0 * rows, rows % len(CLASSES), rows
    )


def compiled_step(changes: Mapping[str, Any], frames: int, sample_rate: int = RATE) -> Compiled:
    """Compiles a training step from int16 samples without running it."""
    config = override(tiny(FAST), changes)
    program = make_program(config, Signal(sample_rate), ClassField(CLASSES))
    placement, rows = make_placement(config.parallel, 1), config.train.batch_size

    def abstract(dtype, kind, *shape):
        return jax.ShapeDtypeStruct((1, *shape), dtype, sharding=placement.sharding(kind))

    of_member = functools.partial(abstract, kind=Kind.MEMBER)
    width = program.frontend.features
    hyper = {name: of_member(jnp.float32) for name in hyperparameters([config])}
    statistics = abstract(jnp.float32, Kind.MEMBER, width)
    state = jax.eval_shape(
        jax.vmap(program.init), of_member(jnp.uint32), hyper, Normalisation(statistics, statistics)
    )
    state = jax.tree.map(lambda a: abstract(a.dtype, Kind.MEMBER, *a.shape[1:]), state)
    audio = abstract(jnp.int16, Kind.ROWS, rows, program.frontend.samples(frames))
    column = abstract(jnp.int32, Kind.ROWS, rows)
    return placement.compile(
        lambda state, batch: program.train_step(state, batch),
        (state, Batch(audio, *[column] * 4)),
        (Kind.MEMBER, Kind.ROWS),
        Kind.MEMBER,
        donate=(0,),
    )


def memory(compiled: Compiled) -> int:
    """Returns the bytes of arguments and temporaries."""
    sizes = compiled.call.memory_analysis()
    return sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
