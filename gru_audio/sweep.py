"""Runs an experiment's sweep: all its arms, draws and replicates, and writes the report.

  python -m gru_audio.sweep --config experiments/spoken_digit.py --workdir runs/spoken_digit
  python -m gru_audio.sweep --config experiments/spoken_digit.py --workdir runs/x --plan

Runs that differ in numbers only (learning rate, dropout, seed, held-out speaker, ...) form a group
and train together in one compiled program; --plan shows the groups and does nothing else. The same
command on the same --workdir skips what is finished and resumes what is not. A run that fails does
not stop the others; the exit code then is 1. Any value of the config can be set with
--config.NAME=VALUE.
"""

import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from gru_audio import command
from gru_audio.config import UserError
from gru_audio.reporting.wording import evidence, headline
from gru_audio.reporting.write import write_report
from gru_audio.sweeping.execute import Plan, execute, plan
from gru_audio.sweeping.workdir import Workdir
from gru_audio.training import processes
from gru_audio.training.parallel import use_cpu_cores

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory for all that the sweep writes.")
_PLAN = flags.DEFINE_bool("plan", False, "Show what would run, and stop.")
flags.mark_flags_as_required(["config", "workdir"])


def main(_: Sequence[str]) -> int:
    config = command.config(_CONFIG)
    use_cpu_cores(at_least=-(-config.parallel.data // config.parallel.processes))
    processes.join(config.parallel)
    module = command.experiment_module()
    if not hasattr(module, "get_sweep"):
        raise UserError("The experiment has no get_sweep(config); `train` runs a single config.")

    sweep, about = module.get_sweep(config), module.__doc__ or ""
    planned = plan(config, sweep, command.experiment_name(), about, command.command_line())
    if processes.first():
        _show(planned)
    if _PLAN.value:
        return 0

    workdir = Workdir(_WORKDIR.value)
    failed = execute(planned, workdir)
    if not processes.first():
        return 1 if failed else 0
    page, comparison = write_report(workdir.root)
    print(f"{headline(comparison)}. {evidence(comparison)}\nReport: {page}")
    for run in failed:
        print(f"failed: {run} (see {workdir.run(run)})", file=sys.stderr)
    return 1 if failed else 0


def _show(planned: Plan) -> None:
    """Prints the groups: one compiled program each."""
    table = Table(title=f"{len(planned.runs)} runs in {len(planned.groups)} programs")
    for column in ("program", "runs", "arms", "draws", "replicates", "steps"):
        table.add_column(column)
    for group in planned.groups:
        table.add_row(
            group.name,
            str(len(group.runs)),
            ", ".join(dict.fromkeys(run.arm for run in group.runs)),
            str(len({str(run.draw) for run in group.runs})),
            str(len({str(run.replicate) for run in group.runs})),
            ", ".join(dict.fromkeys(str(run.config.train.steps) for run in group.runs)),
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    command.run(main)
