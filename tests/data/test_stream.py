"""The streaming loader follows the plan."""

import pickle

import jax
import numpy as np
import pytest
import scipy.stats

from gru_audio.data.plan import (
    crop_fractions,
    make_plan,
    partner_rows,
    rows_to_background,
    rows_to_examples,
)
from gru_audio.data.resident import Mixing
from gru_audio.data.split import select, trainable
from gru_audio.data.stream import Reader, read
from tests.tones import tiny

SEEDS = np.array([3, 2**32 - 1], np.uint32)
STEPS = 24


@pytest.fixture(scope="module")
def reader(source):
    data = tiny().data
    lengths = source.columns["length"]
    options = {"batch_size": 4, "buckets": 3, "seed": 1, "longest": 3000}
    plan = make_plan(lengths, trainable(source, data), **options)
    ids = select(source, data, 0)["train"]
    table = plan.tables(ids, lengths[ids])
    rows = np.arange(4, dtype=np.int32)
    backgrounds = [ids[::3], ids[1::3]]
    counts = np.array([[len(part) for part in table]] * 2)
    drawn_from = [table, table], counts, backgrounds, SEEDS
    return Reader(source, source.values("label"), plan, *drawn_from, rows, Mixing(True, True))


def stream(reader, start=0, threads=1):
    """The reader's steps from `start` to `STEPS`; both members have the same examples."""
    sizes = [len(table) for table in reader.tables[0]]
    buckets, visits = (np.stack([a, a]) for a in reader.plan.schedule(sizes, start, STEPS))
    padded = np.array(reader.plan.padded)[buckets[0]]
    return reader.stream(buckets, visits, padded, threads)


def assert_equal(step, other):
    for leaf, its in zip(jax.tree.leaves(step), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(leaf, its)


def test_steps_are_those_of_the_plan(reader, source):
    plan, rows = reader.plan, np.arange(4, dtype=np.int32)
    steps = list(stream(reader))
    buckets, visits = plan.schedule([len(table) for table in reader.tables[0]], 0, STEPS)
    assert len(steps) == STEPS
    assert len(set(buckets.tolist())) == 3
    for (batch, mixed), bucket, visit in zip(steps, buckets.tolist(), visits, strict=True):
        padded = plan.padded[bucket]
        assert batch.signal.shape == (2, 4, padded)
        for m, seed in enumerate(SEEDS):
            table = reader.tables[m][bucket]
            background = reader.backgrounds[m]
            partners = partner_rows(rows, visit, 4)
            for taken, places, to_ids, of in (
                (batch, rows, rows_to_examples, table),
                (mixed.partner, partners, rows_to_examples, table),
                (mixed.background, rows, rows_to_background, background),
            ):
                order = (seed, bucket, visit, places, 4)
                ids = to_ids(of, len(of), *order)
                expected = read(source, reader.labels, ids, rows, padded, crop_fractions(*order))
                assert_equal(jax.tree.map(lambda leaf, m=m: leaf[m], taken), expected)


def test_members_of_other_seeds_see_other_examples(reader):
    batch, _ = reader.step(0, 0)
    assert np.any(batch.signal[0] != batch.signal[1])


def test_neither_threads_nor_where_it_begins_change_a_step(reader):
    whole = list(stream(reader))
    for start, threads in ((0, 4), (17, 2)):
        for step, other in zip(whole[start:], stream(reader, start, threads), strict=True):
            assert_equal(step, other)


@pytest.mark.parametrize(("processes", "threads"), [(2, 1), (2, 3), (4, 2)])
def test_processes_that_share_the_rows_read_what_one_reads(reader, processes, threads):
    """An epoch has every example once in the plan's order, for any number of processes."""
    parts = [
        stream(Reader(**{**vars(reader), "rows": rows}), 0, threads)
        for rows in np.split(reader.rows, processes)
    ]
    for whole, *shared in zip(stream(reader), *parts, strict=True):
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *shared)
        assert_equal(joined, whole)


def test_backgrounds_are_drawn_evenly_and_all_of_them(reader):
    table, rows = np.arange(5, 12), np.arange(64, dtype=np.int32)
    drawn = [rows_to_background(table, 7, SEEDS[0], 1, visit, rows, 64) for visit in range(50)]
    counts = np.bincount(np.concatenate(drawn), minlength=12)[5:]
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_mixed_signals_are_read_only_if_needed(reader):
    alone = Reader(**{**vars(reader), "mixing": Mixing()})
    batch, mixed = alone.step(0, 2)
    assert mixed == (None, None)
    assert_equal(batch, reader.step(0, 2)[0])


def test_members_in_different_buckets_are_padded_alike(reader):
    """Padding goes to the longest bucket; crops are the same as for a single member."""
    padded = reader.plan.padded
    for buckets in ([0, 2], [2, 1]):
        together = reader.step(np.array(buckets), np.array([1, 4]))
        for m, (bucket, visit) in enumerate(zip(buckets, [1, 4], strict=True)):
            alone = reader.step(bucket, visit)
            for batch, its in zip((together[0], *together[1]), (alone[0], *alone[1]), strict=True):
                assert batch.signal.shape == (2, 4, padded[2])
                np.testing.assert_array_equal(batch.signal[m, :, : padded[bucket]], its.signal[m])
                assert not batch.signal[m, :, padded[bucket] :].any()
                np.testing.assert_array_equal(batch.length[m], its.length[m])


def test_a_reader_can_be_sent_to_a_worker(reader):
    assert_equal(pickle.loads(pickle.dumps(reader)).step(1, 1), reader.step(1, 1))
