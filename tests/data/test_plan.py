"""The plan: batches are pure functions of seeds and step, equal on host and device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_audio.data.plan import (
    BLOCK,
    crop_fractions,
    make_plan,
    pad_tables,
    partner_rows,
    quotas,
    rows_to_examples,
)

LENGTHS = np.random.default_rng(0).gamma(3.0, 1200.0, size=1000).astype(np.int32) + 1


def plan_of(lengths=LENGTHS, **changes):
    options = {"batch_size": 16, "buckets": 4, "seed": 0} | changes
    return make_plan(lengths, np.ones(len(lengths), bool), **options)


def sizes_of(plan, lengths=LENGTHS):
    """The number of examples in each bucket if all are trained on."""
    return [len(table) for table in plan.tables(np.arange(len(lengths)), lengths)]


def schedule(plan, start, stop):
    return plan.schedule(sizes_of(plan), start, stop)


def padded_samples(padded, lengths):
    return np.asarray(padded)[np.searchsorted(padded, lengths)].sum()


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=60), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_every_clip_fits_its_bucket(lengths, buckets):
    lengths = np.array(lengths)
    plan = plan_of(lengths, buckets=buckets)
    assert 1 <= len(plan.padded) <= buckets
    assert all(padded % BLOCK == 0 for padded in plan.padded)
    assert np.all(np.asarray(plan.padded)[plan.bucket_of(lengths)] >= lengths)


def test_buckets_waste_the_least():
    """Compares with all choices of three edges on a small example."""
    lengths = np.random.default_rng(1).integers(1, 30, 200) * BLOCK
    plan = plan_of(lengths, buckets=3)
    edges = np.unique(lengths)
    best = min(
        padded_samples(sorted({a, b, edges[-1]}), lengths) for a in edges for b in edges if a <= b
    )
    assert padded_samples(plan.padded, lengths) == best


def test_more_buckets_never_waste_more():
    waste = [padded_samples(plan_of(buckets=n).padded, LENGTHS) for n in range(1, 6)]
    assert waste == sorted(waste, reverse=True)
    assert waste[-1] < 0.6 * waste[0]


def test_schedule_visits_buckets_by_their_share():
    plan = plan_of()
    buckets, _ = schedule(plan, 0, 50 * plan.epoch_steps)
    shares = np.bincount(buckets, minlength=len(plan.padded)) / len(buckets)
    np.testing.assert_allclose(shares, np.array(sizes_of(plan)) / len(LENGTHS), atol=2e-3)


def times_seen(plan, ids, lengths, steps, seed=3):
    """How often each of the examples `ids` is drawn in `steps` steps."""
    tables = plan.tables(ids, lengths[ids])
    np.testing.assert_array_equal(np.sort(np.concatenate(tables)), ids)
    seen, own = np.zeros(len(lengths), int), [len(table) for table in tables]
    buckets, visits = plan.schedule(own, 0, steps)
    for bucket in np.unique(buckets):
        count = (buckets == bucket).sum()
        np.testing.assert_array_equal(visits[buckets == bucket], np.arange(count))
        rows = np.arange(count * plan.batch_size, dtype=np.int32)  # of all visits
        order = (np.uint32(seed), bucket, 0, rows, plan.batch_size)
        drawn = rows_to_examples(tables[bucket], own[bucket], *order)
        np.add.at(seen, drawn, 1)
        assert (lengths[drawn] <= plan.padded[bucket]).all()  # nothing is cropped
    assert seen.sum() == seen[ids].sum() == steps * plan.batch_size
    return seen[ids]


HELD_OUT = {
    "nothing": np.zeros(1000, bool),
    "at random": np.random.default_rng(1).random(1000) < 0.3,
    "the longest but nine": np.argsort(np.argsort(LENGTHS)) < 200,
    "long ones": (LENGTHS > 6000) & (np.arange(1000) % 10 > 0),
    "short ones": (LENGTHS < 2500) & (np.arange(1000) % 20 > 0),
    "all but a few": np.arange(1000) % 37 > 0,
    "all long ones": LENGTHS > 3000,
}


@pytest.mark.parametrize("held_out", HELD_OUT)
@pytest.mark.parametrize("batch_size", [4, 16, 32])
def test_a_run_sees_each_of_its_examples_equally_often(held_out, batch_size):
    plan = plan_of(batch_size=batch_size)
    ids = np.flatnonzero(~HELD_OUT[held_out])
    seen = times_seen(plan, ids, LENGTHS, steps=25 * len(ids) // batch_size)
    assert seen.max() - seen.min() <= 2
    assert np.abs(seen - seen.mean()).mean() < 0.8


@given(
    st.lists(st.integers(1, 40_000), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 9)
)
@settings(deadline=None, max_examples=60)
def test_buckets_hold_a_batch_or_nothing(lengths, batch_size, seed):
    lengths = np.array(lengths)
    plan = plan_of(lengths, batch_size=batch_size, seed=seed)
    times_seen(plan, np.arange(len(lengths)), lengths, steps=30)
    sizes = [size for size in sizes_of(plan, lengths) if size]
    assert len(sizes) == 1 or min(sizes) >= batch_size


def test_buckets_that_hold_enough_are_left_as_they_are():
    plan, ids = plan_of(), np.arange(0, 1000, 3)
    tables, parts = plan.tables(ids, LENGTHS[ids]), plan.parts(ids, LENGTHS[ids])
    assert min(map(len, parts)) >= plan.batch_size
    for table, part in zip(tables, parts, strict=True):
        np.testing.assert_array_equal(table, part)


def test_runs_with_almost_the_same_shares_visit_almost_the_same_buckets():
    plan, sizes = plan_of(), np.array(sizes_of(plan_of()))
    buckets, _ = plan.schedule(sizes, 0, 500)
    others, _ = plan.schedule(sizes + np.array([5, -5, 3, -3]), 0, 500)
    assert 0 < (buckets != others).sum() < 25


@given(st.integers(0, 500), st.integers(0, 300))
@settings(deadline=None, max_examples=30)
def test_schedule_does_not_depend_on_where_it_starts(start, count):
    plan = plan_of()
    whole = schedule(plan, 0, start + count)
    part = schedule(plan, start, start + count)
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[start:], b)


def test_data_seed_changes_the_order_of_buckets():
    first, second = (schedule(plan_of(seed=seed), 0, 200)[0] for seed in (0, 1))
    assert np.any(first != second)


@given(st.integers(1, 400), st.integers(1, 64), st.integers(0, 2**32 - 1), st.integers(0, 4))
@settings(deadline=None, max_examples=60)
def test_every_pass_takes_each_example_once(count, batch, seed, bucket):
    table = np.arange(1000, 1000 + count, dtype=np.int32)
    visits = -(-3 * count // batch)
    rows = np.arange(batch, dtype=np.int32)
    seen = np.concatenate(
        [
            rows_to_examples(table, count, np.uint32(seed), bucket, v, rows, batch)
            for v in range(visits)
        ]
    )
    for begin in range(0, 3 * count, count):
        np.testing.assert_array_equal(np.sort(seen[begin : begin + count]), table)


def test_passes_and_seeds_are_shuffled_differently():
    table, rows = np.arange(200, dtype=np.int32), np.arange(200, dtype=np.int32)
    orders = [
        tuple(rows_to_examples(table, 200, np.uint32(seed), bucket, visit, rows, 200))
        for seed in range(3)
        for bucket in range(3)
        for visit in range(3)
    ]
    assert len(set(orders)) == 27


def test_shuffle_is_uniform():
    """Chi-squared test of the positions of 12 examples over 6000 seeds against a uniform one."""
    table, rows = np.arange(12, dtype=np.int32), np.arange(12, dtype=np.int32)
    counts = np.zeros((12, 12))
    for seed in range(6000):
        counts[rows, rows_to_examples(table, 12, np.uint32(seed), 0, 0, rows, 12)] += 1
    chi_squared = ((counts - 500) ** 2 / 500).sum()
    assert chi_squared < 121 + 5 * np.sqrt(2 * 121)


def test_neighbours_are_separated():
    """Neighbours in the table are adjacent in a pass only as often as by chance."""
    table, rows = np.arange(500, dtype=np.int32), np.arange(500, dtype=np.int32)
    together = [
        (np.abs(np.diff(rows_to_examples(table, 500, np.uint32(s), 0, 0, rows, 500))) == 1).sum()
        for s in range(200)
    ]
    assert np.mean(together) == pytest.approx(2.0, abs=0.5)  # 499 pairs, each with chance 2/500


def test_host_and_device_agree():
    table, rows = np.arange(100, dtype=np.int32) * 7, np.arange(16, dtype=np.int32)

    @jax.jit
    def on_device(seed, visit, rows):
        arguments = (seed, 2, visit, rows, 16)
        partners = partner_rows(rows, visit, 16)
        return (
            rows_to_examples(jnp.asarray(table), jnp.int32(73), *arguments),
            crop_fractions(*arguments),
            partners,
        )

    for seed, visit in [(0, 0), (5, 3), (2**32 - 1, 123_456)]:
        arguments = (np.uint32(seed), 2, np.int32(visit), rows, 16)
        ids, crops, partners = on_device(np.uint32(seed), np.int32(visit), rows)
        np.testing.assert_array_equal(ids, rows_to_examples(table, 73, *arguments))
        np.testing.assert_array_equal(crops, crop_fractions(*arguments))
        np.testing.assert_array_equal(partners, partner_rows(rows, np.int32(visit), 16))


def test_rows_do_not_depend_on_the_device():
    """Each device computes the same rows as a single device."""
    table, rows = np.arange(100, dtype=np.int32), np.arange(32, dtype=np.int32)
    whole = rows_to_examples(table, 100, np.uint32(1), 0, 9, rows, 32)
    halves = [rows_to_examples(table, 100, np.uint32(1), 0, 9, r, 32) for r in np.split(rows, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_crops_are_uniform():
    rows = np.arange(4000, dtype=np.int32)
    crops = np.sort(crop_fractions(np.uint32(3), 1, 0, rows, 4000))
    assert crops[0] >= 0 and crops[-1] < 1
    assert np.abs(crops - np.linspace(0, 1, 4000)).max() < 1.63 / np.sqrt(4000)  # KS at 1 %


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_partners_are_others(batch):
    rows = np.arange(batch, dtype=np.int32)
    for visit in range(20):
        partners = partner_rows(rows, np.int32(visit), batch)
        assert sorted(partners) == list(rows)
        assert batch == 1 or np.all(partners != rows)


def test_a_fold_without_a_length_never_visits_its_bucket():
    lengths = np.array([1, 2, 9, 10]) * BLOCK
    plan = plan_of(lengths, buckets=2, batch_size=2)
    for bucket, ids in enumerate(([0, 1], [2, 3])):
        ids = np.array(ids)
        sizes = [len(part) for part in plan.tables(ids, lengths[ids])]
        assert sizes == np.roll([2, 0], bucket).tolist()
        assert set(plan.schedule(sizes, 0, 20)[0]) == {bucket}


def test_padding_tables_does_not_change_batches():
    tables = [[np.arange(7, dtype=np.int32)], [np.arange(50, dtype=np.int32)]]
    stacked, counts = pad_tables(tables)
    rows = np.arange(8, dtype=np.int32)
    alone = rows_to_examples(tables[0][0], 7, np.uint32(4), 0, 5, rows, 8)
    beside = rows_to_examples(stacked[0][0], counts[0, 0], np.uint32(4), 0, 5, rows, 8)
    np.testing.assert_array_equal(alone, beside)


def test_long_clips_are_cropped():
    plan = plan_of(longest=20 * BLOCK)
    assert plan.padded[-1] == 20 * BLOCK
    assert plan.bucket_of(np.array([10**6]))[0] == len(plan.padded) - 1


CLASSES = np.random.default_rng(2).choice(4, size=1000, p=[0.6, 0.3, 0.09, 0.01])


def balanced(plan, ids, lengths=LENGTHS, classes=CLASSES):
    """Tables sorted by class, and quotas."""
    tables = plan.tables(ids, lengths[ids])
    tables = [table[np.argsort(classes[table], kind="stable")] for table in tables]
    return tables, quotas([classes[table] for table in tables])


def test_quotas_are_even_over_classes_and_follow_lengths():
    tables, found = balanced(plan_of(), np.arange(1000))
    draws, examples = found[:, 0], found[:, 1]
    np.testing.assert_array_equal(examples.sum(axis=0), np.bincount(CLASSES))
    np.testing.assert_array_equal(draws.sum(axis=0), np.bincount(CLASSES).max())
    exact = examples / examples.sum(axis=0) * np.bincount(CLASSES).max()
    assert np.abs(draws - exact).max() < 1
    assert ((draws > 0) == (examples > 0)).all()
    np.testing.assert_array_equal(examples.sum(axis=1), [len(table) for table in tables])


def test_balanced_sampling_draws_classes_equally_often_and_from_all_buckets():
    plan = plan_of()
    tables, found = balanced(plan, np.arange(1000))
    steps = 60 * plan.epoch_steps
    buckets, visits = plan.schedule(found[:, 0].sum(-1), 0, steps)
    assert len(set(buckets.tolist())) == len(plan.padded)
    rows, seen = np.arange(16, dtype=np.int32), np.zeros(1000, int)
    for bucket in range(len(tables)):
        # The rows of several visits are those of one larger batch.
        count = 16 * (visits[buckets == bucket].max() + 1)
        rows = np.arange(count, dtype=np.int32)
        drawn = rows_to_examples(tables[bucket], found[bucket], np.uint32(3), bucket, 0, rows, 16)
        np.add.at(seen, drawn, 1)
        assert (LENGTHS[drawn] <= plan.padded[bucket]).all()
    of_class = np.bincount(CLASSES, weights=seen)
    np.testing.assert_allclose(of_class / seen.sum(), 0.25, atol=0.003)
    for number in range(4):
        its = seen[number == CLASSES]
        np.testing.assert_allclose(its, its.mean(), atol=max(3, 0.1 * its.mean()))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 64), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_every_pass_of_a_class_takes_each_of_its_examples_once(sizes, batch, seed):
    sizes = sizes if any(sizes) else [1]
    classes = np.repeat(np.arange(len(sizes)), sizes)
    table, (quota,) = np.arange(len(classes), dtype=np.int32), quotas([classes])
    steps = -(-4 * quota[0].sum() // batch)
    rows = np.arange(batch, dtype=np.int32)
    order = [(np.uint32(seed), 1, visit, rows, batch) for visit in range(steps)]
    drawn = np.concatenate([rows_to_examples(table, quota, *its) for its in order])
    whole = drawn[: len(drawn) // quota[0].sum() * quota[0].sum()]
    for one in np.split(whole, len(whole) // quota[0].sum()):
        np.testing.assert_array_equal(np.bincount(classes[one], minlength=quota.shape[1]), quota[0])
    for number in np.flatnonzero(sizes):
        count = sizes[number]
        # Classes draw at places of their own in a pass: only whole passes are in order.
        taken = np.bincount(whole[classes[whole] == number], minlength=len(classes))
        taken = taken[classes == number]
        assert taken.max() - taken.min() <= 1, (count, taken)


def test_balanced_sampling_is_the_same_on_host_and_device_and_beside_others():
    tables, found = balanced(plan_of(), np.arange(0, 1000, 3))
    padded = np.pad(found, ((0, 0), (0, 0), (0, 3)))  # as beside a member with more classes
    rows = np.arange(64, dtype=np.int32)
    on_device = jax.jit(
        lambda table, quota, seed, bucket, visit: rows_to_examples(
            table, quota, seed, bucket, visit, rows=jnp.asarray(rows), batch_size=64
        )
    )
    for bucket, seed, visit in [(0, 0, 0), (1, 5, 3), (2, 2**32 - 1, 123_456)]:
        order = (np.uint32(seed), bucket, np.int32(visit))
        on_host = rows_to_examples(tables[bucket], found[bucket], *order, rows, 64)
        found_there = on_device(np.resize(tables[bucket], 400), padded[bucket], *order)
        np.testing.assert_array_equal(found_there, on_host)
        halves = [
            rows_to_examples(tables[bucket], found[bucket], *order, r, 64)
            for r in np.split(rows, 2)
        ]
        np.testing.assert_array_equal(np.concatenate(halves), on_host)
