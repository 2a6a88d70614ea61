"""Baselines: the test metrics of simple predictors on the test splits of a sweep.

The trivial predictor ignores its input. Each task defines its own (`Task.trivial_outputs`); its
score is chance level. The linear model reads the mean and the standard deviation over time of each
feature. That of an autoencoder is a principal component analysis of whole clips. All are fitted on
the training examples of the same split. The results are stored in the workdir (`baselines.json`),
so that a later report needs no data set.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from gru_audio.config import read_config
from gru_audio.data.fields import take
from gru_audio.data.resident import Batch
from gru_audio.data.source import Source
from gru_audio.files import write_atomically
from gru_audio.reports.results import Results, Run, setting_key, tested_source
from gru_audio.reports.split import Split, of_clips
from gru_audio.settings import UserError
from gru_audio.sweeps.status import read_json
from gru_audio.tasks.linear import principal_components
from gru_audio.tasks.metrics import measure, metrics_of
from gru_audio.tasks.task import InputsAndTargets, decoded, joined

FILE = "baselines.json"

_VERSION = 1  # version of the computation; a change discards the stored baselines
_CODED = 2**26  # most values of the clips of a principal component analysis
_DECIDES = ("target", "train", "validation", "test", "hold_out", "train_examples", "crop_seconds")


@dataclass(frozen=True)
class Scored:
    """A predictor on one test split.

    Attributes:
        name: name of the predictor, such as "majority class".
        about: how it was made; "" if the name says it.
        metrics: name -> value of each of the task's metrics on the test split.
    """

    name: str
    about: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Baseline:
    """A simple predictor on the test splits of a sweep.

    Attributes:
        name: name of the predictor, such as "majority class".
        about: how it was made; "" if the name says it.
        variants: the variants with the same features and training examples as the predictor.
        values: replicate (see `setting_key`) -> test metric on that replicate's test split.
    """

    name: str
    about: str
    variants: tuple[str, ...]
    values: Mapping[str, float]

    @property
    def value(self) -> float:
        """The test metric, averaged over replicates."""
        return float(np.mean(list(self.values.values())))


@dataclass(frozen=True)
class Baselines:
    """The baselines of a sweep.

    Attributes:
        trivial: the predictor that ignores its input (chance level); None if not computed.
        linear: linear models, one for each combination of features and training set.
        missing: why a baseline was not computed; "" if all were.
    """

    trivial: Baseline | None = None
    linear: tuple[Baseline, ...] = ()
    missing: str = ""

    @property
    def chance(self) -> float | None:
        """The test metric of the trivial predictor; None if not computed."""
        return self.trivial.value if self.trivial else None


NO_BASELINES = Baselines()


def find_baselines(
    workdir: epath.PathLike, results: Results, variants: Mapping[str, Sequence[Run]]
) -> Baselines:
    """Returns the baselines for runs of each variant. Computes those that the workdir lacks.

    Args:
        workdir: the sweep's workdir.
        results: the sweep's results.
        variants: variant -> the runs whose test splits and features the baselines use.
    """
    variants = {variant: [run for run in runs if run.result] for variant, runs in variants.items()}
    keys = {run.name: _key(results, run) for runs in variants.values() for run in runs}
    by_key = {keys[run.name]: run for runs in variants.values() for run in runs}
    path, missing = epath.Path(workdir) / FILE, ""
    metric = results.metric.name
    kept = _read(path, metric)
    if lacking := {key: run for key, run in by_key.items() if key not in kept}:
        try:
            kept |= _compute(tested_source(results, next(iter(lacking.values()))), lacking)
        except (UserError, OSError) as error:
            missing = str(error)
        else:
            with contextlib.suppress(OSError):  # the report needs no write access to the workdir
                _write(path, kept)
    scored = {name: kept.get(key, ()) for name, key in keys.items()}
    return _gather(metric, variants, scored, missing)


def _key(results: Results, run: Run) -> str:
    """Returns a digest of the settings that determine a run's baselines."""
    names = [f"data.{name}" for name in _DECIDES]
    names += [name for name in run.config if name.startswith(("frontend.", "task."))]
    names += [name for name in run.config if name == "model.latent"]
    if run.config.get("data.examples_per_class"):
        names += ["data.examples_per_class", "seed"]
    if run.config.get("data.train_examples"):
        names.append("seed")  # the seed selects the training examples
    settings = {name: run.config.get(name) for name in sorted(names)}
    text = json.dumps([_VERSION, results.data_fingerprint, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write(path: epath.Path, kept: Mapping[str, Sequence[Scored]]) -> None:
    text = json.dumps({key: [asdict(each) for each in found] for key, found in kept.items()})
    write_atomically(path, text)


def _read(path: epath.Path, metric: str) -> dict[str, Sequence[Scored]]:
    """Reads stored baselines: key -> trivial, then linear. Damaged entries are left out."""
    kept: Any = read_json(path)
    found: dict[str, Sequence[Scored]] = {}
    for key, entries in kept.items() if isinstance(kept, dict) else ():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            scored = tuple(Scored(**entry) for entry in entries)
            if scored and all(_is_whole(each, metric) for each in scored):
                found[key] = scored
    return found


def _is_whole(scored: Scored, metric: str) -> bool:
    named = isinstance(scored.name, str) and isinstance(scored.about, str)
    return named and bool(np.isfinite(float(scored.metrics[metric])))


def _gather(
    metric: str,
    variants: Mapping[str, Sequence[Run]],
    scored: Mapping[str, Sequence[Scored]],
    missing: str,
) -> Baselines:
    """Returns the baselines of all variants.

    Args:
        metric: name of the test metric.
        variants: variant -> its runs.
        scored: name of a run -> its baselines, the trivial one first.
        missing: see `Baselines`.
    """
    trivial: dict[str, Scored] = {}
    linear: list[tuple[list[str], dict[str, Scored]]] = []
    for variant, runs in variants.items():
        own: dict[str, Scored] = {}
        for run in runs:
            replicate = setting_key(run.replicate)
            for each in scored[run.name][:1]:
                trivial.setdefault(replicate, each)
            for each in scored[run.name][1:]:
                own[replicate] = each
        for names, shared in linear:
            if all(shared.get(replicate, each) == each for replicate, each in own.items()):
                names.append(variant)
                shared |= own
                break
        else:
            if own:
                linear.append(([variant], own))
    return Baselines(
        trivial=_baseline(metric, list(variants), trivial) if trivial else None,
        linear=tuple(_baseline(metric, names, own) for names, own in linear),
        missing=missing,
    )


def _baseline(metric: str, variants: Sequence[str], scored: Mapping[str, Scored]) -> Baseline:
    first = next(iter(scored.values()))
    values = {replicate: float(each.metrics[metric]) for replicate, each in scored.items()}
    return Baseline(first.name, first.about, tuple(variants), values)


def _compute(source: Source, runs: Mapping[str, Run]) -> dict[str, tuple[Scored, ...]]:
    """Computes the trivial predictor of each run and, if the task has one, its linear model.

    Args:
        source: the data set.
        runs: key -> run.

    Returns:
        Key -> the baselines of the run, the trivial one first.

    Raises:
        UserError: a run has a config that this version does not know, or features are not finite.
    """
    splits = {key: Split(source, read_config(run.config)) for key, run in runs.items()}
    found: dict[str, tuple[Scored, ...]] = {}
    alike: dict[Any, list[str]] = {}  # keys of runs with the same features
    for key, split in splits.items():
        found[key] = (_trivial(split),)
        if split.task.bottleneck:
            found[key] += (_linear_code(split),)
        elif of_clips(split.task):
            alike.setdefault((split.frontend, split.config.data.crop_seconds), []).append(key)
    for keys in alike.values():
        needed = [
            splits[key].few(ids) for key in keys for ids in (splits[key].train, splits[key].test)
        ]
        vectors = _vectors(splits[keys[0]], np.unique(np.concatenate(needed)))
        for key in keys:
            found[key] = (*found[key], _linear(splits[key], vectors))
    return found


def _trivial(split: Split) -> Scored:
    """Scores the predictor that ignores its input."""
    task, train, test = split.task, split.train, split.test
    if not of_clips(task):
        train, test = split.few(train), split.few(test)
    sums = [task.target_sums(p.targets, p.lengths) for _, p in split.inputs_and_targets(train)]
    total, count = (np.sum(a, axis=0, dtype=np.float64) for a in zip(*sums, strict=True))
    mean = jnp.asarray(total / count, jnp.float32)
    scores = []
    for _, prepared in split.inputs_and_targets(test):
        outputs = task.trivial_outputs(mean, prepared.lengths, prepared.inputs.shape[1])
        scored = task.score(outputs, prepared.targets, prepared.lengths)
        scores.append(jax.device_get(scored | dict(prepared.reference)))
    predictions = decoded(joined(scores), task.decoding(None))
    return Scored(task.trivial, "", measure(metrics_of(task), predictions))


def _vectors(split: Split, ids: np.ndarray) -> dict[int, np.ndarray]:
    """Returns each example's mean and standard deviation over time, float32 (2 F,), by id."""

    @jax.jit
    def statistics(batch: Batch) -> jax.Array:
        features, frames = split.features(batch)
        valid = (jnp.arange(features.shape[1]) < frames[:, None])[..., None]
        mean = jnp.mean(features, axis=1, where=valid)
        spread = jnp.std(features, axis=1, where=valid)
        return jnp.concatenate([mean, spread], axis=1)

    found: dict[int, np.ndarray] = {}
    for part, batch in split.batches(ids):
        found |= zip(part.tolist(), np.asarray(statistics(batch)), strict=False)
    return found


def _linear(split: Split, vectors: Mapping[int, np.ndarray]) -> Scored:
    """Scores the linear model of the features' mean and standard deviation over time."""
    train, test, task = split.few(split.train), split.few(split.test), split.task
    inputs, tested = (np.stack([vectors[i] for i in ids.tolist()]) for ids in (train, test))
    if not (np.isfinite(inputs).all() and np.isfinite(tested).all()):
        raise UserError(f"Features of {split.source.name} are not finite.")
    outputs = task.linear_outputs(inputs, take(split.labels, train), tested)
    _, prepared = next(split.inputs_and_targets(test))
    scores = jax.device_get(task.score(jnp.asarray(outputs), prepared.targets, prepared.lengths))
    about = (
        "logistic regression on the mean and standard deviation over time of "
        f"{_features(split)}, {_used(len(train), len(split.train))} training examples"
    )
    if len(test) < len(split.test):
        about += f", {_used(len(test), len(split.test))} test examples"
    return Scored("linear model", about, measure(metrics_of(task), scores))


def _linear_code(split: Split) -> Scored:
    """Scores the best linear code of whole clips that has the size of the latent vector.

    It is a principal component analysis. Clips are padded with the mean frame to the longest one of
    training, and longer test clips are cut.
    """
    task, size, width = split.task, split.config.model.latent, split.frontend.features
    train, test = split.few(split.train), split.few(split.test)
    longest = split.source.signal.block * int(split.blocks[train].max())
    time = int(split.program.output_frames(longest))
    train = train[:: -(-len(train) * time * width // _CODED)]

    def flat(prepared: InputsAndTargets) -> np.ndarray:
        frames = np.asarray(prepared.targets)[:, :time]
        valid = np.arange(frames.shape[1]) < np.asarray(prepared.lengths)[:, None]
        padding = ((0, 0), (0, time - frames.shape[1]), (0, 0))
        return np.pad(np.where(valid[..., None], frames, 0), padding).reshape(len(frames), -1)

    clips = np.concatenate([flat(prepared) for _, prepared in split.inputs_and_targets(train)])
    code, scores = principal_components(clips, size), []
    for _, prepared in split.inputs_and_targets(test):
        outputs = np.zeros(prepared.targets.shape, np.float32)
        clips = code(flat(prepared)).reshape(len(outputs), time, width)
        outputs[:, :time] = clips[:, : outputs.shape[1]]
        scored = task.score(jnp.asarray(outputs), prepared.targets, prepared.lengths)
        scores.append(jax.device_get(scored))
    about = (
        f"the first {size} principal components of whole clips, "
        f"{_used(len(train), len(split.train))} training examples"
    )
    return Scored("linear model", about, measure(metrics_of(task), joined(scores)))


def _features(split: Split) -> str:
    of_sound, name = split.frontend.of_sound, split.config.frontend.name
    return f"{split.frontend.features} {f'{name} ' if of_sound else ''}features"


def _used(used: int, total: int) -> str:
    return f"{used:,}" if used == total else f"{used:,} of {total:,}"
