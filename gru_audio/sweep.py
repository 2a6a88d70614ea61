"""Trains all runs of an experiment (variants, trials and replicates), and writes the report.

  python -m gru_audio.sweep --config experiments/spoken_digit.py --workdir runs/spoken_digit
  python -m gru_audio.sweep --config experiments/spoken_digit.py --workdir runs/x --plan
  python -m gru_audio.sweep --config experiments/spoken_digit.py --workdir runs/x --shard 2/3
  python -m gru_audio.sweep --status runs/spoken_digit

Runs that differ only in numbers (learning rate, dropout, seed, held-out speaker, ...) form a group
and train together in one compiled program. --plan shows the groups and does nothing else. The same
command on the same --workdir skips finished runs and resumes the others. A run that fails does not
stop the others; the exit code is then 1. --config.NAME=VALUE sets a value of the config;
--help_config lists the names.

--plan --topology v5e:4x4 compiles every program for that TPU, which need not be here (extra [aot]),
and shows memory, communication and least times. For GPUs, such as h100:8, programs are not compiled
to the end: their memory is not known. Several topologies are compared: --topology v5e:4x4,v6e:2x2
--chip_price v5e=1.2,v6e=2.7 (per chip-hour). The results are kept in WORKDIR/plans, and a repeated
command continues. The exit code is 1 if a program does not fit. A plan ends with the commands that
launch the sweep: here, on a cluster, or on the chips of the topology.

--shard I/N runs part I of N parts of the work. Shards share a workdir. They may run at the same
time, also on several machines that share its disk. The numbers do not depend on N. If N changes
later, finished runs are skipped, and unfinished runs start again.

--profile STEPS traces some steps of each program with JAX's profiler, into WORKDIR/groups, and
prints how to open the trace. Results stay the same.

--status shows the progress of every run, on any machine that can read the workdir. The exit code is
1 if a run has failed. --json prints the status as JSON.
"""

import datetime
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from gru_audio import command
from gru_audio.settings import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from gru_audio.sweeps.forecast import Forecast
    from gru_audio.sweeps.planning import Plan
    from gru_audio.sweeps.status import RunState

command.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory for all files of the sweep.")
_PLAN = flags.DEFINE_bool("plan", False, "Show what would run, and stop.")
_TOPOLOGY = flags.DEFINE_list(
    "topology",
    None,
    'With --plan: chips to compile for, such as v5e:4x4 or h100:8; "local": the devices here.',
)
_PRICE = flags.DEFINE_list(
    "chip_price", None, "With --topology: prices per chip-hour, such as v5e=1.2,v6e=2.7."
)
_PROFILE = flags.DEFINE_integer(
    "profile", 0, "Trace this many steps of each program, for XProf and Perfetto.", lower_bound=0
)
_SHARD = flags.DEFINE_string("shard", "1/1", "Which part of the sweep to run, as I/N.")
_STATUS = flags.DEFINE_string("status", None, "A workdir: show the state of its runs, and stop.")
_JSON = flags.DEFINE_bool("json", False, "Show the status as JSON.")
flags.register_multi_flags_validator(
    ["config", "workdir", "status", "help_config"],
    lambda values: (
        values["status"] or (values["config"] and (values["workdir"] or values["help_config"]))
    ),
    message="Name an experiment by --config and a directory by --workdir, or use --status.",
)
flags.register_multi_flags_validator(
    ["json", "status"],
    lambda values: values["status"] or not values["json"],
    message="--json needs --status.",
)


flags.register_multi_flags_validator(
    ["plan", "topology"],
    lambda values: values["plan"] or not values["topology"],
    message="--topology needs --plan.",
)


def main(_: Sequence[str]) -> int:
    if _STATUS.value:
        return _status(epath.Path(_STATUS.value))
    if _WORKDIR.value:
        command.output_folder("workdir", _WORKDIR.value)
    config = command.config()
    command.check_data(config)
    from gru_audio.sweeps.shard import Shard

    shard = Shard.parse(_SHARD.value)

    # These imports take seconds: help, the status and errors in the config do not wait for them.
    from gru_audio.sweeps.execute import execute
    from gru_audio.sweeps.planning import plan
    from gru_audio.sweeps.rounds import next_round
    from gru_audio.sweeps.sweep import Sweep
    from gru_audio.sweeps.workdir import Workdir
    from gru_audio.training import distributed
    from gru_audio.training.checkpoint import silence
    from gru_audio.training.compilation import use_compilation_cache
    from gru_audio.training.distributed import use_cpu_cores

    use_cpu_cores(at_least=-(-config.parallel.data // config.parallel.processes))
    distributed.join(config.parallel)
    use_compilation_cache(config.parallel.compilation_cache)
    silence()
    module = command.experiment_module()
    sweep, about = command.experiment_sweep(module, config), module.__doc__ or ""
    if not isinstance(sweep, Sweep):
        raise UserError("get_sweep(config) must return a gru_audio.sweeps.sweep.Sweep.")
    name, line = command.experiment_name(), command.command_line()
    workdir = Workdir(_WORKDIR.value)
    following: Sweep | None = sweep
    while following:  # once, or for each round of a search
        planned = plan(config, following, name, about, line, shard, workdir)
        if distributed.first():
            _show_plan(planned)
            for remark in planned.remarks:
                print(f"note: {remark}", file=sys.stderr)
        if _PLAN.value:
            code = _forecast(planned) if _TOPOLOGY.value else 0
            _show_commands(planned, config.data.name)
            return code
        failed = execute(planned, workdir, _PROFILE.value)
        following = next_round(planned, workdir)
    if not distributed.first():
        return 1 if failed else 0
    from gru_audio.reports.context import summary
    from gru_audio.reports.write import write_report

    page, comparison = write_report(workdir.root)
    for line in summary(comparison):
        print(line)
    print(f"Report: {page}")
    for run in failed:
        print(workdir.failure(run), file=sys.stderr)
    return 1 if failed else 0


def _show_plan(planned: "Plan") -> None:
    """Prints the groups, one compiled program each, and the shard of each."""
    from rich.table import Table

    from gru_audio.sweeps.optuna import Search

    groups = [(i, group) for i, shard in enumerate(planned.shards, 1) for group in shard]
    runs = sum(len(group.runs) for _, group in groups)
    shard = planned.shard
    shards = f", in {shard.count} shards: this is {shard}" if shard.count > 1 else ""
    table = Table(title=f"{runs} runs in {len(groups)} programs{shards}")
    for column in ("shard", "program", "runs", "variants", "trials", "replicates", "steps"):
        if column != "shard" or shard.count > 1:
            table.add_column(column)
    for i, group in groups:
        table.add_row(
            *([str(i)] if shard.count > 1 else []),
            group.name,
            str(len(group.runs)),
            ", ".join(dict.fromkeys(run.variant for run in group.runs)),
            str(len({str(run.trial) for run in group.runs})),
            str(len({str(run.replicate) for run in group.runs})),
            ", ".join(dict.fromkeys(str(run.config.train.steps) for run in group.runs)),
            style=None if i == shard.index else "dim",
        )
    if halving := planned.sweep.halving:
        left, counts = len(planned.sweep.rounds(groups[0][1].runs[0].variant)[0]), []
        for rung in halving.rungs:
            left = halving.survivors(left)
            counts.append(f"{left} after step {rung}")
        table.caption = f"Trials kept of each variant: {', '.join(counts)}"
    if isinstance(search := planned.sweep.trials, Search):
        done = max(run.round for _, group in groups for run in group.runs)
        table.title = f"{table.title}: round {done} of {search.rounds}"
    _console().print(table)
    if not planned.groups:
        print(f"Shard {shard} is empty: the sweep has only {len(groups)} parts.")


def _forecast(planned: "Plan") -> int:
    """Compiles the programs for the topologies. Returns 1 if a program does not fit."""
    from rich.table import Table

    from gru_audio.sweeps.forecast import LOCAL, chip_prices, forecasts, topology

    folder, costs, failed = epath.Path(_WORKDIR.value) / "plans", {}, False
    prices = chip_prices(_PRICE.value or [])
    for on in [topology(name) for name in _TOPOLOGY.value or ()]:
        found = list(forecasts(planned, on, folder, lambda s: print(s, file=sys.stderr)))
        failed |= any(forecast.error for forecast in found)
        table = Table(title=f"On {on.name} ({on.chips} chips)")
        table.add_column("program", no_wrap=True)
        for column in ("vmap", "MiB", "GFLOP", "MB", "loops", "ms >=", "idle", "kernels"):
            table.add_column(column, justify="right")
        table.add_column("collectives")
        for forecast in found:
            table.add_row(forecast.program, *_cells(forecast))
        table.caption = (
            "vmap: runs of a chip that train side by side. MiB: memory of a chip. GFLOP, MB, loops "
            "and ms of a step on a chip; loops: iterations that follow one another. idle: chips."
        )
        if on.name != LOCAL:
            hours = sum(forecast.chip_hours or 0.0 for forecast in found)
            table.caption += (
                f"\nAt least {hours:.3g} chip-hours of training, {hours / on.chips:.3g} hours: no "
                "faster than the published peaks of the chip, and assuming at least 1 microsecond "
                "an iteration."
            )
        if on.platform == "gpu" and on.chip:
            table.caption += (
                "\nNot known without the GPU: memory, whether a program fits, bytes. All runs of a "
                "GPU are taken to go side by side, and the kernels to be those for the GPU with "
                "the least shared memory."
            )
            if on.chip in prices and not any(forecast.error for forecast in found):
                costs[on.name] = hours * prices[on.chip]
        _console().print(table)
    for name, cost in sorted(costs.items(), key=lambda pair: pair[1]):
        print(f"{name}: at least {cost:.3g} for training")
    if len(costs) > 1:
        print(f"cheapest, by these least costs: {min(costs, key=lambda name: costs[name])}")
    return int(failed)


def _show_commands(planned: "Plan", data_set: str) -> None:
    """Prints how to launch the sweep at each place."""
    from gru_audio.sweeps.launching import commands

    places: dict[str, str] = {}
    for topology in ["", *(name for name in _TOPOLOGY.value or () if ":" in name)]:
        shards = planned.shard.count
        if shards == 1 and not topology:
            shards = sum(len(groups) for groups in planned.shards)
        found = commands(sys.argv[1:], data_set.replace("tfds_", "tfds:", 1), topology, shards)
        places |= {f"{place}, {topology}" if topology else place: c for place, c in found.items()}
    print("To launch it from a checkout (see launch/README.md; replace words in capitals):")
    for place, line in places.items():
        print(f"\n{place}\n  {line}")


def _cells(forecast: "Forecast") -> list[str]:
    if forecast.error:
        return [""] * 8 + [f"does not fit: {forecast.error}"]
    collectives = [f"{count} {kind}" for kind, count in (forecast.collectives or {}).items()]
    return [
        str(forecast.side_by_side),
        "?" if forecast.memory_bytes is None else f"{forecast.memory_bytes / 2**20:,.0f}",
        f"{forecast.flops / 1e9:.3g}",
        f"{forecast.bytes / 1e6:.3g}" if forecast.bytes else "?",
        str(forecast.iterations),
        "" if forecast.step_seconds is None else f"{1e3 * forecast.step_seconds:.3g}",
        str(forecast.idle_chips),
        "\n".join([str(forecast.kernels), *sorted(set(forecast.kernel_names))]),
        ", ".join(collectives) or "none",
    ]


def _status(workdir: epath.Path) -> int:
    """Prints the state of the runs. Returns the exit code: 1 if a run has failed."""
    from gru_audio.sweeps.status import FAILED, read_run_states, read_sweep

    now = datetime.datetime.now(datetime.UTC)
    sweep = read_sweep(workdir)
    run_states = read_run_states(workdir, sweep, now)
    counts = Counter(run_state.state for run_state in run_states)
    if _JSON.value:
        print(json.dumps([asdict(run_state) for run_state in run_states], default=str, indent=1))
    else:
        _show_run_states(run_states, sweep["selection"], now)
        summary = ", ".join(f"{count} {state}" for state, count in counts.most_common())
        print(f"{len(run_states)} run{'s' if len(run_states) > 1 else ''}: {summary}")
    for run_state in run_states:
        if run_state.state == FAILED:
            print(f"failed: {run_state.run}: {run_state.failure}", file=sys.stderr)
    return 1 if counts[FAILED] else 0


def _show_run_states(
    run_states: Sequence["RunState"], selection: str, now: datetime.datetime
) -> None:
    from rich.table import Table

    table = Table()
    for column in ("run", "state", "step", f"best {selection}", "heartbeat", "host", "shard"):
        table.add_column(column, overflow="fold")  # long names stay whole, so they can be copied
    for run_state in run_states:
        age = max(now - run_state.heartbeat, datetime.timedelta()) if run_state.heartbeat else None
        table.add_row(
            run_state.run,
            run_state.state,
            f"{run_state.step}/{run_state.steps}",
            "" if run_state.best is None else f"{run_state.best:.4g}",
            "" if age is None else f"{datetime.timedelta(seconds=round(age.total_seconds()))} ago",
            run_state.host or "",
            run_state.shard or "",
        )
    _console().print(table)


def _console() -> "Console":
    from rich.console import Console

    width = None if sys.stdout.isatty() else 110
    return Console(width=width, markup=False, emoji=False)  # prints names unchanged


if __name__ == "__main__":
    command.run(main)
