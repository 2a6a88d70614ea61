"""What autoencoders keep of a sequence: its reconstruction, and what the latent vector tells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gru_audio.config import read_config
from gru_audio.data import index
from gru_audio.data.fields import ClassField
from gru_audio.data.signal import Signal
from gru_audio.data.source import Source
from gru_audio.inference.codes import Code, encode
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.reports.comparison import Comparison
from gru_audio.reports.results import tested_source
from gru_audio.reports.split import Split
from gru_audio.reports.statistics import Estimate, wilson
from gru_audio.settings import UserError
from gru_audio.sweeps.workdir import Workdir
from gru_audio.tasks.linear import log_probabilities

_SHOWN = (0.1, 0.5, 0.9, 0.99)  # quantiles of the loss at which examples are shown
_SECONDS = 5.0  # only the middle of longer sounds is encoded
_BLANK = 0.25  # share of a picture of frames that is left blank


@dataclass(frozen=True)
class Probe:
    """How well a linear classifier of vectors knows the class of a test clip.

    Attributes:
      name: name of a variant, whose latent vectors it reads; "" for statistics of the frames, or
        for the most frequent class.
      size: size of the vectors; 0: the most frequent class.
      accuracy: on the test clips, with Wilson's interval.
    """

    name: str
    size: int
    accuracy: Estimate


@dataclass(frozen=True)
class Reconstruction:
    """A test example and its reconstructions.

    Attributes:
      label: its class, or its name.
      clip: its name in the data set.
      steps: the signal that was encoded.
      original: (features, frames) in [0, 1], the highest feature first.
      by_variant: for each variant its name, its picture, and its mean squared error.
    """

    label: str
    clip: str
    steps: np.ndarray
    original: np.ndarray
    by_variant: tuple[tuple[str, np.ndarray, float], ...]


@dataclass(frozen=True)
class Reconstructions:
    """The section of autoencoders in a report.

    Attributes:
      signal: what the examples are sequences of.
      examples: from the best to the worst reconstructed ones.
      target: the field of the probes.
      probes: of the variants, of statistics of the frames, and of nothing; () without a field of
        classes.
      missing: why there are no examples; "" if there are.
    """

    signal: Signal | None = None
    examples: tuple[Reconstruction, ...] = ()
    target: str = ""
    probes: tuple[Probe, ...] = ()
    missing: str = ""


def read_reconstructions(workdir: Workdir, comparison: Comparison) -> Reconstructions | None:
    """Encodes test examples by the first run of each variant.

    Returns:
      None if the task is not one of autoencoders, or no run has finished. If data set or models are
      missing, `missing` says so.
    """
    if not comparison.results.task.bottleneck or not comparison.variants:
        return None
    runs = [variant.runs[0] for variant in comparison.variants]
    try:
        source = tested_source(comparison.results, runs[0])
        models = {run.variant: TrainedModel.load(workdir.find_model(run.name)) for run in runs}
        return _read(source, models, Split(source, read_config(runs[0].config)), comparison)
    except (UserError, OSError) as error:
        return Reconstructions(missing=f"The reconstructions cannot be shown: {error}")


def _read(
    source: Source, models: dict[str, TrainedModel], split: Split, comparison: Comparison
) -> Reconstructions:
    target = comparison.results.target
    field = source.fields.get(target)
    first = comparison.variants[0].runs[0].predictions
    order = first["example"][np.argsort(first["loss"], kind="stable")]
    chosen = [int(order[round(q * (len(order) - 1))]) for q in _SHOWN]
    steps = [_middle(source.signal, clip) for clip in source.signals(chosen)]
    codes = {name: encode(trained, steps) for name, trained in models.items()}
    clips = [str(source.columns[index.CLIP][i]) for i in chosen]
    labels = list(clips)
    if isinstance(field, ClassField):
        classes = source.columns[target][chosen]
        labels = [
            f"{target} {field.names[c]}" if c >= 0 else clip
            for c, clip in zip(classes, clips, strict=True)
        ]
    examples = tuple(
        _example(label, clip, steps[i], {name: of[i] for name, of in codes.items()})
        for i, (label, clip) in enumerate(zip(labels, clips, strict=True))
    )
    probes = _probes(source, models, split, field) if isinstance(field, ClassField) else ()
    return Reconstructions(source.signal, examples, target, probes)


def _middle(signal: Signal, clip: np.ndarray) -> np.ndarray:
    longest = round(_SECONDS * signal.rate)
    start = max(0, len(clip) - longest) // 2
    return clip[start : start + longest]


def _example(label: str, clip: str, steps: np.ndarray, codes: dict[str, Code]) -> Reconstruction:
    frames = next(iter(codes.values())).frames
    least, most = np.quantile(frames, _BLANK), frames.max()

    def picture(values: np.ndarray) -> np.ndarray:
        return np.clip((values - least) / (most - least or 1), 0, 1).T[::-1]

    by_variant = tuple(
        (name, picture(code.decoded), float(((code.decoded - code.frames) ** 2).mean()))
        for name, code in codes.items()
    )
    return Reconstruction(label, clip, steps, picture(frames), by_variant)


def _probes(
    source: Source, models: dict[str, TrainedModel], split: Split, target: ClassField
) -> tuple[Probe, ...]:
    """Returns the probes of the test clips that have a class."""
    classes = source.columns[split.config.data.target]
    ids = [split.few(each) for each in (split.train, split.test)]
    train, test = (each[classes[each] >= 0] for each in ids)
    sounds = [
        [_middle(source.signal, clip) for clip in source.signals(each)] for each in (train, test)
    ]

    def probe(name: str, size: int, answers: np.ndarray) -> Probe:
        return Probe(name, size, wilson(int((answers == classes[test]).sum()), len(test)))

    def trained_probe(name: str, training: np.ndarray, tested: np.ndarray) -> Probe:
        found = log_probabilities(training, classes[train], tested, len(target.names))
        return probe(name, training.shape[1], found.argmax(-1))

    probes = []
    for name, trained in models.items():
        codes = [encode(trained, each) for each in sounds]
        probes.append(trained_probe(name, *(np.stack([c.latent for c in each]) for each in codes)))
    probes.append(trained_probe("", *map(_statistics, codes)))
    majority = np.bincount(classes[train]).argmax()
    return (*probes, probe("", 0, np.full(len(test), majority)))


def _statistics(codes: Sequence[Code]) -> np.ndarray:
    """Returns mean and standard deviation over time of the frames of each clip, (N, 2 F)."""
    return np.stack([np.concatenate([c.frames.mean(0), c.frames.std(0)]) for c in codes])
