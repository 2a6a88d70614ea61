"""Many runs in one program, against the same runs one after another.

Two blocks, each with contestants that take turns:

  the experiment   its steps as configured: groups of several sizes against one run alone on one
                   device; "times as fast" is the size times the time of one run's step over the
                   time of the group's
  plain            the same without noise and with clips of one length, so that PyTorch can be
                   asked too: eager `nn.GRU`, run by run, on the GPU (cuDNN) where there is one; the
                   faster of its two forms, clips packed or padded, is the peer
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks.setting import Row, Setting, make_setting, plain, say
from benchmarks.timing import fastest, host, interleave, show_host, shown, speed, spread
from gru_audio.config import check, override
from gru_audio.data.source import Source, open_source
from gru_audio.training.feed import Feed

_ALONE = "alone"
_Turn = Callable[[int], None]
_RATIOS = ("times_as_fast", "time_of_one", "times_as_fast_as_peer")
_ONE_LENGTH = {"data.buckets": 1, "data.crop_seconds": 0.5}
_TURN_STEPS = 20
# Bars: on a CPU times as fast as one after another; on a GPU the group's step over one run's.
CPU_BARS = {8: 1.5}
GPU_BARS = {16: 2.0, 64: 6.0}


def measure(
    config: ConfigDict, seconds: float, sizes: Sequence[int] | None = None
) -> dict[str, Any]:
    """Runs the benchmark. Numbers are in the unit that their names tell.

    Args:
      config: an experiment's.
      seconds: to spend on each contestant, beside compilation.
      sizes: runs in a group; None: those that have bars on this platform.

    Raises:
      UserError: the config is impossible or its data set is not prepared.
    """
    check(config)
    source = open_source(config.data.name, config.data.dir)
    cpu = jax.default_backend() == "cpu"
    sizes = sizes or tuple(CPU_BARS if cpu else GPU_BARS)
    blocks = {"the experiment": _block(config, source, seconds, sizes, dict)}
    if importlib.util.find_spec("torch"):
        from benchmarks.step_pytorch import pytorch_turns

        alike = override(plain(config), _ONE_LENGTH)
        blocks["plain"] = _block(
            alike,
            source,
            seconds,
            sizes,
            lambda: pytorch_turns(make_setting(alike, source), _TURN_STEPS),
        )
    return {
        "benchmark": "sweep",
        "data": source.name,
        "host": host(),
        "platform": jax.default_backend(),
        "cell": config.model.cell,
        "hidden": config.model.hidden,
        "batch_size": config.train.batch_size,
        "blocks": blocks,
    }


def _block(
    config: ConfigDict,
    source: Source,
    seconds: float,
    sizes: Sequence[int],
    make_peers: Callable[[], dict[str, _Turn]],
) -> list[Row]:
    everywhere = {"parallel.member": 0}
    settings = {_ALONE: make_setting(config, source)} | {
        f"{size} together": make_setting(config, source, everywhere, members=size) for size in sizes
    }
    turns: dict[str, _Turn] = {}
    feeds: dict[str, Feed] = {}
    for name, setting in settings.items():
        say(f"{name}: compiling")
        turns[name], feeds[name] = _turn(setting)
    peers = make_peers()
    turns |= peers
    say(f"{len(turns)} contestants in turns")
    times = interleave(turns, seconds * len(turns))
    ms = {name: taken / _TURN_STEPS * 1e3 for name, taken in times.items()}
    rows: list[Row] = [{"runs": 1, "contestant": _ALONE} | _numbers(ms[_ALONE], feeds[_ALONE])]
    for name, size in zip(list(settings)[1:], sizes, strict=True):
        row = {"runs": size, "contestant": name} | _numbers(ms[name], feeds[name])
        row |= compared(size, ms[name], ms[_ALONE], {peer: ms[peer] for peer in peers})
        rows.append(row)
    rows += [{"runs": 1, "contestant": peer, "step_ms": spread(ms[peer])} for peer in peers]
    return rows


def compared(
    size: int, together: np.ndarray, alone: np.ndarray, peers: Mapping[str, np.ndarray]
) -> Row:
    """Ratios of so many runs together to one alone, and to the fastest of the peers if any are.

    Args:
      size: runs in the group.
      together, alone: times of a step of all, and of one run's.
      peers: times of a step of one run, by the peer's name.
    """
    row: Row = {
        "times_as_fast": speed(together, size * alone),
        "time_of_one": spread(together / alone),
    }
    if peers:
        peer = fastest(peers)
        row |= {"peer": peer, "times_as_fast_as_peer": speed(together, size * peers[peer])}
    return row


def _turn(setting: Setting) -> tuple[_Turn, Feed]:
    feed = setting.feed("resident")
    alive = np.ones(len(setting.data.seeds), bool)
    state = feed.initial_state(setting.hyper)

    def turn(round_: int) -> None:
        nonlocal state
        start = round_ * _TURN_STEPS
        state, _ = feed.train(state, alive, start, start + _TURN_STEPS)

    return turn, feed


def _numbers(ms: np.ndarray, feed: Feed) -> Row:
    return {
        "step_ms": spread(ms),
        "memory_bytes": feed.memory_bytes,
        "compile_seconds": feed.compile_time.wall,
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Prints tables of what `measure` returns: medians, with quartiles in brackets."""
    show_host(result["host"], console)
    cpu = result["platform"] == "cpu"
    for block, rows in result["blocks"].items():
        table = Table(
            title=f"{block}: {result['cell']}, hidden {result['hidden']}, batch "
            f"{result['batch_size']} of {result['data']}"
        )
        for column in (
            "runs",
            "ms a step of all",
            "times as fast",
            "time of one",
            "than PyTorch",
            "bar",
            "memory",
            "compile s",
        ):
            table.add_column(column, justify="left" if column == "runs" else "right")
        for row in rows:
            table.add_row(
                row["contestant"],
                shown(row["step_ms"]),
                *(shown(row[key]) if key in row else "" for key in _RATIOS),
                _bar(row, cpu),
                f"{row['memory_bytes'] / 1e6:.0f} MB" if "memory_bytes" in row else "",
                f"{row['compile_seconds']:.1f}" if "compile_seconds" in row else "",
            )
        console.print(table)
    if "plain" not in result["blocks"]:
        console.print("PyTorch is not installed, so nothing is compared with it: install [bench].")


def _bar(row: Row, cpu: bool) -> str:
    bar = (CPU_BARS if cpu else GPU_BARS).get(row["runs"])
    if bar is None:
        return ""
    value = row["times_as_fast" if cpu else "time_of_one"]["median"]
    met = value >= bar if cpu else value <= bar
    return f"{'met' if met else 'MISSED'} ({bar:g})"
