"""Resident and streamed loaders follow the same plan, and return scores in order."""

from dataclasses import replace
from typing import ClassVar

import jax
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from gru_audio.data.group import gather_data
from gru_audio.data.plan import crop_fractions, rows_to_examples
from gru_audio.data.source import Source
from gru_audio.data.stream import read
from gru_audio.settings import UserError
from tests.tones import NOISE, assert_same, fresh, make_loader, member, steps, tiny

CHANGES = {"data.buckets": 2, "data.crop_seconds": 0.3, "model.dropout": 0.2, "augment.mixup": 0.4}
STREAMED = {"data.loader": "streamed"}


@pytest.fixture(scope="module")
def configs():
    return [tiny(CHANGES), tiny(CHANGES | {"seed": 1})]


@pytest.fixture(scope="module")
def resident(source, configs):
    return make_loader(source, configs)


@pytest.fixture(scope="module")
def streamed(source):
    return make_loader(source, [tiny(CHANGES | STREAMED), tiny(CHANGES | STREAMED | {"seed": 1})])


@pytest.fixture(scope="module")
def trained(resident, configs):
    return steps(resident, configs, [20])


def test_resident_and_streamed_give_the_same_bits(streamed, configs, trained):
    state, metrics = steps(streamed, configs, [1] * 20)
    assert_same(metrics, trained[1])
    assert_same(state, trained[0])


@pytest.mark.reliability  # for its length
def test_members_that_hold_out_different_groups_equal_single_runs(source):
    """At some steps members are in different buckets. Quotas and class weights differ, too."""
    held_out = {
        "data.buckets": 2,
        "data.train_examples": 33,
        "data.sampling": "balanced",
        "task.class_weight": "balanced",
        "model.recurrent_init": "uniform",
        "train.steps": 12,
    }
    settings = [held_out | {"data.hold_out": f"group={who}"} for who in ("ann", "ben")]
    group = [tiny(changes) for changes in settings]
    resident = make_loader(source, group)
    buckets, _ = resident.data.schedule(0, 12)
    assert (buckets[0] != buckets[1]).any()
    state, metrics = steps(resident, group, [12])
    for m, ids in enumerate(resident.data.ids):
        labels = source.columns["label"][ids["train"]]
        expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
        np.testing.assert_allclose(state.class_weights[m], expected, rtol=1e-6)
    assert (state.class_weights[0] != state.class_weights[1]).any()
    alone = [tiny(settings[1])]
    own_state, own_metrics = steps(make_loader(source, alone), alone, [12])
    assert_same(member(state, 1), member(own_state, 0))
    assert_same(member(metrics, 1), member(own_metrics, 0))
    streamed = [tiny(changes | STREAMED) for changes in settings]
    streamed_state, streamed_metrics = steps(make_loader(source, streamed), streamed, [1] * 12)
    assert_same(streamed_metrics, metrics)
    assert_same(streamed_state, state)


@pytest.mark.reliability  # for its length
def test_with_all_noise_they_agree(source):
    """The compiler fuses operations differently inside a loop."""
    losses = []
    for changes, calls in (({}, [20]), (STREAMED, [1] * 20)):
        configs = [tiny(NOISE | changes)]
        losses.append(steps(make_loader(source, configs), configs, calls)[1]["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-6)


def test_calls_of_one_step_or_of_many_give_the_same_bits(resident, configs, trained):
    assert_same(steps(resident, configs, [1, 7, 1, 11]), trained)


def test_a_member_that_is_not_alive_is_left_as_it_is(resident, configs):
    state = fresh(resident, configs)
    before = member(jax.device_get(state), 0)
    state, metrics = resident.train(state, np.array([False, True]), 0, 3)
    assert_same(member(jax.device_get(state), 0), before)
    assert not metrics["loss"][0].any()
    assert metrics["loss"][1].all()


def test_the_first_loss_is_that_of_the_plans_first_batch(source):
    """Without noise, the first loss is the mean score of the untrained model."""
    configs = [tiny({"seed": 5})]
    loader = make_loader(source, configs)
    state, (bucket, visit) = fresh(loader, configs), (0, 0)
    plan, table = loader.data.plan, loader.data.tables[0][bucket]
    rows = np.arange(plan.batch_size, dtype=np.int32)
    order = (np.uint32(5), bucket, visit, rows, plan.batch_size)
    ids = rows_to_examples(table, len(table), *order)
    batch = read(source, loader.data.labels, ids, rows, plan.padded[0], crop_fractions(*order))
    one = jax.device_get((state.weights, state.normalisation))
    scores = jax.jit(loader.program.score)(*member(one, 0), batch)
    _, metrics = loader.train(state, np.ones(1, bool), 0, 1)
    np.testing.assert_allclose(metrics["loss"][0, 0], np.mean(scores["loss"]), rtol=1e-5)


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_scores_are_in_the_order_of_the_ids(source, resident, streamed, trained, role):
    placement, (state, _) = resident.placement, trained
    state = placement.scatter(state)
    scores = resident.score(state.weights, state.normalisation, role)
    for its, others in zip(
        scores, streamed.score(state.weights, state.normalisation, role), strict=True
    ):
        assert_same(its, others)
    one = member(jax.device_get((state.weights, state.normalisation)), 1)
    score, plan = jax.jit(resident.program.score), resident.data.plan
    for index, example in list(enumerate(resident.data.ids[1][role]))[::5]:
        ids = np.full(32, example, np.int32)  # on its own
        padded = plan.padded[plan.bucket_of(source.columns["length"][ids[:1]])[0]]
        half = np.full(32, 0.5, np.float32)
        alone = score(*one, read(source, resident.data.labels, ids, ids, padded, half))
        np.testing.assert_allclose(scores[1]["loss"][index], alone["loss"][0], rtol=1e-5, atol=1e-6)
    labels = resident.data.labels[resident.data.ids[1][role]]
    taken = scores[1]["probabilities"][np.arange(len(labels)), labels]
    np.testing.assert_allclose(-np.log(taken), scores[1]["loss"], rtol=1e-4, atol=1e-5)


class Recorded(Source):
    """A data set that records which clips were read."""

    asked: ClassVar[list[int]] = []

    def signals(self, ids):
        self.asked.extend(map(int, ids))
        return super().signals(ids)


def test_a_clip_that_members_share_is_read_once(source, streamed, trained):
    data = replace(streamed.data, source=Recorded(**vars(source)))
    loader = replace(streamed, data=data)
    state = loader.placement.scatter(trained[0])
    Recorded.asked.clear()
    loader.score(state.weights, state.normalisation, "validation")
    clips, chunks = data.ids[0]["validation"], len(data.plan.padded)
    np.testing.assert_array_equal(clips, data.ids[1]["validation"])
    assert set(Recorded.asked) >= set(clips)
    assert len(Recorded.asked) <= len(clips) + chunks  # one clip fills the remaining rows


def test_a_role_without_examples_has_no_scores(source):
    configs = [tiny({"data.validation": ""}), tiny()]
    loader = make_loader(source, configs)
    state = fresh(loader, configs)
    empty, scored = loader.score(state.weights, state.normalisation, "validation")
    assert not empty
    assert len(scored["loss"]) == len(loader.data.ids[1]["validation"])


def test_normalisation_is_of_the_members_own_training_examples(source):
    configs = [tiny({"data.hold_out": f"group={who}"}) for who in ("ann", "ben")]
    loader = make_loader(source, configs)
    state = jax.device_get(fresh(loader, configs))
    features = jax.jit(loader.program.features)
    for m in range(2):
        frames = []
        for example in loader.data.ids[m]["train"]:
            ids, zero = np.array([example]), np.zeros(1, np.float32)
            batch = read(source, loader.data.labels, ids, ids, loader.data.plan.padded[0], zero)
            values, count = features(batch)
            frames.append(np.asarray(values, np.float64)[0, : int(count[0])])
        frames = np.concatenate(frames)
        normalisation = member(state.normalisation, m)
        np.testing.assert_allclose(normalisation.mean, frames.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(normalisation.std, frames.std(axis=0), rtol=1e-4)


def test_balanced_sampling_needs_classes(rolls):
    config = tiny({"data.name": rolls.name, "data.target": "", "data.sampling": "balanced"})
    with pytest.raises(UserError, match=r"data\.sampling=balanced needs a field of classes"):
        gather_data(rolls, [config], ())
