import numpy as np
import pytest
import sklearn.metrics

from gru_audio.reports.classes import class_differences, most_different
from gru_audio.reports.comparison import compare
from gru_audio.reports.results import read_results
from tests.reports.workdirs import DIGITS, Made, write_workdir


def compared(folder, made):
    return compare(read_results(write_workdir(folder, made)))


@pytest.mark.parametrize("made", [Made(seeds=3), Made(folds=3, speakers=3)])
def test_recalls_agree_with_scikit_learn(tmp_path, made):
    comparison = compared(tmp_path, made)
    found = class_differences(comparison)
    assert sorted(each.name for each in found) == sorted(DIGITS)
    for column, variant in enumerate(comparison.variants):
        told = [run.predictions for run in variant.runs]
        recalls = [
            sklearn.metrics.recall_score(p["label"], p["probabilities"].argmax(1), average=None)
            for p in told
        ]
        mean = np.mean(recalls, axis=0)
        for each in found:
            assert each.values[column] == pytest.approx(mean[DIGITS.index(each.name)])


def test_average_precisions_of_tags_agree_with_scikit_learn(tmp_path):
    made = Made(variants={"gru": 6.0, "rnn": 0.0}, seeds=3, metric="map", tags=True, speakers=0)
    comparison = compared(tmp_path, made)
    found = class_differences(comparison)
    assert sorted(each.name for each in found) == sorted(DIGITS)
    tags = comparison.results.task.output_names
    for column, variant in enumerate(comparison.variants):
        for each in found:
            of_runs = [
                sklearn.metrics.average_precision_score(
                    run.predictions["tags"][:, tags.index(each.name)],
                    run.predictions["probabilities"][:, tags.index(each.name)],
                )
                for run in variant.runs
            ]
            assert each.values[column] == pytest.approx(np.mean(of_runs))
    assert comparison.variants[0].name == "gru" and any(each.pair.better == "gru" for each in found)


def test_differences_are_sorted_and_lie_in_their_intervals(tmp_path):
    made = Made(variants={"gru": 6.0, "rnn": -1.0}, seeds=3, speakers=0)
    found = class_differences(compared(tmp_path, made))
    values = [each.difference.value for each in found]
    assert values == sorted(values, reverse=True)
    for each in found:
        assert each.difference.value == pytest.approx(each.values[0] - each.values[1])
        assert each.difference.low <= each.difference.value <= each.difference.high
        assert each.pair.p < 0.05


def test_a_variant_against_its_equal_differs_nowhere(tmp_path):
    found = class_differences(compared(tmp_path, Made(seeds=4)))
    assert sum(each.pair.p < 0.05 for each in found) == 0


def test_of_many_classes_the_most_different_are_left(tmp_path):
    names = tuple(f"word {i}" for i in range(26))
    made = Made(class_names=names, seeds=2, examples=1000)
    found = class_differences(compared(tmp_path, made))
    shown = most_different(found)
    assert len(found) == 26 and len(shown) == 12
    least = min(abs(each.difference.value) for each in shown)
    assert all(abs(e.difference.value) <= least for e in found if e not in shown)
    assert [each for each in found if each in shown] == list(shown)


def test_one_variant_or_no_classes_have_none(tmp_path):
    assert class_differences(compared(tmp_path / "one", Made(variants={"gru": 5.0}))) == ()
    made = Made(metric="loss", class_names=())
    assert class_differences(compared(tmp_path / "none", made)) == ()
