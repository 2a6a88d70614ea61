"""The cost of input: resident and streamed data against constant batches on the device.

  resident  many steps per call with data in device memory, against the same steps with one constant
            batch of each length
  streamed  one step per call with data that Grain reads, against one step per call with a constant
            batch

Measures the size of the config and a larger one.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.experiment import Setting, make_setting, source_of
from benchmarks.harness import LEAST_ROUNDS, Contestant, Options, Row, compete, judged, say, spread
from gru_audio.config import override
from gru_audio.training.loader import Loader
from gru_audio.training.placement import Kind
from gru_audio.training.step import METRICS, TrainState

LARGER = {"model.hidden": 256, "train.batch_size": 64}
# The peer of each loader, and the smallest speed relative to it.
PEERS = {"resident": {"constant": 0.95}, "streamed": {"constant, one a call": 0.85}}
STREAMED_FROM_MS = 20.0  # the minimum for streamed data applies to steps of at least 20 ms
_TURN_SECONDS = 1.0  # at most; long, because Grain reads some batches during other turns
_MOST_STEPS = 200  # per turn
_HOST_BATCHES = 50  # batches for the times on the host
_ALIVE = np.ones(1, bool)

Steps = Callable[[TrainState, int, int], TrainState]  # (state, first step, last step) -> state


def measure(options: Options, larger: Mapping[str, Any] = LARGER) -> Iterator[Row]:
    """Times both loaders and their peers over the same steps.

    Args:
      options: options of the command line.
      larger: changes to the config for the larger size; {}: no larger size.

    Raises:
      UserError: the data set is not prepared.
    """
    assert options.config
    source = source_of(options.config)
    for config in (options.config, override(options.config, dict(larger)))[: 1 + bool(larger)]:
        name = f"hidden {config.model.hidden}, batch {config.train.batch_size}"
        say(f"{name}: reading data, compiling")
        yield from _measure_size(make_setting(config, source), options.seconds, name)


def _measure_size(setting: Setting, seconds: float, name: str) -> Iterator[Row]:
    before = _peak_host_bytes()
    loaders = {kind: setting.loader(kind) for kind in ("resident", "streamed")}
    fresh = loaders["resident"].initial_state(setting.hyper)
    compiled = loaders["resident"].placement.compile_time.wall
    many, one = _constant(setting, fresh)
    steps: dict[str, Steps] = {
        "resident": _by_calls(loaders["resident"]),
        "constant": many,
        "streamed": _by_steps(loaders["streamed"]),
        "constant, one a call": one,
    }
    states = {kind: jax.tree.map(jnp.copy, fresh) for kind in steps}

    # Compiles: an epoch contains all lengths.
    epoch = min(setting.data.plan.epoch_steps, _MOST_STEPS)
    for kind, run in steps.items():
        states[kind] = run(states[kind], 0, epoch)
    began = time.perf_counter()
    states["constant"] = many(states["constant"], 0, epoch)
    step_seconds = (time.perf_counter() - began) / epoch
    turn_seconds = min(_TURN_SECONDS, seconds / (len(steps) * LEAST_ROUNDS))
    count = int(np.clip(turn_seconds / step_seconds, 1, _MOST_STEPS))

    def contestant(kind: str) -> Contestant:
        def turn(round_: int) -> None:
            start = epoch + round_ * count
            states[kind] = steps[kind](states[kind], start, start + count)

        about: Row = {}
        if kind in loaders:
            loader = loaders[kind]
            seconds = loader.placement.compile_time.wall - (compiled if kind == "resident" else 0.0)
            about = {"compile_seconds": seconds, "device_bytes": loader.placement.memory_bytes}
        return Contestant(turn, count, about=about)

    makers = {kind: lambda kind=kind: contestant(kind) for kind in steps}
    for row in compete(makers, seconds, [peer for peers in PEERS.values() for peer in peers]):
        peers = PEERS.get(row["contestant"], {})
        row["speed"] = {peer: found for peer, found in row["speed"].items() if peer in peers}
        if row["contestant"] == "resident" or row["ms"]["median"] >= STREAMED_FROM_MS:
            row = judged(row, peers)
        yield {"table": "A step fed by", "case": name, "steps_a_turn": count, **row}
    reading, assembling = _host_microseconds(setting)
    yield {
        "table": "On the host, one thread",
        "case": name,
        "padded_lengths": list(setting.data.plan.padded),
        "read_us_per_clip": reading,
        "read_and_assemble_us_per_clip": assembling,
        "before_bytes": before,
        "peak_bytes": _peak_host_bytes(),
    }


def _by_calls(loader: Loader) -> Steps:
    return lambda state, start, stop: loader.train(state, _ALIVE, start, stop)[0]


def _by_steps(loader: Loader) -> Steps:
    def run(state: TrainState, start: int, stop: int) -> TrainState:
        for step in range(start, stop):
            state, _ = loader.train(state, _ALIVE, step, step + 1)
        return state

    return run


def _constant(setting: Setting, state: TrainState) -> tuple[Steps, Steps]:
    """Compiles the peers: the steps of the plan with one constant batch of each length.

    Returns:
      Many steps per call, and one step per call. Both fetch the metrics, as loaders do.
    """
    program, placement, reader = setting.program, setting.placement, setting.reader()
    sizes = list(map(len, setting.data.tables[0]))
    # A bucket without examples is never visited, so any batch will do.
    buckets = [bucket if size else int(np.argmax(sizes)) for bucket, size in enumerate(sizes)]
    batches = [placement.put(reader.step(bucket, 0), Kind.ROWS) for bucket in buckets]

    def many_steps(state, batches, buckets, count):
        def body(i, carry):
            state, series = carry
            keys = program.keys(state, batches[0][0].row)
            branches = [
                lambda state, keys, batch=batch: program.gradients(state, keys, *batch)
                for batch in batches
            ]
            share = jax.lax.switch(buckets[i], branches, state, keys)
            state, metrics = program.update(state, share)
            return state, {k: series[k].at[i].set(v) for k, v in metrics.items()}

        series = {name: jnp.zeros(_MOST_STEPS) for name in METRICS}
        return jax.lax.fori_loop(0, count, body, (state, series))

    def one_step(state, batch):
        return program.train_step(state, *batch)

    def schedule(start: int, stop: int) -> np.ndarray:
        return setting.data.schedule(start, stop)[0][0]

    def call_arguments(start: int, stop: int):
        buckets = np.pad(schedule(start, stop), (0, _MOST_STEPS - (stop - start)))
        return placement.put((buckets, np.int32(stop - start)), Kind.SHARED)

    kinds = (Kind.MEMBER, Kind.ROWS, Kind.SHARED, Kind.SHARED)
    call = placement.compile(
        many_steps, (state, batches, *call_arguments(0, 1)), kinds, Kind.MEMBER, donate=(0,)
    )
    calls = [
        placement.compile(
            one_step, (state, batch), (Kind.MEMBER, Kind.ROWS), Kind.MEMBER, donate=(0,)
        )
        for batch in batches
    ]

    def many(state: TrainState, start: int, stop: int) -> TrainState:
        state, metrics = call(state, batches, *call_arguments(start, stop))
        jax.device_get(metrics)
        return state

    def one(state: TrainState, start: int, stop: int) -> TrainState:
        for bucket in schedule(start, stop):
            state, metrics = calls[bucket](state, batches[bucket])
            jax.device_get(metrics)
        return state

    return many, one


def _host_microseconds(setting: Setting) -> tuple[Row, Row]:
    """Returns microseconds per clip of one host thread for reading, and for reading a batch."""
    reader, source = setting.reader(), setting.data.source
    (buckets,), (visits,) = setting.data.schedule(0, _HOST_BATCHES)
    ids = np.random.default_rng(0).integers(len(source), size=(_HOST_BATCHES, setting.batch_size))
    read, assembled = [], []
    for chosen, bucket, visit in zip(ids, buckets, visits, strict=True):
        began = time.perf_counter()
        source.signals(chosen)
        between = time.perf_counter()
        reader.step(int(bucket), int(visit))
        read.append(between - began)
        assembled.append(time.perf_counter() - between)
    clips = setting.batch_size / 1e6
    return spread(np.array(read) / clips), spread(np.array(assembled) / clips)


def _peak_host_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
