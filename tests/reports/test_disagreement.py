import numpy as np
import pytest

from gru_audio.reports.comparison import compare
from gru_audio.reports.disagreement import disagreements
from gru_audio.reports.results import read_results
from tests.reports.workdirs import DIGITS, Made, write_workdir


def compared(folder, made):
    return compare(read_results(write_workdir(folder, made)))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    made = Made(variants={"gru": 5.0, "lstm": 4.0, "rnn": 2.0}, seeds=3)
    return compared(tmp_path_factory.mktemp("made"), made)


def test_the_examples_lie_furthest_apart_and_are_of_different_classes(comparison):
    means = []
    for variant in comparison.variants:
        told = [run.predictions for run in variant.runs]
        chances = [p["probabilities"][np.arange(300), p["label"]] for p in told]
        means.append(np.mean(chances, axis=0))
    spread = np.max(means, axis=0) - np.min(means, axis=0)
    label = comparison.variants[0].runs[0].predictions["label"]
    best = sorted(max((spread[i], i) for i in np.flatnonzero(label == c)) for c in range(10))

    found = disagreements(comparison)
    assert [each.example - 2000 for each in found] == [i for _, i in best[::-1][:6]]
    assert [each.spread for each in found] == pytest.approx([s for s, _ in best[::-1][:6]])
    assert [each.truth for each in found] == [DIGITS[label[i]] for _, i in best[::-1][:6]]


def test_classes_come_again_where_there_are_few(comparison):
    found = disagreements(comparison, 25)
    truths = [each.truth for each in found]
    assert len(set(truths)) == 10 and max(truths.count(c) for c in DIGITS) == 3


def test_an_opinion_counts_the_runs_that_are_right(comparison):
    each = disagreements(comparison)[0]
    for variant, prediction in zip(comparison.variants, each.by_variant, strict=True):
        rows = [r.predictions["probabilities"][each.example - 2000] for r in variant.runs]
        output_names = [DIGITS[row.argmax()] for row in rows]
        assert prediction.runs == 3
        assert prediction.right == output_names.count(each.truth)
        assert output_names.count(prediction.answer) == max(map(output_names.count, output_names))


def test_folds_disagree_on_examples_of_their_own(tmp_path):
    found = disagreements(compared(tmp_path, Made(folds=4)))
    assert len(found) == 6
    assert all(prediction.runs == 1 for each in found for prediction in each.by_variant)


def test_without_classes_the_loss_tells(tmp_path):
    comparison = compared(tmp_path, Made(metric="loss", class_names=(), speakers=0))
    losses = [
        np.mean([r.predictions["loss"] for r in variant.runs], axis=0)
        for variant in comparison.variants
    ]
    spread = np.ptp(losses, axis=0)
    found = disagreements(comparison)
    assert [each.example - 2000 for each in found] == np.argsort(-spread)[:6].tolist()
    assert all(each.truth is None and each.cluster == -1 for each in found)
    assert all(prediction.right is None for each in found for prediction in each.by_variant)


def test_of_tags_the_loss_tells_and_all_tags_are_named(tmp_path):
    comparison = compared(tmp_path, Made(metric="map", class_names=("a", "b"), tags=True))
    found = disagreements(comparison)
    assert {each.truth for each in found} <= {"a", "b", "a+b"}
    output_names = {prediction.answer for each in found for prediction in each.by_variant}
    assert output_names <= {"none", "a", "b", "a+b"}
    row, variant = found[0].example - 2000, comparison.variants[0]
    losses = [run.predictions["loss"][row] for run in variant.runs]
    assert found[0].by_variant[0].value == pytest.approx(np.mean(losses))


def test_one_variant_disagrees_with_nobody(tmp_path):
    assert disagreements(compared(tmp_path, Made(variants={"gru": 5.0}))) == ()
