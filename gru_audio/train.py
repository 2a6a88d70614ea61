r"""Trains one run of an experiment.

  python -m gru_audio.train --config experiments/spoken_digit.py --workdir runs/one
  python -m gru_audio.train --config experiments/spoken_digit.py --workdir runs/lstm \
      --config.model.cell=lstm --config.optimizer.learning_rate=0.002

--config.NAME=VALUE sets a value of the config; --help_config lists the names. The same command on
the same --workdir resumes a run that stopped for any reason. With a larger --config.train.steps a
run continues, even if it has finished, and gives the same result as a run of that many steps; this
needs --config.optimizer.schedule=constant. The model, its metrics and its predictions are written
to WORKDIR/runs/RUN, and a report to WORKDIR/report/index.html. --profile STEPS traces some steps
with JAX's profiler, into WORKDIR/groups, and prints how to open the trace.
"""

import sys
from collections.abc import Sequence

from absl import flags

from gru_audio import command

command.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory for all files of the run.")
_PROFILE = flags.DEFINE_integer(
    "profile", 0, "Trace this many steps, for XProf and Perfetto.", lower_bound=0
)
flags.register_multi_flags_validator(
    ["config", "workdir", "help_config"],
    lambda values: values["config"] and (values["workdir"] or values["help_config"]),
    message="Name an experiment by --config and a directory by --workdir.",
)


def main(_: Sequence[str]) -> int:
    if _WORKDIR.value:
        command.output_folder("workdir", _WORKDIR.value)
    config = command.config()
    command.check_data(config)

    # These imports take seconds: help and errors in the config do not wait for them.
    from gru_audio.reports.write import write_report
    from gru_audio.sweeps.execute import execute
    from gru_audio.sweeps.planning import plan
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

    # A run is a sweep with one member.
    variant = config.model.get("cell", config.model.name)
    sweep = Sweep(variants={variant: {}}, replicates=[{"seed": config.seed}])
    about = module.__doc__ or ""
    name, line = command.experiment_name(), command.command_line()
    workdir = Workdir(_WORKDIR.value)
    planned = plan(config, sweep, name, about, line, workdir=workdir)
    if distributed.first():
        for remark in planned.remarks:
            print(f"note: {remark}", file=sys.stderr)
    failed = execute(planned, workdir, _PROFILE.value)
    if not distributed.first():
        return 1 if failed else 0
    if failed:
        print(workdir.failure(failed[0]), file=sys.stderr)
        return 1
    print(f"Report: {write_report(workdir.root)[0]}")
    return 0


if __name__ == "__main__":
    command.run(main)
