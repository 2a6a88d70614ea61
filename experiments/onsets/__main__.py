"""Tests which frame scores detect the annotated onsets of syllables: gates or energy.

The models are from a sweep of experiments/update_gate.py. Its docstring gives the method and the
results.

  python -m experiments.onsets --workdir runs/update_gate --annotations annotations.tsv
"""

import argparse
import csv
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.onsets.detectors import F1, Auc, Choice, Detector, Levels, Measure, Recording
from gru_audio.data.resident import Batch
from gru_audio.data.source import open_source
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.reports import statistics
from gru_audio.sweeps.workdir import Workdir
from gru_audio.training.keys import initial_key
from gru_audio.training.step import Weights

RESULT = Path(__file__).parents[1] / "results" / "update_gate.onsets.csv"
SEEDS = range(5)
LAYER = "encoder/forward_0"

MEASURES: Mapping[str, Measure] = {
    "AUC": Auc(within=0.01),
    "F1": F1(tolerance=0.02, distance=6, thresholds=tuple(np.linspace(0, 1, 25)[:-1])),
}
# In frames of 5 ms.
LEVEL, CHANGE = (0,), (1, 2, 4, 8)  # spans of a rise
SMOOTHS, LAGS = (1, 3, 5), (-2, 0, 2, 4, 6, 8)


@dataclass(frozen=True)
class Score:
    """A score to choose a detector for: levels of every recording, with the spans and columns."""

    family: str
    name: str
    seed: int | None  # None: the score needs no model
    levels: Levels
    spans: Sequence[int]
    columns: Sequence[int | None] = (None,)

    def detectors(self) -> list[Detector]:
        choices = itertools.product((1, -1), self.spans, SMOOTHS, LAGS, self.columns)
        return [Detector(*choice) for choice in choices]

    def of_best_column(self, recordings: Sequence[Recording]) -> "Score":
        """Returns the score with the column that best detects the onsets of the first recordings.

        The choice uses few detectors, since there are many columns.
        """
        if len(self.columns) == 1:
            return self
        few = [
            d for d in self.detectors() if d.span in (0, 4) and d.smooth == 1 and d.lag in (0, 4)
        ]
        choice = MEASURES["AUC"].choose(few, self.levels[: len(recordings)], recordings)
        return dataclasses.replace(self, columns=(choice.detector.column,))


@dataclass(frozen=True)
class Result:
    """The result of a score by one measure."""

    measure: str
    score: Score
    choice: Choice
    test: np.ndarray  # the measure on each test recording


def energy_scores(log_mel: Levels) -> list[Score]:
    energy = [np.logaddexp.reduce(one, axis=1, keepdims=True) for one in log_mel]
    return [
        Score("energy", "log energy", None, energy, LEVEL),
        Score("energy", "rise of log energy", None, energy, CHANGE),
        Score("energy", "spectral flux", None, log_mel, CHANGE),
    ]


def gate_scores(family: str, seed: int, update: Levels) -> list[Score]:
    """Returns scores of update gates (frames, units): 1 keeps a unit's output, 0 replaces it."""
    extremes = f"{family}/extremes"
    summaries = {
        (family, "mean update gate"): lambda z: z,
        (extremes, "share of units above 0.9"): lambda z: z > 0.9,
        (extremes, "share of units below 0.1"): lambda z: z < 0.1,
    }
    scores = []
    for (group, name), summary in summaries.items():
        levels = [summary(z).mean(axis=1, keepdims=True) for z in update]
        scores.append(Score(group, name, seed, levels, LEVEL))
        scores.append(Score(group, f"change of {name}", seed, levels, CHANGE))
    scores.append(Score(family, "flux over update gates", seed, update, CHANGE))
    scores.append(
        Score(family, "best unit", seed, update, LEVEL + CHANGE, range(update[0].shape[1]))
    )
    return scores


def surprise_scores(seed: int, surprise: Levels) -> list[Score]:
    return [
        Score("surprise", "prediction error", seed, surprise, LEVEL),
        Score("surprise", "rise of prediction error", seed, surprise, CHANGE),
    ]


def before_training(trained: TrainedModel) -> TrainedModel:
    """Returns the model with its initial weights."""
    program, config = trained.program(), trained.config
    features = jnp.zeros((1, 2, program.frontend.features))
    state = program.model.init(initial_key(jnp.uint32(config.seed)), features, jnp.array([2]))
    return dataclasses.replace(trained, weights=Weights(state["params"], {}))


def update_gates(trained: TrainedModel, clips: Sequence[np.ndarray]) -> Levels:
    return [layers[LAYER]["update"] for layers in trained.gates(clips)]


def log_mel_and_surprise(
    trained: TrainedModel, clips: Sequence[np.ndarray], counts: Sequence[int]
) -> tuple[Levels, Levels]:
    """Returns log-mel frames, and the squared error of the model's prediction of each frame."""
    program = trained.program()
    length = np.array([len(clip) for clip in clips], np.int32)
    signal = np.stack([np.pad(clip, (0, length.max() - len(clip))) for clip in clips])
    batch = Batch(signal, length, np.zeros_like(length), np.arange(len(clips)))

    @jax.jit
    def run(weights, normalisation, batch):
        features, _ = program.features(batch)
        inputs, frames, targets, _ = program.inputs_and_targets(normalisation, batch)
        outputs = program.model.apply({"params": weights.params}, inputs, frames).values
        return features, jnp.sum((outputs - targets) ** 2, axis=-1)

    features, error = map(np.asarray, run(trained.weights, trained.normalisation, batch))
    surprise = np.pad(error, ((0, 0), (1, 0)), mode="edge")[..., None]  # error t: frame t + 1
    cut = list(zip(range(len(clips)), counts, strict=True))
    return [features[i, :n] for i, n in cut], [surprise[i, :n] for i, n in cut]


def read_onsets(path: str) -> dict[str, np.ndarray]:
    """Reads the onsets of each recording in seconds, ascending."""
    onsets: dict[str, list[float]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            onsets.setdefault(row["filename"], []).append(float(row["onset"]))
    return {name: np.sort(values) for name, values in onsets.items()}


def result(measure: str, score: Score, recordings: Sequence[Recording], validation: int) -> Result:
    """Chooses a detector on the first `validation` recordings, and tests it on the others."""
    first, others = slice(validation), slice(validation, None)
    choice = MEASURES[measure].choose(score.detectors(), score.levels[first], recordings[first])
    test = MEASURES[measure].of(choice, score.levels[others], recordings[others])
    return Result(measure, score, choice, test)


def best(results: Sequence[Result], measure: str, family: str) -> tuple[str, np.ndarray]:
    """Returns the best score of a family by validation, and its test values (seeds, recordings).

    A family includes its subfamilies: "gates" includes "gates/extremes".
    """
    found: dict[str, list[Result]] = {}
    for one in results:
        if one.measure == measure and f"{one.score.family}/".startswith(f"{family}/"):
            found.setdefault(one.score.name, []).append(one)
    name = max(found, key=lambda name: np.mean([one.choice.value for one in found[name]]))
    return name, np.stack([one.test for one in found[name]])


def difference(results: Sequence[Result], measure: str, first: str, second: str) -> dict:
    """Returns the paired difference of the best scores of two families, tested as in a report."""
    (name, values), (other, others) = (best(results, measure, f) for f in (first, second))
    recordings = np.arange(values.shape[1])  # each recording is a unit of its own
    seeds = tuple(map(str, range(len(values))))
    components = statistics.components([statistics.Scores(values - others, recordings, seeds)])
    interval, p = components.estimate(), components.p()
    verdict = "better" if interval.low > 0 else "worse" if interval.high < 0 else ""
    return {
        "measure": measure,
        "family": f"{first} - {second}",
        "score": f"{name} - {other}",
        "test": round(interval.value, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "p": round(p, 4),
        "verdict": verdict or "no difference shown",
    }


def row(one: Result) -> dict:
    return {
        "measure": one.measure,
        "family": one.score.family,
        "score": one.score.name,
        "seed": one.score.seed,
        "validation": round(one.choice.value, 4),
        "test": round(float(one.test.mean()), 4),
        "detector": json.dumps(dataclasses.asdict(one.choice.detector)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", required=True, help="of the sweep")
    parser.add_argument("--annotations", required=True, help="annotations.tsv")
    parser.add_argument("--out", type=Path, default=RESULT, help="CSV (default: %(default)s)")
    arguments = parser.parse_args()

    models = {
        seed: TrainedModel.load(Workdir(arguments.workdir).model(f"GRU-seed{seed}"))
        for seed in SEEDS
    }
    source = open_source(models[0].config.data.name, models[0].config.data.dir)
    validation, test = (
        np.flatnonzero(source.columns["split"] == split) for split in ("validation", "test")
    )
    ids = np.concatenate([validation, test])
    clips = source.signals(ids)

    scores = []
    for seed, trained in models.items():
        gates = update_gates(trained, clips)
        counts = [len(z) for z in gates]
        log_mel, surprise = log_mel_and_surprise(trained, clips, counts)
        if seed == SEEDS[0]:
            scores += energy_scores(log_mel)
        scores += gate_scores("gates", seed, gates)
        scores += gate_scores("untrained", seed, update_gates(before_training(trained), clips))
        scores += surprise_scores(seed, surprise)

    frontend, onsets = models[0].program().frontend, read_onsets(arguments.annotations)
    names = [Path(source.columns["clip"][i]).name for i in ids]
    recordings = [
        Recording(
            (np.arange(n) * frontend.hop + frontend.n_fft / 2) / frontend.sample_rate, onsets[name]
        )
        for n, name in zip(counts, names, strict=True)
    ]
    split = len(validation)
    scores = [score.of_best_column(recordings[:split]) for score in scores]
    results = [result(m, score, recordings, split) for m in MEASURES for score in scores]
    pairs = (
        ("gates", "energy"),
        ("gates/extremes", "energy"),
        ("gates", "untrained"),
        ("surprise", "energy"),
    )
    rows = [row(one) for one in results]
    summary = [difference(results, m, *pair) for m in MEASURES for pair in pairs]
    arguments.out.parent.mkdir(exist_ok=True)
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0] | summary[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, *summary])
    for line in summary:
        print(line)


if __name__ == "__main__":
    main()
