"""The test metrics of one run, with intervals over the test examples."""

import math

import numpy as np
from etils import epath
from scipy.special import stdtrit

from gru_audio.reports.results import Run, read_results
from gru_audio.reports.statistics import (
    FEWEST,
    LEVEL,
    Estimate,
    Scores,
    components,
    sampling_units,
)
from gru_audio.settings import UserError
from gru_audio.tasks.metrics import Metric, Predictions, metrics_of
from gru_audio.tasks.task import Task


def scores_of_run(workdir: epath.PathLike, run: str) -> dict[str, Estimate]:
    """Returns the test metrics of a run by name; {} if the workdir has none.

    The intervals are over the test examples, or over their clusters. They say how the scores of
    this model would vary with other examples. They do not contain the variation between seeds.
    Without predictions, `is_interval` is False.

    Args:
      workdir: the sweep's workdir.
      run: the name of the run.
    """
    try:
        results = read_results(workdir)
    except UserError:  # for example, only the model was copied
        return {}
    found = next((each for each in results.runs if each.name == run), None)
    return _scores(results.task, found) if found else {}


def _scores(task: Task, run: Run) -> dict[str, Estimate]:
    stored = (run.result.get("metrics") or {}).get("test") or {}
    scores = {
        name: Estimate(value, value, value, is_interval=False)
        for name, value in stored.items()
        if value is not None
    }
    if run.predictions["example"].size:
        scores |= {metric.name: interval(metric, run.predictions) for metric in metrics_of(task)}
    return scores


def interval(metric: Metric, predictions: Predictions) -> Estimate:
    """Returns a metric of one run with its interval of level `LEVEL` over examples or clusters.

    The variance is that of the delete-one jackknife over the sampling units, and the distribution
    is Student's with one degree of freedom less than there are units (MacKinnon, Nielsen and Webb
    2023, section 3). There is no interval for fewer than `FEWEST` units.

    Args:
      metric: the metric.
      predictions: those of the test split, with `example` and `cluster`.
    """
    value = metric.value(predictions)
    units, _ = sampling_units(predictions["cluster"], predictions["example"])
    count = np.unique(units).size
    contributions = metric.contributions(predictions) if count >= FEWEST else np.array([np.nan])
    if not np.isfinite(contributions).all():
        return Estimate(value, value, value, is_interval=False)
    variance = components([Scores(contributions[None], units, ("",))]).examples
    reach = stdtrit(count - 1, (1 + LEVEL) / 2) * math.sqrt(variance)
    low, high = np.clip([value - reach, value + reach], *metric.bounds)
    return Estimate(value, float(low), float(high))
