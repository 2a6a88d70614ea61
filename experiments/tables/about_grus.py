"""Claims about GRUs, tested on kept results of the experiments."""

import csv
import math

from experiments.bai2018 import PUBLISHED
from experiments.claims import CHORALES, CLIPS, SPANS
from experiments.tables.claims import (
    Basis,
    Claim,
    Evidence,
    compared,
    counted,
    read_benchmark,
    updates_to_equal_score,
    validation_at_equal_training_loss,
)
from experiments.tables.kept import read_kept
from experiments.tables.published import Published
from gru_audio.reports.statistics import Estimate


def _smaller(results):
    kept, wide = read_kept(results, "claims-size_fsdd"), "LSTM as wide, 2400"
    counts = {
        "weights of the encoder": lambda run: run.recurrent_parameters,
        "bytes of a training call": lambda run: run.peak_memory_bytes,
    }
    return [
        evidence
        for what, count in counts.items()
        for evidence in counted(
            kept, "GRU, 2400", wide, count, setting=f"{what}, 64 units", expected=-1
        )
    ]


def _faster_step(results):
    found = []
    for row in read_benchmark(results / "claims-cells.json"):
        if row["contestant"] == "gru":
            ms, speed = row["both_ms"]["median"], row["speed"]["lstm"]
            found.append(
                Evidence(
                    setting=row["case"],
                    first=("GRU, ms", ms),
                    second=("LSTM, ms", ms * speed["median"]),
                    difference=Estimate(*(speed[name] for name in ("median", "q1", "q3"))),
                    expected=1,
                    neutral=1.0,
                    basis=Basis.ROUNDS,
                )
            )
    return found


def _fewer_updates(results):
    chung = read_kept(results, "chung2014-jsb_chorales")
    short = read_kept(results, "claims-short_fsdd")
    return [
        *updates_to_equal_score(chung, "GRU", "LSTM", setting="JSB Chorales", expected=-1),
        *updates_to_equal_score(
            short, "GRU, 0.8 s", "LSTM, 0.8 s", setting="spoken digits", expected=-1
        ),
    ]


def _by_size(compare, settings):
    """Compares the GRU with both LSTMs at every number of training examples.

    Args:
        compare: compares two variants of kept results.
        settings: part -> the compared value, and the expected sign.
    """
    sizes = {"size_fsdd": (CLIPS, "clips"), "size_jsb": (CHORALES, "chorales")}

    def tests(results):
        return [
            evidence
            for part, (what, expected) in settings.items()
            for size in sizes[part][0]
            for other in ("LSTM as wide", "LSTM as large")
            for evidence in compare(
                read_kept(results, f"claims-{part}"),
                f"GRU, {size}",
                f"{other}, {size}",
                setting=f"{size} {sizes[part][1]}, {what}",
                expected=expected,
            )
        ]

    return tests


def _good_on_short(results):
    kept = read_kept(results, "claims-short_fsdd")
    return [
        evidence
        for span in SPANS
        for evidence in compared(
            kept,
            f"GRU, {span} s",
            f"LSTM, {span} s",
            setting=f"{span} s of a spoken digit, accuracy",
            expected=1,
        )
    ]


def _loss_without_counting(steps):
    """Returns the least counting loss, in nats, of a model that knows the step but no bracket.

    The number of open brackets is the distance of a simple random walk from its start.
    """
    entropy = 0.0
    for step in range(2, steps + 1, 2):  # after an odd number of steps a bracket is always open
        closed = math.comb(step, step // 2) / 2**step
        entropy -= sum(p * math.log(p) for p in (closed, 1 - closed))
    return entropy / steps


def _loses_more(*names):
    """Compares the test losses of GRU and LSTM; two losses at the floor show nothing."""
    floors = {
        **Published.from_dict("bai2018", PUBLISHED).floors,
        "counting": _loss_without_counting(400),
    }

    def tests(results):
        return [
            evidence
            for name in names
            for evidence in compared(
                read_kept(results, name),
                "GRU",
                "LSTM",
                setting=name.partition("-")[2].replace("_", " ") + ", test loss",
                expected=1,
                floor=floors.get(name.partition("-")[2]),
            )
        ]

    return tests


def _gates_tell_onsets(results):
    """Reads the differences of families' best scores, as `experiments.onsets` wrote them."""
    path = results / "update_gate.onsets.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    found = []
    for row in rows:
        if not row["verdict"] or not row["family"].startswith("gates"):
            continue
        means = []
        for family, score in zip(
            *(row[name].split(" - ") for name in ("family", "score")), strict=True
        ):
            values = [
                float(one["test"])
                for one in rows
                if one["measure"] == row["measure"]
                and one["score"] == score
                and one["family"].startswith(family)
            ]
            means.append((f"{family}, {score}", sum(values) / len(values)))
        first, second = means
        difference = Estimate(float(row["test"]), float(row["low"]), float(row["high"]))
        setting, p = f"onsets, {row['measure']}", float(row["p"])
        found.append(Evidence(setting, first, second, difference, expected=1, p=p))
    return found


CLAIMS = (
    Claim(
        "A GRU has fewer parameters than an LSTM of the same width, and needs less memory",
        "One layer of 64 units on 40 features. Parameters are counted; the compiler reports the "
        "memory of a training call (`claims.py:size_fsdd`).",
        _smaller,
    ),
    Claim(
        "A step of a GRU is faster than a step of an LSTM of the same width",
        "Forward and backward pass of one layer, the cells in turns: ratio of speeds with "
        "quartiles (`python -m benchmarks cells --json "
        "experiments/results/claims-cells.json`).",
        _faster_step,
    ),
    Claim(
        "A GRU needs fewer updates than an LSTM to reach the same validation loss",
        "The ratio of the updates until the worse of the two best losses. On JSB Chorales: sizes "
        "of Chung et al., each with its own constant learning rate. On digits: equal parameters "
        "and one rate that decays over 600 updates, so that the variant with the worse loss "
        "reaches it near the end (`chung2014.py`, `claims.py:short_fsdd`).",
        _fewer_updates,
    ),
    Claim(
        "A GRU overfits less than an LSTM",
        "Validation loss at the same training loss, the lowest that both reach, without dropout or "
        "noise. A comparison after equal numbers of updates would penalise the one that learns "
        "faster (`claims.py:size_fsdd`, `size_jsb`).",
        _by_size(
            validation_at_equal_training_loss,
            {part: ("validation loss", -1) for part in ("size_fsdd", "size_jsb")},
        ),
    ),
    Claim(
        "A GRU is better than an LSTM on small training sets",
        "The test metric at the update with the lowest validation loss, without dropout or noise "
        "(`claims.py:size_fsdd`, `size_jsb`).",
        _by_size(compared, {"size_fsdd": ("accuracy", 1), "size_jsb": ("test loss", -1)}),
    ),
    Claim(
        "A GRU is better than an LSTM on short sequences",
        "Spoken digits cropped to the given duration, at equal parameters "
        "(`claims.py:short_fsdd`).",
        _good_on_short,
    ),
    Claim(
        "A GRU is weaker than an LSTM on very long dependencies",
        "The adding problem and copying at equal parameters, each at its own learning rate: does "
        "the GRU have the higher loss (`bai2018.py`; its tables below show where each cell fails)? "
        "If both stay at the floor, neither remembers, and the comparison shows nothing.",
        _loses_more(
            *(f"bai2018-adding_{steps}" for steps in (200, 400, 600)),
            *(f"bai2018-copy_memory_{steps}" for steps in (500, 1000, 2000)),
        ),
    ),
    Claim(
        "A GRU counts less well than an LSTM beyond the training lengths",
        "When are all brackets closed? Trained on 50 steps, tested on 400: does the GRU have the "
        f"higher loss (`claims.py:counting`)? A loss below {_loss_without_counting(400):.3f} means "
        "that a cell counts: that is the least loss of a model that knows the step but no bracket.",
        _loses_more("claims-counting"),
    ),
    Claim(
        "The update gate of a GRU can be interpreted: it shows where a bird's syllables begin",
        "A GRU predicts the song of a Bengalese finch without syllable labels: is the best score "
        "from its update gates better than the best score from energy, and better than the best "
        "score from an untrained GRU? Extremes are gates above 0.9 or below 0.1. Differences are "
        "paired by seed and recording. More detectors were tried after the test recordings had "
        "been scored, which favours the gates (`update_gate.py`).",
        _gates_tell_onsets,
    ),
)
