"""Whether training was stopped while validation still improved."""

from collections.abc import Sequence

import numpy as np

from gru_audio.reporting.comparison import Arm
from gru_audio.reporting.results import Curve, Results

_FEWEST = 4  # evaluations from which a trend can be told
_CLEAR = 2.0  # standard errors that an improvement must exceed
_LEAST_SHARE = 0.01  # of the whole improvement that the end must bring


def stopped_while_improving(results: Results, arm: Arm) -> bool:
    """Whether the runs of an arm would probably have become better with more steps.

    By the validation metric that selects. Runs that early stopping or halving has ended do not
    count.
    """
    curves = [
        run.curves[results.selection]
        for run in arm.runs
        if results.selection in run.curves and run.result.get("steps") == run.standing.steps
    ]
    up = results.metric_of(results.selection).higher_is_better
    return still_improving(curves, higher_is_better=up)


def still_improving(curves: Sequence[Curve], *, higher_is_better: bool) -> bool:
    """Whether the curves of an arm's replicates, taken together, still improve at their end.

    The end is the last eighth of the evaluations, or the last one of a few. Most curves must have
    their best value there. On average the end must be better than the eighth before it: by more
    than the spread between evaluations explains, and by a hundredth of the whole improvement. A
    curve that has flattened, as under a cosine schedule, is thus no longer improving.
    """
    sign = 1 if higher_is_better else -1
    runs = [sign * curve.values for curve in curves if curve.values.size >= _FEWEST]
    if 2 * len(runs) <= len(curves):
        return False
    gains, variances, at_best = [], [], 0
    for values in runs:
        end = max(1, values.size // 8)
        gains.append(values[-end:].mean() - values[-2 * end : -end].mean())
        variances.append(2 / end * np.mean(_noise(values)))
        at_best += values[-end:].max() > values[:-end].max()
    gain, error = np.mean(gains), np.sqrt(np.mean(variances) / len(runs))
    whole = np.mean([values.max() - values[0] for values in runs])
    return bool(2 * at_best > len(runs) and gain > max(_CLEAR * error, _LEAST_SHARE * whole))


def _noise(values: np.ndarray) -> np.ndarray:
    """Estimates (n,) of the variance between evaluations, from the second half of a curve.

    Third differences leave nothing of a trend that is a parabola. Of independent noise they have 20
    times the variance.
    """
    late = values[min(values.size // 2, values.size - _FEWEST) :]
    return np.diff(late, 3) ** 2 / 20
