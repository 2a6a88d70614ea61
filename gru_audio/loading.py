"""Loads a trained model from a workdir or from an export."""

import datetime
import functools
import os

from etils import epath

from gru_audio.command import load_experiment
from gru_audio.exports import FORMATS
from gru_audio.files import read_json
from gru_audio.inference.model import Model
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.reports.scores import scores_of_run
from gru_audio.settings import UserError
from gru_audio.sweeps.halving import rank_trials
from gru_audio.sweeps.status import FINISHED, read_run_states, read_sweep
from gru_audio.sweeps.workdir import Workdir
from gru_audio.tasks import metric_called


def load(
    directory: str | os.PathLike[str],
    run: str | None = None,
    experiment: str | os.PathLike[str] | None = None,
) -> Model:
    """Loads a trained model.

    Args:
      directory: the workdir of a sweep or of a training run, also on gs://; or a folder that
        `export --format safetensors` wrote.
      run: the run of the workdir, such as "GRU-seed0". By default it is the finished run with the
        best selection metric (`config.train.select`) on its validation split.
      experiment: the experiment file, if it defines components of the run, such as a cell.

    Raises:
      UserError: there is no such model, or it is damaged.
    """
    if experiment is not None:
        load_experiment(experiment)
    folder = Workdir(directory).root
    if (folder / "model.json").exists():
        return Model(_exported(folder))
    workdir = Workdir(folder)
    if run is None and workdir.sweep_file.exists():
        run = best_run(workdir)
    trained = TrainedModel.load(workdir.find_model(run))
    return Model(trained, functools.partial(scores_of_run, folder, trained.about["run"]))


def best_run(workdir: Workdir) -> str | None:
    """Returns the finished run with the best selection metric on its validation split.

    Args:
      workdir: the workdir of a sweep.

    Returns:
      The name of the run; None if no run has finished.
    """
    sweep = read_sweep(workdir.root)
    metric = metric_called(sweep["selection"].partition("/")[2])
    now = datetime.datetime.now(datetime.UTC)
    finished = [run for run in read_run_states(workdir.root, sweep, now) if run.state == FINISHED]
    best = max(
        finished,
        key=lambda run: rank_trials([run.best], metric.higher_is_better),
        default=None,
    )
    return best.run if best else None


def _exported(folder: epath.Path) -> TrainedModel:
    """Reads a folder that `TrainedModel.save` or `export --format safetensors` wrote."""
    if (folder / "arrays.npz").exists():
        return TrainedModel.load(folder)
    name = "safetensors"
    try:
        description = read_json(folder / "model.json")
        form = description.get("format") if isinstance(description, dict) else None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'model.json'} cannot be read: {error}") from error
    if form != name:
        raise UserError(
            f"{folder} is an export in the format {form}, which other programs run. Only "
            f"--format {name} can be loaded here."
        )
    return FORMATS[name].load().load(folder)
