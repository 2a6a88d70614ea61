"""The sections of the page that only some tasks have, as its templates need them."""

from typing import Any

from etils import epath

from gru_audio.reports import figures, media
from gru_audio.reports.comparison import Comparison
from gru_audio.reports.page import times
from gru_audio.reports.reconstructions import Probe, Reconstruction, read_reconstructions
from gru_audio.reports.statistics import Estimate
from gru_audio.sweeps.workdir import Workdir
from gru_audio.tasks.scale import PERCENT, PLAIN


def read_sections(workdir: epath.PathLike, comparison: Comparison) -> dict[str, Any]:
    """Reads the data set and trained models, and returns the sections by name.

    A section is None if the task does not have it.
    """
    return {"reconstructions": _reconstructions(Workdir(workdir), comparison)}


def _reconstructions(workdir: Workdir, comparison: Comparison) -> dict[str, Any] | None:
    found = read_reconstructions(workdir, comparison)
    if found is None:
        return None

    def example(each: Reconstruction) -> dict[str, Any]:
        signal = found.signal
        assert signal is not None
        return {
            "label": each.label,
            "clip": each.clip,
            "audio": media.mp3(each.steps, signal.rate) if signal.is_sound else None,
            "original": media.shade(each.original),
            "times": times(len(each.steps), signal),
            "by_variant": [
                (name, figures.colour_variable(comparison, name), media.shade(picture), error)
                for name, picture, error in each.by_variant
            ],
        }

    def probe(each: Probe) -> dict[str, Any]:
        return {
            "name": each.name,
            "colour": figures.colour_variable(comparison, each.name) if each.name else None,
            "size": each.size,
            **_proportion(each.accuracy),
        }

    return {
        "missing": found.missing,
        "target": found.target,
        "examples": [example(each) for each in found.examples],
        "probes": [probe(each) for each in found.probes],
        "scale": PLAIN,
    }


def _proportion(estimate: Estimate) -> dict[str, str]:
    return {"value": PERCENT.value(estimate.value), "interval": PERCENT.interval(estimate)}
