"""Batches from device memory equal batches that the host reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.data.plan import BLOCK, make_plan
from gru_audio.data.resident import crop_start, load
from gru_audio.data.stream import read


@pytest.fixture(scope="module")
def labels(source):
    return source.values("label")


@pytest.fixture(scope="module")
def plan(source):
    everything = np.ones(len(source), bool)
    lengths = source.columns["length"]
    return make_plan(lengths, everything, batch_size=8, buckets=3, seed=0)


@pytest.fixture(scope="module")
def resident(source, labels, plan):
    return jax.device_put(load(source, labels, max(plan.padded)))


def gathered(resident, ids, padded, crop):
    """The batch that the compiled step gathers."""
    rows = np.arange(len(ids), dtype=np.int32)
    gather = jax.jit(type(resident).batch, static_argnums=3)
    return jax.device_get(gather(resident, jnp.asarray(ids), rows, padded, jnp.asarray(crop)))


def assert_equal(batch, other):
    for leaf, its in zip(jax.tree.leaves(batch), jax.tree.leaves(other), strict=True):
        assert leaf.dtype == its.dtype
        np.testing.assert_array_equal(leaf, its)


def test_every_bucket_equals_reading(source, labels, plan, resident):
    lengths = source.columns["length"]
    parts = plan.parts(np.arange(len(source)), lengths)
    assert len(parts) == 3
    for padded, ids in zip(plan.padded, parts, strict=True):
        crop = np.zeros(len(ids), np.float32)
        batch = gathered(resident, ids, padded, crop)
        assert_equal(batch, read(source, labels, ids, batch.row, padded, crop))
        for row, samples in enumerate(source.signals(ids)):
            assert batch.length[row] == len(samples)  # nothing is cut in a clip's own bucket
            np.testing.assert_array_equal(batch.signal[row, : len(samples)], samples)
            assert not batch.signal[row, len(samples) :].any()


@pytest.mark.parametrize("blocks", [1, 5])
def test_random_crops_equal_reading(source, labels, resident, blocks):
    ids = np.arange(len(source), dtype=np.int32)
    crop = np.random.default_rng(0).random(len(ids), np.float32)
    batch = gathered(resident, ids, blocks * BLOCK, crop)
    assert_equal(batch, read(source, labels, ids, batch.row, blocks * BLOCK, crop))
    assert np.all(batch.length > 0)


def test_crops_begin_at_every_block_and_none_leaves_its_clip():
    length = np.full(4000, 10 * BLOCK + 1, np.int32)
    crop = np.random.default_rng(1).random(len(length), np.float32)
    start = crop_start(length, 4 * BLOCK, crop, BLOCK)
    counts = np.bincount(start)
    assert len(counts) == 8  # 11 blocks, the last of which holds one sample, and room for 4
    assert counts.min() > 0.8 * len(length) / 8
    below_one = np.nextafter(np.float32(1), np.float32(0))
    assert crop_start(length, 4 * BLOCK, below_one, BLOCK).max() == 7
    assert crop_start(length, 4 * BLOCK, np.float32(0), BLOCK).max() == 0


def test_clips_that_fit_are_not_cropped():
    length = np.array([1, BLOCK, 4 * BLOCK - 1, 4 * BLOCK], np.int32)
    crop = np.full(4, 0.999, np.float32)
    np.testing.assert_array_equal(crop_start(length, 4 * BLOCK, crop, BLOCK), 0)


def test_a_clip_does_not_depend_on_the_rows_beside_it(resident, plan):
    crop = np.array([0.3, 0.9, 0.1], np.float32)
    whole = gathered(resident, np.array([3, 40, 7]), plan.padded[0], crop)
    alone = gathered(resident, np.array([40]), plan.padded[0], crop[1:2])
    np.testing.assert_array_equal(whole.signal[1], alone.signal[0])
    assert whole.labels[1] == alone.labels[0]
