"""The training loop: evaluations, stops, failures and saves do not affect other members."""

import math
import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tones import assert_same, member
from tests.training.outcome import MANY_STEPS, ONE_STEP, Outcome, same_member


@pytest.fixture(scope="module")
def two(source, tmp_path_factory):
    """Two members with different seeds."""
    return Outcome(source, tmp_path_factory.mktemp("two"), {}, {"seed": 1})


def test_records(two):
    for m in range(2):
        assert [record["step"] for record in two.records(m, "train/")] == [5, 10, 15, 20]
        assert [record["step"] for record in two.records(m, "validation/")] == [5, 10, 15, 20]
        for record in two.records(m, "train/"):
            assert record.keys() == {"step", "train/loss", "train/gradient_norm"}
        for record in two.records(m, "validation/"):
            metrics = {"loss", "accuracy", "macro_f1", "uar"}
            assert record.keys() == {"step", *(f"validation/{name}" for name in metrics)}
    assert two.records(0) != two.records(1)
    assert not any(two.memory.alive)
    assert two.memory.last_step == [20, 20]
    seconds = [record["seconds"] for record in two.all_records if record["run"] == "run0"]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_the_memory_it_took_is_known_after_a_resume_that_trains_nothing(source, tmp_path):
    first = Outcome(source, tmp_path, {}, **{"data.validation": ""})
    again = Outcome(source, tmp_path, {}, **{"data.validation": ""})
    assert again.population.memory_bytes == 0
    assert (
        again.memory.memory_bytes == first.memory.memory_bytes == first.population.memory_bytes > 0
    )


def test_calls_of_one_step_or_of_many_give_the_same_bits(source, tmp_path, two):
    single = Outcome(source, tmp_path, {}, {"seed": 1}, **{"parallel.call_seconds": ONE_STEP})
    for m in range(2):
        same_member(single, two, m)


def test_the_best_weights_are_kept(two):
    scores = two.population.score("validation", best=True)
    for m in range(2):
        lost = two.lost(m)
        assert two.memory.best[m] == min(lost.values())
        assert two.memory.best_step[m] == min(lost, key=lost.get)
        assert scores[m]["loss"].mean(dtype=np.float64) == two.memory.best[m]


def test_selection_by_accuracy_takes_the_first_of_the_highest(source, tmp_path):
    outcome = Outcome(source, tmp_path, {}, {"seed": 1}, **{"train.select": "validation/accuracy"})
    for m in range(2):
        found = {r["step"]: r["validation/accuracy"] for r in outcome.records(m, "validation/")}
        assert outcome.memory.best_step[m] == max(found, key=found.get)


def test_early_stopping_ends_one_member_and_not_the_other(source, tmp_path, two):
    """With a learning rate of zero, only the first evaluation is an improvement."""
    still = {"optimizer.learning_rate": 0.0}
    outcome = Outcome(source, tmp_path, still, {"seed": 1}, **{"train.patience": 2})
    memory = outcome.memory
    assert (memory.last_step[0], memory.best_step[0]) == (15, 5)
    assert len(set(outcome.lost(0).values())) == 1
    assert [record["step"] for record in outcome.records(0, "train/")] == [5, 10, 15]
    assert member(outcome.state, 0).step == 15
    assert not memory.failure[0]
    same_member(outcome, two, 1)


def test_numbers_of_steps_may_differ_within_a_group(source, tmp_path):
    cosine = {"optimizer.schedule": "cosine"}
    short, long = {"train.steps": 12}, {"seed": 1, "train.steps": 20}
    both = Outcome(source, tmp_path / "both", short, long, **cosine)
    assert both.memory.last_step == [12, 20]
    assert [r["step"] for r in both.records(0, "validation/")] == [5, 10, 12]  # also at its end
    # The end of one member must not cause an evaluation of another.
    assert [r["step"] for r in both.records(1, "validation/")] == [5, 10, 15, 20]
    shorts = Outcome(source, tmp_path / "short", short, {"seed": 2, "train.steps": 12}, **cosine)
    same_member(both, shorts, 0)


@pytest.mark.parametrize("call_seconds", [ONE_STEP, MANY_STEPS])
def test_a_member_with_a_nan_loss_fails_alone(source, tmp_path, two, call_seconds):
    members = ({"optimizer.learning_rate": 3e38}, {"seed": 1})
    options = {"train.log_every": 1, "parallel.call_seconds": call_seconds}
    outcome = Outcome(source, tmp_path, *members, **options)
    memory, step = outcome.memory, outcome.memory.last_step[0]
    failure = memory.failure[0]
    assert failure["error"] == f"The loss or its gradient is not finite at step {step}."
    assert failure["step"] == step
    assert failure["clips"] == outcome.loader.data.clips(0, step)
    assert len(failure["clips"]) == 8
    assert step < 5
    # For any length of a call, exactly the losses before the failure are kept.
    assert [record["step"] for record in outcome.records(0)] == list(range(1, step + 1))
    assert all(math.isfinite(record["train/loss"]) for record in outcome.records(0))
    assert memory.last_step[1] == 20
    assert not memory.failure[1]
    assert_same(member(outcome.state, 1), member(two.state, 1))
    assert outcome.records(1, "validation/") == two.records(1, "validation/")


def test_a_nan_validation_loss_is_a_failure(source, tmp_path):
    blown = {"optimizer.learning_rate": 3e38, "train.steps": 1}
    outcome = Outcome(source, tmp_path, blown, {"seed": 1, "train.steps": 1})
    failure, none = outcome.memory.failure
    assert failure["error"] == "validation/loss is not finite at step 1."
    assert none is None
    assert outcome.memory.best[0] is None


def test_without_validation_the_last_weights_are_the_best(source, tmp_path, two):
    outcome = Outcome(source, tmp_path, {}, {"seed": 1}, **{"data.validation": ""})
    assert outcome.memory.best_step == [20, 20]
    assert_same(outcome.state.best, outcome.state.weights)
    assert_same(outcome.state.weights, two.state.weights)
    assert not outcome.records(0, "validation/")


def test_resuming_from_any_checkpoint_gives_the_same_bits(source, tmp_path):
    """Also if it is within a window of the training metrics."""
    options = {"checkpoint.every_steps": 3, "train.log_every": 4}
    members = ({}, {"seed": 1, "train.steps": 13})
    whole = Outcome(source, tmp_path / "whole", *members, **options)
    checkpoints = tmp_path / "whole" / "checkpoints"
    assert sorted(int(path.name) for path in checkpoints.iterdir()) == [3, 6, 9, 12, 15, 18, 20]
    for last in (15, 3):
        for path in checkpoints.iterdir():
            if int(path.name) > last:
                shutil.rmtree(path)
        resumed = Outcome(source, tmp_path / "whole", *members, **options)
        for m in range(2):
            same_member(resumed, whole, m)
            shown = EventAccumulator(str(tmp_path / "whole" / f"run{m}" / "tensorboard")).Reload()
            steps = [event.step for event in shown.Scalars("validation/loss")]
            assert steps == [record["step"] for record in whole.records(m, "validation/")]


def test_a_group_that_is_done_does_nothing_more(source, tmp_path):
    first = Outcome(source, tmp_path, {}, {"seed": 1})
    again = Outcome(source, tmp_path, {}, {"seed": 1})
    assert again.all_records == first.all_records
    assert_same(again.state, first.state)


def test_more_steps_give_what_a_longer_run_gives(source, tmp_path):
    """Bit-identical, also within a window of the metrics. A member out of patience stays ended."""
    members = {"optimizer.learning_rate": 0.0}, {"seed": 1}
    options = {"train.patience": 2, "train.log_every": 4}
    whole = Outcome(source, tmp_path / "whole", *members, **options)
    first = Outcome(source, tmp_path / "parts", *members, **options, **{"train.steps": 15})
    assert first.memory.last_step == [15, 15]
    longer = Outcome(source, tmp_path / "parts", *members, **options)
    assert longer.memory.last_step == [15, 20]
    for m in range(2):
        same_member(longer, whole, m)
