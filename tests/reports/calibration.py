"""Error rates of the test of differences, on simulated sweeps with known true differences.

  python -m tests.reports.calibration --trials 1000

prints, for each design, the share of false positives at three levels, the coverage of 95 %
intervals, and their median width; then the share of sweeps with at least one false verdict among
equal variants; then the power. `designs` says what is simulated.
"""

import argparse
import itertools
import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from gru_audio.reports.statistics import FEWEST, Scores, components, holm
from gru_audio.tasks.event_metrics import ERROR_RATE, EVENT, F1, SEGMENT, Counted, FrameError
from gru_audio.tasks.metrics import ACCURACY, MACRO_F1, UAR, linearized
from gru_audio.tasks.ranking import EER, MAP

LEVELS = (0.05, 0.05 / 3, 0.05 / 6)
EXCESS = 1.25  # false positives allowed, times the level
FAMILY = 0.065  # sweeps with a false verdict that are allowed
COVERAGE = 0.94
ERRORS = 3.0  # standard errors of the simulation that are allowed on top

EVENT_METRICS = (FrameError(), Counted(SEGMENT, F1), Counted(EVENT, F1), Counted(EVENT, ERROR_RATE))
_DECODER = {"median": 0.0, "duration": 0.2, "gap": 0.1}  # seconds

Made = tuple[list[Scores], float]  # test sets of differences, and the true difference


@dataclass(frozen=True)
class Rates:
    """The results of the simulation of one design.

    Attributes:
        name: of the design.
        false: shares of p-values below each of `LEVELS`; the power if the truth is not 0.
        coverage: share of intervals that hold the truth.
        width: median width of the intervals.
        null: the true difference is 0.
        trials: how many were simulated.
    """

    name: str
    false: tuple[float, ...]
    coverage: float
    width: float
    null: bool
    trials: int

    def broken(self) -> list[str]:
        """Limits that this design breaks, beyond the chance of the simulation."""
        found = [
            f"{self.name}: {rate:.4f} false positives at {level:.4f}"
            for rate, level in zip(self.false, LEVELS, strict=True)
            if self.null and _above(rate, EXCESS * level, self.trials)
        ]
        if _above(1 - self.coverage, 1 - COVERAGE, self.trials):
            found.append(f"{self.name}: intervals hold the truth in {self.coverage:.3f}")
        return found


def crossed(rng, seeds, examples, share, noise="normal") -> Made:
    """Seeds x examples; `share`: of the variance of the mean, from seeds, examples and both."""

    def draw(*shape):
        if noise == "heavy":  # Student's t with 3 degrees of freedom
            return rng.standard_t(3, size=shape) / 3**0.5
        return rng.exponential(size=shape) - 1 if noise == "skewed" else rng.normal(size=shape)

    scale = np.sqrt(np.multiply(share, (seeds, examples, seeds * examples)))
    scores = scale[0] * rng.normal(size=(seeds, 1)) + scale[1] * draw(1, examples)
    scores = scores + scale[2] * draw(seeds, examples)
    return [_test_set(scores)], 0.0


def speakers(rng, seeds, count, share, unequal) -> Made:
    """Like `crossed`, with clusters of examples in place of examples."""
    sizes = rng.integers(5, 60, count) if unequal else np.full(count, 30)
    unit = np.repeat(np.arange(count), sizes)
    weight = sizes / sizes.sum()
    scale = np.sqrt(np.divide(share[1:], (weight**2).sum()))
    scores = np.sqrt(share[0] * seeds) * rng.normal(size=(seeds, 1))
    scores = scores + scale[0] * rng.normal(size=count)[unit]
    scores = scores + scale[1] * np.sqrt(seeds) * rng.normal(size=(seeds, count))[:, unit]
    return [_test_set(scores + 0.1 * rng.normal(size=scores.shape), unit)], 0.0


def folds(rng, count, seeds, share) -> Made:
    """Folds x seeds; `share`: from folds, fold and seed, examples, seeds shared by all folds."""
    examples = 40
    shared = np.sqrt(share[3] * seeds) * rng.normal(size=(seeds, 1))
    test_sets = []
    for fold in range(count):
        scores = shared + np.sqrt(share[0] * count) * rng.normal()
        scores = scores + np.sqrt(share[1] * count * seeds) * rng.normal(size=(seeds, 1))
        scores = scores + np.sqrt(share[2] * count * examples) * rng.normal(size=examples)
        test_sets.append(_test_set(scores, 1000 * fold + np.arange(examples)))
    return test_sets, 0.0


def accuracy(rng, seeds, examples, first, second, spread=0.004) -> Made:
    """Right or wrong; `spread`: the standard deviation of an accuracy over seeds."""
    hard = np.sqrt(0.6) * rng.normal(size=examples)
    right = []
    for rate in (first, second):
        cut = ndtri(rate)
        seed = min(spread * np.sqrt(2 * np.pi) * np.exp(cut**2 / 2), 0.6)
        rest = np.sqrt(0.4 - seed**2)
        latent = cut + hard + seed * rng.normal(size=(seeds, 1))
        right.append(latent + rest * rng.normal(size=(seeds, examples)) > 0)
    return [_test_set(right[0].astype(float) - right[1])], first - second


def word_errors(rng, seeds, utterances, first, second) -> Made:
    """Errors over words, in utterances of 1 to 40 words."""
    words = np.ceil(np.minimum(rng.lognormal(2.0, 0.7, utterances), 40))
    hard = rng.gamma(1.0, 1.0, utterances)
    rates = []
    for rate in (first, second):
        run = rng.gamma(400.0, 1 / 400.0, (seeds, 1))
        rates.append(linearized(rng.poisson(words * rate * hard * run), words))
    return [_test_set(rates[0] - rates[1])], first - second


def measured(rng, metric, seeds, clusters, size, skill, spread) -> Made:
    """Two equal classifiers, or taggers, of clips of speakers, compared by a metric.

    Clips and speakers are hard or easy, for both variants and for each on its own. Classes and tags
    are of unequal frequency. `skill`: how far the truth stands out; `spread`: its standard
    deviation over seeds.
    """
    count = clusters * size
    unit = np.repeat(np.arange(clusters), size)
    label = np.eye(4)[rng.choice(4, count, p=[0.4, 0.3, 0.2, 0.1])]
    tags = rng.random((count, 3)) < [0.1, 0.3, 0.5]
    truth = tags if metric in (MAP, EER) else label
    kept = {"tags": tags, "label": label.argmax(axis=1)}
    hard = 0.5 * rng.normal(size=(clusters, 1))[unit] + 0.4 * rng.normal(size=(count, 1))
    scores = []
    for _ in range(2):
        own = 0.5 * rng.normal(size=(clusters, 1))[unit]
        of_seeds = []
        for luck in spread * rng.normal(size=seeds):
            margin = skill + luck - hard - own + 0.5 * rng.normal(size=(count, 1))
            given = margin * truth + rng.normal(size=truth.shape)
            of_seeds.append(metric.contributions({**kept, "probabilities": given}))
        scores.append(np.stack(of_seeds))
    return [_test_set(scores[0] - scores[1], unit)], 0.0


def event_errors(rng, metric, seeds, recordings, density, skill, spread) -> Made:
    """Two equal detectors of events of three classes in recordings of 20 s, without overlap.

    Recordings are hard or easy, for both variants and for each on its own. `density`: events in a
    recording; `skill`: how far an active class stands out of the noise; `spread`: its standard
    deviation over seeds.
    """
    frames, step, classes = 200, 0.1, 3
    counts = np.maximum(rng.poisson(density, recordings), 1)
    starts = [np.sort(rng.choice(frames // 10, min(n, 20), replace=False)) for n in counts]
    counts = np.array([len(s) for s in starts])
    times = np.full((recordings, counts.max(), 2), -1.0, np.float32)
    labels = np.full((recordings, counts.max()), -1)
    active = np.zeros((recordings, frames, classes))
    for row, cells in enumerate(starts):
        labels[row, : len(cells)] = rng.choice(classes, len(cells), p=[0.5, 0.3, 0.2])
        times[row, : len(cells)] = np.stack([cells, cells + 0.7], axis=1)
        for cell, label in zip(cells, labels[row], strict=False):
            active[row, 10 * cell : 10 * cell + 7, label] = 1
    common = {
        "frame_count": np.full(recordings, frames, np.int32),
        "step": np.full(recordings, step, np.float32),
        "first": np.full(recordings, step / 2, np.float32),
        "times": times,
        "classes": labels,
        "counts": counts.astype(np.int32),
        "threshold": np.full((recordings, classes), 0.5, np.float32),
        **{n: np.full(recordings, v, np.float32) for n, v in _DECODER.items()},
    }
    hard = 0.5 * rng.normal(size=(recordings, 1, 1))
    scores = []
    for _ in range(2):
        own = 0.3 * rng.normal(size=(recordings, 1, 1))
        of_seeds = []
        for luck in spread * rng.normal(size=seeds):
            slow = rng.normal(size=(recordings, frames // 5, classes)).repeat(5, axis=1)
            signal = (skill + luck - hard - own) * (active - 0.5) + slow
            frames_of = (1 / (1 + np.exp(-signal))).astype(np.float32)
            of_seeds.append(metric.contributions({**common, "frames": frames_of}))
        scores.append(np.stack(of_seeds))
    return [_test_set(scores[0] - scores[1])], 0.0


def losses(rng, seeds, examples, tail) -> Made:
    """Log-normal losses, dominated by a few hard examples."""
    shared = 0.7 * rng.normal(size=examples)
    loss = [
        np.exp(tail * (shared + 0.7 * rng.normal(size=(seeds, examples))))
        * np.exp(0.1 * rng.normal(size=(seeds, 1)))
        for _ in range(2)
    ]
    return [_test_set(loss[0] - loss[1])], 0.0


def _test_set(scores: np.ndarray, units: np.ndarray | None = None) -> Scores:
    seeds = tuple(map(str, range(len(scores))))
    return Scores(scores, np.arange(scores.shape[1]) if units is None else units, seeds)


Design = tuple[str, Callable[..., Made], tuple]


def designs() -> Iterator[Design]:
    """Equal variants, and two pairs of unequal variants to measure coverage."""
    for seeds in (3, 4, 5, 7, 10):
        for share in ((1, 0, 0), (0.8, 0.2, 0), (0.6, 0.2, 0.2), (0.5, 0.5, 0), (0, 1, 0)):
            yield f"{seeds} seeds, {_percent(share)}", crossed, (seeds, 200, share)
    for seeds, count in ((3, 6), (3, 20), (5, 6), (5, 20), (10, 10)):
        for share in ((0, 0.7, 0.3), (0.5, 0.3, 0.2), (0.8, 0.15, 0.05)):
            name = f"{seeds} seeds, {count} speakers, {_percent(share)}"
            yield name, speakers, (seeds, count, share, count > 6)
    for count, seeds in ((3, 1), (5, 1), (10, 1), (3, 3), (5, 3), (5, 2)):
        for share in ((1, 0, 0, 0), (0.5, 0.2, 0.3, 0), (0.3, 0.2, 0.2, 0.3)):
            if seeds > 1 or not share[3]:
                yield f"{count} folds x {seeds}, {_percent(share)}", folds, (count, seeds, share)
    for seeds in (3, 5, 10):
        for rate in (0.9, 0.98, 0.995):
            yield f"{seeds} seeds, accuracy {rate:.1%}", accuracy, (seeds, 300, rate, rate)
        yield f"{seeds} seeds, word errors", word_errors, (seeds, 300, 0.1, 0.1)
        yield f"{seeds} seeds, heavy losses", losses, (seeds, 300, 1.5)
        yield f"{seeds} seeds, heavy tails", crossed, (seeds, 200, (0.5, 0.25, 0.25), "heavy")
        yield f"{seeds} seeds, skewed", crossed, (seeds, 200, (0.4, 0.3, 0.3), "skewed")
    kinds = {"speakers": (20, 15, 1.5, 0.1), "luck": (300, 1, 1.5, 0.5), "easy": (100, 1, 4.0, 0.3)}
    for metric, seeds in itertools.product((ACCURACY, MACRO_F1, UAR, MAP, EER), (3, 4, 6)):
        for kind, settings in kinds.items():
            yield f"{seeds} seeds, {metric.name}, {kind}", measured, (metric, seeds, *settings)
    for metric, seeds in itertools.product(EVENT_METRICS, (3, 5)):
        for kind, settings in {"events": (24, 8, 4.0, 0.2), "rare": (12, 2, 4.0, 0.1)}.items():
            yield f"{seeds} seeds, {metric.name}, {kind}", event_errors, (metric, seeds, *settings)
    yield "3 seeds, accuracy 99.5 and 98.5 %", accuracy, (3, 300, 0.995, 0.985)
    yield "5 seeds, word errors 12 and 10 %", word_errors, (5, 300, 0.12, 0.10)


def powers() -> Iterator[Design]:
    """Unequal variants: 90 % and more."""
    for points, examples, seeds in itertools.product((1, 3), (300, 1000, 5000), (3, 5, 10)):
        name = f"{points} points, {examples} examples, {seeds} seeds"
        yield name, accuracy, (seeds, examples, 0.9 + points / 100, 0.9, 0.005)


def simulate(design: Design, trials: int) -> Rates:
    """Simulates a design many times, and tests each data set."""
    name, make, arguments = design
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    p, width, covered, truth = np.empty(trials), np.empty(trials), 0, 0.0
    for trial in range(trials):
        test_sets, truth = make(rng, *arguments)
        found = components(test_sets)
        interval = found.estimate()
        p[trial], width[trial] = found.p(), interval.high - interval.low
        covered += interval.low <= truth <= interval.high
    false = tuple(float((p < level).mean()) for level in LEVELS)
    return Rates(name, false, covered / trials, float(np.median(width)), truth == 0, trials)


def families() -> list[tuple[int, int, tuple]]:
    """Equal variants: how many, seeds, and shares of the variance as in `crossed`."""
    shares = ((1, 0, 0), (0.8, 0.2, 0), (0.6, 0.2, 0.2), (0, 1, 0))
    return [
        (variants, seeds, share)
        for variants, seeds, share in itertools.product((3, 4), (3, 5, 10), shares)
    ]


def simulate_family(variants: int, seeds: int, share: Sequence[float], trials: int) -> float:
    """Returns the share of sweeps of equal variants in which any pair is significant."""
    rng = np.random.default_rng(zlib.crc32(f"{variants} {seeds} {share}".encode()))
    errors = 0
    for _ in range(trials):
        scores = [crossed(rng, seeds, 100, share)[0][0].values for _ in range(variants)]
        pairs = itertools.combinations(scores, 2)
        p = [components([_test_set(one - other)]).p() for one, other in pairs]
        errors += min(holm(p)) < 0.05
    return errors / trials


def family_broken(rate: float, trials: int) -> bool:
    """Whether more sweeps than allowed have a false verdict."""
    return _above(rate, FAMILY, trials)


def _above(rate: float, limit: float, trials: int) -> bool:
    return rate > limit + ERRORS * np.sqrt(limit * (1 - limit) / trials)


def _percent(share: Sequence[float]) -> str:
    return "/".join(f"{100 * part:.0f}" for part in share)


def _simulate(task: tuple[Design, int]) -> Rates:
    return simulate(*task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000, help="of each design")
    trials = parser.parse_args().trials
    print(f"{'Share of p below':44} {'0.05':>7} {'0.0167':>7} {'0.0083':>7} coverage    width")
    broken = []
    with multiprocessing.Pool() as pool:
        for title, found in (("equal variants", designs()), ("power", powers())):
            print(title)
            for rates in pool.imap(_simulate, [(design, trials) for design in found]):
                shares = " ".join(f"{share:7.4f}" for share in rates.false)
                print(f"{rates.name:44} {shares} {rates.coverage:8.3f} {rates.width:8.4f}")
                broken += rates.broken() if title != "power" else []
    print("any false verdict")
    for variants, seeds, share in families():
        rate = simulate_family(variants, seeds, share, trials)
        print(f"{variants} variants, {seeds} seeds, {_percent(share):24} {rate:.4f}")
        if family_broken(rate, trials):
            broken.append(f"{variants} variants, {seeds} seeds, {share}")
    print(f"{len(broken)} limits broken", *broken, sep="\n  ")


if __name__ == "__main__":
    assert FEWEST == 3  # the designs begin there
    main()
