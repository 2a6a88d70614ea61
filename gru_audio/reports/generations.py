"""Sounds that generative models draw, beside real ones, and whether a classifier knows them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.frontends import make_frontend
from gru_audio.config import default_config, read_config
from gru_audio.data import index
from gru_audio.data.fields import ClassField
from gru_audio.data.source import Source
from gru_audio.inference.generator import Generator
from gru_audio.inference.labeller import Labeller
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.reports.comparison import Comparison
from gru_audio.reports.gate_plots import Excerpt, excerpt_of
from gru_audio.reports.results import tested_source
from gru_audio.reports.split import Split
from gru_audio.reports.statistics import Estimate, wilson
from gru_audio.settings import UserError
from gru_audio.sweeps.pretrained import read_model
from gru_audio.sweeps.workdir import Workdir
from gru_audio.tasks.generation import Generation
from gru_audio.tasks.linear import log_probabilities

_SHOWN = 4  # sounds of each variant on the page
_JUDGED = 20  # sounds of each variant for the classifier
_SECONDS = 1.0  # longest generated sound
_SEED = 0
_LONGEST = 10  # seconds of a sound that the classifier reads
_BATCH = 64  # sounds of a batch

Classify = Callable[[Sequence[np.ndarray]], np.ndarray]  # int16 sounds -> classes (N,)


@dataclass(frozen=True)
class Judgement:
    """How many sounds a classifier of real sounds assigns to the class that they should have.

    Attributes:
      name: name of the variant that generated them; "" for real test clips.
      sounds: number of sounds.
      recognised: the proportion, with Wilson's interval.
    """

    name: str
    sounds: int
    recognised: Estimate


@dataclass(frozen=True)
class Sounds:
    """Sounds of one class, or of none.

    Attributes:
      label: the class, such as "digit 7"; or a number.
      clip: name of the real sound in the data set.
      real: a real test clip.
      by_variant: for each variant its name and a generated sound.
    """

    label: str
    clip: str
    real: Excerpt
    by_variant: tuple[tuple[str, Excerpt], ...]


@dataclass(frozen=True)
class Generations:
    """The section of generative models in a report.

    Attributes:
      sounds: those to show.
      target: the field of the condition; "" without one.
      judge: what the classifier is.
      judgements: of real test clips, then of the variants; () without a condition.
      missing: why there are no sounds or no judgements; "" if there are.
    """

    sounds: tuple[Sounds, ...] = ()
    target: str = ""
    judge: str = ""
    judgements: tuple[Judgement, ...] = ()
    missing: str = ""


def read_generations(
    workdir: Workdir, comparison: Comparison, judge: str | None = None
) -> Generations | None:
    """Generates sounds by the first run of each variant, always the same ones.

    Args:
      workdir: the sweep's workdir.
      comparison: the comparison of the variants.
      judge: the trained classifier of the check, WORKDIR or WORKDIR:RUN; None: a logistic
        regression on log-mel statistics, fitted on the training clips.

    Returns:
      None if the task does not generate sounds, or no run has finished. If data set or models are
      missing, `missing` says so.

    Raises:
      UserError: there is no such judge, or it knows other classes.
    """
    if not comparison.results.task.of_samples or not comparison.variants:
        return None
    runs = [variant.runs[0] for variant in comparison.variants]
    try:
        source = tested_source(comparison.results, runs[0])
        models = {run.variant: TrainedModel.load(workdir.find_model(run.name)) for run in runs}
        split = Split(source, read_config(runs[0].config))
        task = next(iter(models.values())).program().task
        assert isinstance(task, Generation)
        classes = task.conditions
        drawn = {name: _draw(source, trained, classes) for name, trained in models.items()}
    except (UserError, OSError) as error:
        return Generations(missing=f"No sounds can be generated: {error}")
    target = split.config.data.target if classes else ""
    shown = Generations(_shown(source, split, target, drawn), target)
    if not classes:
        return shown
    found = source.field(target)
    assert isinstance(found, ClassField)
    about, classify = _judge(judge, source, split, found)
    test = split.few(split.test)
    test = test[source.columns[target][test] >= 0]
    answers = classify(source.signals(test)) == source.columns[target][test]
    judgements = [Judgement("", len(test), wilson(int(answers.sum()), len(test)))]
    for name, (wanted, sounds) in drawn.items():
        right = int((classify(sounds) == [found.names.index(each) for each in wanted]).sum())
        judgements.append(Judgement(name, len(sounds), wilson(right, len(sounds))))
    return replace(shown, judge=about, judgements=tuple(judgements))


def _draw(
    source: Source, trained: TrainedModel, classes: tuple[str, ...]
) -> tuple[list[str], list[np.ndarray]]:
    """Returns the conditions, and the sounds that the model draws."""
    typical = float(np.median(source.columns[index.LENGTH])) / source.signal.rate
    generator = Generator.of(trained)
    count = _JUDGED if classes else _SHOWN
    places = np.arange(count) * max(1.0, len(classes) / count)
    wanted = [classes[int(place) % len(classes)] for place in places] if classes else []
    drawn = generator.sounds(
        generator.samples(min(_SECONDS, typical)), count, conditions=wanted or None, seed=_SEED
    )
    return wanted, list(drawn)


def _shown(
    source: Source,
    split: Split,
    target: str,
    drawn: Mapping[str, tuple[list[str], list[np.ndarray]]],
) -> tuple[Sounds, ...]:
    """Returns the first sounds of each variant, each with a real test clip of its class."""
    wanted = next(iter(drawn.values()))[0]
    shown, test = [], split.test
    for number in range(_SHOWN):
        alike = test
        if target:
            names = np.array([*source.fields[target].output_names, ""])
            alike = test[names[source.columns[target][test]] == wanted[number]]
        example = int(alike[number % len(alike)]) if len(alike) else int(test[number % len(test)])
        (clip,) = source.signals([example])
        shown.append(
            Sounds(
                label=f"{target} {wanted[number]}" if target else f"Sound {number + 1}",
                clip=str(source.columns[index.CLIP][example]),
                real=excerpt_of(source.signal, clip),
                by_variant=tuple(
                    (name, excerpt_of(source.signal, sounds[number]))
                    for name, (_, sounds) in drawn.items()
                ),
            )
        )
    return tuple(shown)


def _judge(
    judge: str | None, source: Source, split: Split, target: ClassField
) -> tuple[str, Classify]:
    """Returns what the classifier is, and the classifier.

    Raises:
      UserError: the trained classifier is missing, or does not suit the data set.
    """
    if judge is not None:
        trained = read_model(judge)
        labeller = Labeller(trained)
        names = trained.program().task.output_names
        if trained.signal != source.signal or set(names) != set(target.names):
            raise UserError(
                f"--judge {judge} must classify the sounds of {source.name}, at "
                f"{source.signal.rate} Hz, into the classes {', '.join(target.names[:10])}."
            )
        order = np.array([target.names.index(name) for name in names])
        return (
            f"the trained model {judge}",
            lambda sounds: order[labeller.probabilities(sounds).argmax(-1)],
        )
    rate, classes = source.signal.rate, source.columns[split.config.data.target]
    train = split.few(split.train)
    train = train[classes[train] >= 0]
    statistics = log_mel_statistics(source.signals(train), rate)
    about = (
        "logistic regression on the mean and standard deviation over time of "
        f"{statistics.shape[1] // 2} log_mel features, {len(train):,} training clips"
    )

    def classify(sounds: Sequence[np.ndarray]) -> np.ndarray:
        tested = log_mel_statistics(sounds, rate)
        return log_probabilities(statistics, classes[train], tested, len(target.names)).argmax(-1)

    return about, classify


def log_mel_statistics(sounds: Sequence[np.ndarray], rate: int) -> np.ndarray:
    """Returns mean and standard deviation over time of log-mel features, float32 (N, 2 F).

    Args:
      sounds: int16 (n,) each. Only the beginning of a long one is read.
      rate: in Hz.
    """
    frontend = make_frontend(default_config().frontend, rate)

    @jax.jit
    def statistics(waveforms: jax.Array, lengths: jax.Array) -> jax.Array:
        features, frames = frontend(waveforms, lengths)
        valid = (jnp.arange(features.shape[1]) < frames[:, None])[..., None]
        moments = [moment(features, axis=1, where=valid) for moment in (jnp.mean, jnp.std)]
        return jnp.concatenate(moments, axis=1)

    sounds = [sound[: _LONGEST * rate] for sound in sounds]
    lengths = np.array([len(sound) for sound in sounds])
    padded = 2 ** np.ceil(np.log2(lengths)).astype(int)  # few shapes are compiled
    found = np.zeros((len(sounds), 2 * frontend.features), np.float32)
    for length in np.unique(padded):
        alike = np.flatnonzero(padded == length)
        for begin in range(0, len(alike), _BATCH):
            rows = alike[begin : begin + _BATCH]
            waveforms = np.zeros((_BATCH, length), np.float32)
            for waveform, row in zip(waveforms, rows, strict=False):
                waveform[: lengths[row]] = sounds[row] / np.float32(2**15)
            of_batch = statistics(waveforms, np.resize(lengths[rows], _BATCH))
            found[rows] = np.asarray(of_batch)[: len(rows)]
    return found
