"""What input costs: resident and streamed data against batches that already lie on the device."""

import resource
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.setting import Row, Setting, say
from benchmarks.timing import LEAST_ROUNDS, Spread, interleave, speed, spread
from gru_audio.training.feed import Feed
from gru_audio.training.parallel import Kind
from gru_audio.training.state import TrainState
from gru_audio.training.step import METRICS

_TURN_SECONDS = 1.0  # at most; long beside the few batches that Grain reads in others' turns
_MOST_STEPS = 200  # of a turn
_HOST_BATCHES = 50  # read for the times on the host
_ALIVE = np.ones(1, bool)

Steps = Callable[[TrainState, int, int], TrainState]  # from one step to another


def measure_input(setting: Setting, seconds: float, name: str) -> Row:
    """Both feeds and their peers, in turns over the same steps.

    Args:
      setting: of the run.
      seconds: to spend, beside compilation.
      name: of the setting, for the user.
    """
    say(f"{name}: reading data, compiling")
    before = _peak_host_bytes()
    resident, streamed = setting.feed("resident"), setting.feed("streamed")
    fresh = resident.initial_state(setting.hyper)
    compiled = resident.compile_time.wall
    many, one = _constant(setting, fresh)
    steps: dict[str, Steps] = {
        "resident": _by_calls(resident),
        "constant": many,
        "streamed": _by_steps(streamed),
        "constant, one a call": one,
    }
    states = {kind: jax.tree.map(jnp.copy, fresh) for kind in steps}

    # Once each, to compile: all lengths come in an epoch.
    epoch = min(setting.data.plan.epoch_steps, _MOST_STEPS)
    for kind, run in steps.items():
        states[kind] = run(states[kind], 0, epoch)
    began = time.perf_counter()
    states["constant"] = many(states["constant"], 0, epoch)
    step_seconds = (time.perf_counter() - began) / epoch
    turn_seconds = min(_TURN_SECONDS, seconds / (len(steps) * LEAST_ROUNDS))
    count = int(np.clip(turn_seconds / step_seconds, 1, _MOST_STEPS))

    def contestant(kind: str) -> Callable[[int], None]:
        def turn(round_: int) -> None:
            start = epoch + round_ * count
            states[kind] = steps[kind](states[kind], start, start + count)

        return turn

    say(f"{name}: input, {count} steps a turn")
    times = interleave({kind: contestant(kind) for kind in steps}, seconds)
    ms = {kind: taken / count * 1e3 for kind, taken in times.items()}
    reading, assembling = _host_microseconds(setting)
    return {
        "padded_lengths": list(setting.data.plan.padded),
        "steps_a_turn": count,
        "rounds": len(times["resident"]),
        "step_ms": {kind: spread(values) for kind, values in ms.items()},
        "resident_ratio": speed(ms["resident"], ms["constant"]),
        "streamed_ratio": speed(ms["streamed"], ms["constant, one a call"]),
        "read_us_per_clip": reading,
        "read_and_assemble_us_per_clip": assembling,
        "resident_compile_seconds": resident.compile_time.wall - compiled,
        "streamed_compile_seconds": streamed.compile_time.wall,
        "resident_device_bytes": resident.memory_bytes,
        "streamed_device_bytes": streamed.memory_bytes,
        "host_bytes_before": before,
        "peak_host_bytes": _peak_host_bytes(),
    }


def _by_calls(feed: Feed) -> Steps:
    return lambda state, start, stop: feed.train(state, _ALIVE, start, stop)[0]


def _by_steps(feed: Feed) -> Steps:
    def run(state: TrainState, start: int, stop: int) -> TrainState:
        for step in range(start, stop):
            state, _ = feed.train(state, _ALIVE, step, step + 1)
        return state

    return run


def _constant(setting: Setting, state: TrainState) -> tuple[Steps, Steps]:
    """The peers: the steps of the plan, each given the one batch of its length, on the device.

    Returns:
      Many steps a call, and one step a call; both bring the metrics to the host, as feeds do.
    """
    program, layout, reader = setting.program, setting.layout, setting.reader()
    sizes = list(map(len, setting.data.tables[0]))
    # A bucket without examples is never visited.
    shown = [bucket if size else int(np.argmax(sizes)) for bucket, size in enumerate(sizes)]
    given = [layout.put(reader.step(bucket, 0), Kind.ROWS) for bucket in shown]

    def many_steps(state, given, buckets, count):
        def body(i, carry):
            state, series = carry
            keys = program.keys(state, given[0][0].row)
            branches = [
                lambda state, keys, batch=batch: program.share(state, keys, *batch)
                for batch in given
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
        return layout.put((buckets, np.int32(stop - start)), Kind.SHARED)

    kinds = (Kind.MEMBER, Kind.ROWS, Kind.SHARED, Kind.SHARED)
    call = layout.compile(
        many_steps, (state, given, *call_arguments(0, 1)), kinds, Kind.MEMBER, donate=(0,)
    )
    calls = [
        layout.compile(one_step, (state, batch), (Kind.MEMBER, Kind.ROWS), Kind.MEMBER, donate=(0,))
        for batch in given
    ]

    def many(state: TrainState, start: int, stop: int) -> TrainState:
        state, metrics = call(state, given, *call_arguments(start, stop))
        jax.device_get(metrics)
        return state

    def one(state: TrainState, start: int, stop: int) -> TrainState:
        for bucket in schedule(start, stop):
            state, metrics = calls[bucket](state, given[bucket])
            jax.device_get(metrics)
        return state

    return many, one


def _host_microseconds(setting: Setting) -> tuple[Spread, Spread]:
    """A clip's time on the host, one thread: read alone; and read, placed and put together."""
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
