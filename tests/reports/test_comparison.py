import json

import numpy as np
import pytest
import sklearn.metrics

from gru_audio.reports import context, wording
from gru_audio.reports.baselines import Baseline, Baselines
from gru_audio.reports.comparison import compare
from gru_audio.reports.results import read_results
from gru_audio.reports.tables import markdown_tables
from gru_audio.reports.verdicts import Verdict
from gru_audio.settings import UserError
from tests.reports.workdirs import Made, fail, rewrite, write_workdir


def comparison_of(workdir):
    return compare(read_results(workdir))


def accuracy(workdir, run):
    result = json.loads((workdir / "runs" / run / "result.json").read_text())
    return result["metrics"]["test"]["accuracy"]


def test_estimates_are_means_over_replicates(tmp_path):
    write_workdir(tmp_path, Made(seeds=4))
    compared = comparison_of(tmp_path)
    for variant in compared.variants:
        values = [accuracy(tmp_path, f"{variant.name}-{seed}") for seed in range(4)]
        assert variant.values == pytest.approx(values)
        assert variant.estimate.value == pytest.approx(np.mean(values))
        assert variant.estimate.low <= variant.estimate.value <= variant.estimate.high
    best, second = compared.variants
    (pair,) = compared.pairs
    assert pair.difference.value == pytest.approx(best.estimate.value - second.estimate.value)
    assert pair.difference.value >= 0 and pair.replicates == 4
    (sampled,) = compared.test_sets
    assert (sampled.replicates, sampled.examples, sampled.units) == (4, 300, 6)
    assert sampled.clustered and not sampled.one_cluster and not sampled.dropped


def test_a_far_better_variant_is_shown_to_be_better(tmp_path):
    write_workdir(tmp_path, Made(variants={"lstm": 2.0, "gru": 6.0}, speakers=60))
    compared = comparison_of(tmp_path)
    assert [variant.name for variant in compared.variants] == ["gru", "lstm"]
    (pair,) = compared.pairs
    assert (pair.first, pair.second, pair.better) == ("gru", "lstm", "gru")
    assert pair.p < 0.001 and pair.difference.low > 0


def test_equal_variants_are_not_told_apart(tmp_path):
    write_workdir(tmp_path, Made(seeds=3))
    for seed in range(3):
        with np.load(tmp_path / "runs" / f"gru-{seed}" / "predictions" / "test.npz") as arrays:
            same = dict(arrays)
        rewrite(tmp_path, f"lstm-{seed}", lambda _, same=same: same, metrics=True)
    (pair,) = comparison_of(tmp_path).pairs
    assert pair.difference.value == 0
    assert pair.p == 1 and pair.better is None
    assert pair.verdict is Verdict.EQUIVALENT


def test_examples_are_paired_by_id_whatever_their_order(tmp_path):
    write_workdir(tmp_path, Made(seeds=3))
    before = comparison_of(tmp_path)

    def shuffle(arrays):
        order = np.random.default_rng(0).permutation(arrays["example"].size)
        return {name: array[order] for name, array in arrays.items()}

    for seed in range(3):
        rewrite(tmp_path, f"lstm-{seed}", shuffle, metrics=False)
    assert comparison_of(tmp_path).pairs == before.pairs


def test_examples_that_a_run_lacks_are_left_out(tmp_path):
    write_workdir(tmp_path, Made(seeds=3))
    rewrite(tmp_path, "lstm-1", lambda a: {n: v[:-20] for n, v in a.items()}, metrics=True)
    compared = comparison_of(tmp_path)
    assert sorted((part.replicates, part.examples) for part in compared.test_sets) == [
        (1, 280),
        (2, 300),
    ]
    assert max(part.dropped for part in compared.test_sets) == 20


def test_variants_without_a_common_example_are_refused(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    rewrite(tmp_path, "lstm-0", lambda a: a | {"example": a["example"] + 10_000}, metrics=False)
    with pytest.raises(UserError, match="no common test example"):
        comparison_of(tmp_path)


def test_folds_are_test_sets_of_their_own(tmp_path):
    write_workdir(tmp_path, Made(folds=6, examples=600))
    compared = comparison_of(tmp_path)
    assert [part.examples for part in compared.test_sets] == [100] * 6
    assert all(part.one_cluster and part.replicates == 1 for part in compared.test_sets)
    (pair,) = compared.pairs
    by_fold = [
        accuracy(tmp_path, f"{pair.first}-{fold}") - accuracy(tmp_path, f"{pair.second}-{fold}")
        for fold in range(6)
    ]
    assert pair.difference.value == pytest.approx(np.mean(by_fold))


@pytest.mark.parametrize("has_predicted", [False, True])
def test_a_failed_run_takes_its_replicate_from_all_variants(tmp_path, has_predicted):
    write_workdir(tmp_path, Made(seeds=4))
    fail(tmp_path, "lstm-2", has_predicted=has_predicted)
    compared = comparison_of(tmp_path)
    kept = (0, 1, 3)
    values = {
        name: [accuracy(tmp_path, f"{name}-{seed}") for seed in kept] for name in ("gru", "lstm")
    }
    for variant in compared.variants:
        assert variant.values == pytest.approx(values[variant.name])
        assert variant.estimate.value == pytest.approx(np.mean(values[variant.name]))
        assert (len(variant.runs), variant.planned) == (3, 4)
    (pair,) = compared.pairs
    assert pair.replicates == 3
    assert pair.difference.value == pytest.approx(
        np.mean(np.subtract(values[pair.first], values[pair.second]))
    )
    assert compared.left_out == 1
    assert (
        "Variants are compared on the replicates that all of them have; 1 more run left out."
        in wording.cautions(compared)
    )


def test_variants_without_a_common_replicate_stand_alone(tmp_path):
    write_workdir(tmp_path, Made(seeds=2))
    fail(tmp_path, "gru-0")
    fail(tmp_path, "lstm-1")
    compared = comparison_of(tmp_path)
    assert [len(variant.runs) for variant in compared.variants] == [1, 1]
    assert compared.pairs == ()
    assert compared.left_out == 0


def test_a_variant_without_any_run_is_named(tmp_path):
    write_workdir(tmp_path, Made(variants={"gru": 5.0, "lstm": 4.0, "rnn": 3.0}, seeds=2))
    fail(tmp_path, "rnn-0")
    fail(tmp_path, "rnn-1")
    compared = comparison_of(tmp_path)
    assert {variant.name for variant in compared.variants} == {"gru", "lstm"}
    assert "No run of rnn has finished." in wording.cautions(compared)


def test_nothing_finished_is_nothing_compared(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    fail(tmp_path, "gru-0")
    fail(tmp_path, "lstm-0")
    compared = comparison_of(tmp_path)
    assert compared.variants == compared.pairs == compared.test_sets == ()


def selection(workdir, run, value):
    path = workdir / "runs" / run / "result.json"
    result = json.loads(path.read_text())
    result["metrics"]["validation"]["loss"] = value
    path.write_text(json.dumps(result))


def drawn(tmp_path, losses):
    """A sweep of two trials whose validation losses are `losses[trial][seed]`."""
    write_workdir(tmp_path, Made(variants={"gru": 5.0}, trials={0.1: 0.0, 0.2: 0.0}, seeds=2))
    for rate, of_seeds in losses.items():
        for seed, value in enumerate(of_seeds):
            selection(tmp_path, f"gru-{rate}-{seed}", value)


def test_validation_chooses_the_draw(tmp_path):
    drawn(tmp_path, {0.1: (0.3, 0.5), 0.2: (0.2, 0.7)})
    (variant,) = comparison_of(tmp_path).variants
    assert variant.trial == {"optimizer.learning_rate": 0.1} and variant.trials == 2


def test_validation_may_be_better_when_higher(tmp_path):
    drawn(tmp_path, {0.1: (0.3, 0.5), 0.2: (0.2, 0.7)})
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"selection": "validation/accuracy"}))
    for path in tmp_path.glob("runs/*/result.json"):
        result = json.loads(path.read_text())
        result["metrics"]["validation"] = {"accuracy": result["metrics"]["validation"]["loss"]}
        path.write_text(json.dumps(result))
    assert comparison_of(tmp_path).variants[0].trial == {"optimizer.learning_rate": 0.2}


def test_a_trial_that_lost_a_replicate_is_not_chosen(tmp_path):
    drawn(tmp_path, {0.1: (0.3, 0.5), 0.2: (0.1, 0.1)})
    fail(tmp_path, "gru-0.2-1")
    assert comparison_of(tmp_path).variants[0].trial == {"optimizer.learning_rate": 0.1}


def test_a_trial_that_diverged_is_not_chosen(tmp_path):
    drawn(tmp_path, {0.1: (0.3, 0.5), 0.2: (0.1, float("nan"))})
    assert comparison_of(tmp_path).variants[0].trial == {"optimizer.learning_rate": 0.1}


def test_of_losses_the_lower_wins(tmp_path):
    write_workdir(tmp_path, Made(variants={"lstm": 2.0, "gru": 6.0}, speakers=60, metric="loss"))
    compared = comparison_of(tmp_path)
    assert [variant.name for variant in compared.variants] == ["gru", "lstm"]
    (pair,) = compared.pairs
    assert pair.better == "gru" and pair.difference.high < 0


def test_sequences_weigh_by_what_is_counted_in_them(tmp_path):
    made = Made(variants={"lstm": 2.0, "gru": 6.0}, speakers=60, metric="loss", class_names=())
    write_workdir(tmp_path, made)
    compared = comparison_of(tmp_path)
    for variant in compared.variants:
        assert variant.values == pytest.approx([run.metric("test/loss") for run in variant.runs])
        plain = np.mean([run.predictions["loss"].mean() for run in variant.runs])
        assert variant.estimate.value == pytest.approx(np.mean(variant.values))
        assert variant.estimate.value != pytest.approx(plain, rel=1e-3)
    (pair,) = compared.pairs
    best, second = compared.variants
    assert pair.better == best.name == "gru"
    assert pair.difference.value == pytest.approx(best.estimate.value - second.estimate.value)


@pytest.mark.parametrize("metric", ["macro_f1", "uar"])
def test_a_metric_that_is_no_mean_is_compared(tmp_path, metric):
    write_workdir(tmp_path, Made(variants={"lstm": 2.0, "gru": 6.0}, speakers=0))
    compared = compare(read_results(tmp_path, metric))
    for variant in compared.variants:
        for run, value in zip(variant.runs, variant.values, strict=True):
            label, answer = run.predictions["label"], run.predictions["probabilities"].argmax(1)
            of_class = sklearn.metrics.precision_recall_fscore_support(label, answer)
            expected = of_class[2 if metric == "macro_f1" else 1].mean()
            assert value == pytest.approx(expected) == pytest.approx(run.metric(f"test/{metric}"))
    (pair,) = compared.pairs
    best, second = compared.variants
    assert pair.better == best.name == "gru" and compared.margin == 0.01
    assert pair.difference.value == pytest.approx(best.estimate.value - second.estimate.value)


def test_a_margin_is_that_of_the_sweeps_metric(tmp_path):
    write_workdir(tmp_path, Made(seeds=3))
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"margin": 0.3}))
    assert compare(read_results(tmp_path)).margin == 0.3
    assert compare(read_results(tmp_path, "uar")).margin == 0.01


def test_a_metric_that_the_task_has_not_is_refused(tmp_path):
    write_workdir(tmp_path, Made(seeds=1, metric="acuracy"))
    with pytest.raises(UserError, match='Did you mean "accuracy"'):
        comparison_of(tmp_path)


def swap_arrays(name, value):
    return lambda arrays: arrays | {name: value(arrays[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {n: v[::2] for n, v in a.items()}, "its predictions give a test"),
        (swap_arrays("loss", lambda v: v * np.nan), "loss that is not a finite number"),
        (swap_arrays("loss", lambda v: v + 0.1), "its predictions give a test loss"),
        (swap_arrays("label", lambda v: np.roll(v, 1)), "its predictions give a test accuracy"),
        (swap_arrays("label", lambda v: v + 99), "label out of range"),
        (swap_arrays("loss", lambda v: v[:, None]), "loss of shape"),
        (swap_arrays("probabilities", lambda v: v[:, :-1]), "probabilities of shape"),
        (swap_arrays("example", lambda v: v * 0), "an example twice"),
        (swap_arrays("cluster", lambda v: v.astype(float)), "cluster that is not"),
    ],
)
def test_predictions_that_contradict_the_metrics_are_refused(tmp_path, change, message):
    write_workdir(tmp_path, Made(seeds=4))
    rewrite(tmp_path, "lstm-1", change, metrics=False)
    compared = comparison_of(tmp_path)
    (run,) = compared.damaged
    assert run.name == "lstm-1" and message in run.damage
    (pair,) = compared.pairs
    assert pair.replicates == 3  # enough for a verdict, which is withheld all the same
    assert pair.verdict is Verdict.NONE and pair.p is None and pair.better is None
    said = context.summary(compared)
    assert said[0].startswith("No verdict on")
    assert any("Run lstm-1 is left out" in line and message in line for line in said)
    assert "Run lstm-1 is left out" in markdown_tables(compared)


@pytest.mark.parametrize("damage", ["delete", "cut", "other run"])
def test_missing_or_foreign_predictions_give_no_verdict(tmp_path, damage):
    write_workdir(tmp_path, Made(seeds=4))
    path = tmp_path / "runs" / "gru-2" / "predictions" / "test.npz"
    if damage == "delete":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_bytes((tmp_path / "runs/lstm-0/predictions/test.npz").read_bytes())
    compared = comparison_of(tmp_path)
    assert [run.name for run in compared.damaged] == ["gru-2"]
    assert [pair.verdict for pair in compared.pairs] == [Verdict.NONE]


def test_damage_of_every_run_is_reported(tmp_path):
    write_workdir(tmp_path, Made(seeds=1))
    for path in tmp_path.glob("runs/*/predictions/test.npz"):
        path.unlink()
    compared = comparison_of(tmp_path)
    assert wording.headline(compared) == "No finished run can be used"
    damages = wording.damages(compared)
    assert len(damages) == 2 and wording.cautions(compared) == damages
    assert "Run gru-0 is left out: its predictions are missing." in markdown_tables(compared)


def test_two_replicates_give_no_verdict(tmp_path):
    write_workdir(tmp_path, Made(variants={"gru": 7.0, "lstm": 1.0}, seeds=2))
    (pair,) = comparison_of(tmp_path).pairs
    assert pair.verdict is Verdict.NONE and pair.p is None
    assert not pair.difference.is_interval


def test_variants_at_the_trivial_baseline_give_no_verdict(tmp_path):
    write_workdir(tmp_path, Made(variants={"gru": 6.0, "lstm": 2.0}, speakers=60))
    results = read_results(tmp_path)

    def compared(chance):
        trivial = Baseline("majority class", "", ("gru", "lstm"), {"": chance})
        return compare(results, Baselines(trivial))

    assert compared(0.1).pairs[0].better == "gru"
    (pair,) = compared(compare(results).variants[0].estimate.value).pairs
    assert pair.verdict is Verdict.NONE and "trivial baseline" in pair.reason


def test_the_margin_of_the_sweep_decides_what_is_equivalent(tmp_path):
    write_workdir(tmp_path, Made(variants={"gru": 5.0, "lstm": 5.0}, speakers=0, examples=2000))
    (pair,) = comparison_of(tmp_path).pairs
    assert pair.margin == 0.01 and pair.verdict is Verdict.EQUIVALENT
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"margin": 0.002}))
    (pair,) = comparison_of(tmp_path).pairs
    assert pair.margin == 0.002 and pair.verdict is Verdict.NOT_SHOWN and pair.needed > 5
