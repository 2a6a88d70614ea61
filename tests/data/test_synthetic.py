"""Tests of memory: what is drawn, that it never changes, and what who has no memory loses."""

import hashlib
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from gru_audio.data.datasets import BUILDERS
from gru_audio.data.datasets.synthetic import (
    Adding,
    Adding200,
    CopyMemory500,
    CopyMemory1000,
    Counting,
    Synthetic,
)
from gru_audio.data.source import Source, open_source
from gru_audio.tasks import memory

FEW = {"train": 40, "validation": 10, "test": 30}


class FewToAdd(Adding200):
    """The test set, and a few to train on."""

    name, sizes = "few_to_add", FEW | {"test": Adding.sizes["test"]}


class FewToCopy(CopyMemory500):
    """The first of each split."""

    name, sizes = "few_to_copy", FEW


class FewToCount(Counting):
    """The first of each split."""

    name, sizes = "few_to_count", FEW


def build(builder: type[Synthetic], folder: Path) -> Source:
    builder(data_dir=folder).download_and_prepare()
    return open_source(builder.name, folder)


@pytest.fixture(scope="module")
def adding(tmp_path_factory) -> Source:
    return build(FewToAdd, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def copying(tmp_path_factory) -> Source:
    return build(FewToCopy, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def counting(tmp_path_factory) -> Source:
    return build(FewToCount, tmp_path_factory.mktemp("data"))


def sequences(source: Source, split: str | None = None) -> list[np.ndarray]:
    chosen = source.columns["split"] == split if split else np.ones(len(source), bool)
    return source.signals(np.flatnonzero(chosen))


def test_adding_marks_two_numbers_anywhere(adding):
    assert (adding.signal.dtype, adding.signal.shape) == ("float32", (2,))
    marked = []
    for sequence in sequences(adding):
        assert sequence.shape == (200, 2)
        assert set(sequence[:, 1]) == {0, 1}
        marked.append(np.flatnonzero(sequence[:, 1]))
    first, second = np.transpose(marked)  # which fails where there are not two
    assert chisquare(np.bincount(np.array(marked).ravel() // 20, minlength=10)).pvalue > 1e-3
    # Of two places at random the nearer to the start lies at a third, the other at two thirds.
    np.testing.assert_allclose([first.mean(), second.mean()], [200 / 3, 400 / 3], atol=6)


def test_adding_marks_two_of_three_in_all_three_ways():
    marks = np.array([Adding.draw(np.random.default_rng(i), 3)[:, 1] for i in range(300)])
    np.testing.assert_array_equal(marks.sum(axis=1), 2)
    ways = np.bincount(marks.argmin(axis=1), minlength=3)  # by the one that is not marked
    assert chisquare(ways).pvalue > 1e-3


def test_the_numbers_to_add_are_uniform(adding):
    numbers = np.concatenate(sequences(adding))[:, 0]
    assert len(np.unique(numbers)) > 0.98 * len(numbers)
    assert 0 <= numbers.min() < 1e-3
    assert 1 - 1e-3 < numbers.max() <= 1
    assert kstest(numbers, "uniform").pvalue > 1e-3
    marked = np.concatenate([sequence[sequence[:, 1] == 1, 0] for sequence in sequences(adding)])
    assert kstest(marked, "uniform").pvalue > 1e-3


def test_copying_is_laid_out_as_described(copying):
    assert (copying.signal.dtype, copying.signal.shape) == ("uint8", (1,))
    remembered = []
    for sequence in sequences(copying):
        symbols = sequence[:10, 0].tolist()
        assert sequence[:, 0].tolist() == symbols + 499 * [0] + 11 * [9]
        remembered += symbols
    assert set(remembered) == set(range(1, 9))
    assert chisquare(np.bincount(remembered)[1:]).pvalue > 1e-3


def test_brackets_never_close_more_than_were_opened(counting):
    assert (counting.signal.dtype, counting.signal.shape) == ("uint8", (2,))
    closed = []
    for sequence in sequences(counting):
        np.testing.assert_array_equal(sequence.sum(axis=1), 1)
        depth = 0
        for opens, closes in sequence.tolist():
            assert opens or depth > 0
            closed += [closes] if depth else []
            depth += opens - closes
    assert abs(np.mean(closed) - 0.5) < 3 * 0.5 / math.sqrt(len(closed))


def test_brackets_are_learnt_on_short_and_tested_on_long_sequences(counting):
    for split, length in {"train": 50, "validation": 100, "test": 400}.items():
        assert {len(sequence) for sequence in sequences(counting, split)} == {length}


@pytest.mark.parametrize("name", ["adding", "copying", "counting"])
def test_no_sequence_comes_twice(request, name):
    """Neither in a split nor in two of them."""
    source = request.getfixturevalue(name)
    seen = {sequence.tobytes() for sequence in sequences(source)}
    assert len(seen) == len(source)


FIRST = {  # of the first test sequence as stored, so by any version of NumPy
    "adding": "7b18b22bc2062368",
    "copying": "573cdb770bb2fae6",
    "counting": "82f6d617c3e5565d",
}


@pytest.mark.parametrize("name", FIRST)
def test_they_are_the_same_everywhere(request, tmp_path, name):
    source = request.getfixturevalue(name)
    first = sequences(source, "test")[0]
    assert hashlib.sha256(first.tobytes()).hexdigest()[:16] == FIRST[name]
    builder = {"adding": FewToAdd, "copying": FewToCopy, "counting": FewToCount}[name]
    assert build(builder, tmp_path).fingerprint == source.fingerprint


@pytest.mark.parametrize(
    ("prefix", "steps", "length"),
    [("adding_", (200, 400, 600), 0), ("copy_memory_", (500, 1000, 2000), 20)],
)
def test_names_tell_the_steps(prefix, steps, length):
    for count in steps:
        builder = BUILDERS[f"{prefix}{count}"]
        assert builder.name == f"{prefix}{count}"
        assert len(builder.draw(np.random.default_rng(0), builder.steps)) == count + length


# What who has no memory loses


def test_who_says_one_loses_the_variance_of_a_sum_of_two_numbers(adding):
    """1/6; the squared error of a sequence has a variance of 1/15 - 1/36."""
    task, features = memory.Adding(), jnp.asarray(sequences(adding, "test"))
    frames = jnp.full(len(features), 200)
    prepared = task.inputs_and_targets(features, frames, frames)
    loss, terms = task.loss(jnp.ones((len(features), 1)), prepared.targets, frames)
    deviation = math.sqrt((1 / 15 - 1 / 36) / 1000)
    assert terms.sum() == 1000
    assert abs(loss.mean() - 1 / 6) < 3 * deviation


@pytest.mark.parametrize("builder", [CopyMemory500, CopyMemory1000])
def test_who_gives_blanks_and_guesses_loses_what_is_published(builder):
    """10 ln 8 / (T + 20): 0.0204 at T = 1000."""
    blanks, task = builder.steps, memory.CopyMemory()
    drawn = [builder.draw(np.random.default_rng(i), blanks) for i in range(3)]
    features, frames = jnp.asarray(drawn, jnp.float32), jnp.full(3, blanks + 20)
    logits = np.full((3, blanks + 20, 10), -1e9, np.float32)
    logits[:, : blanks + 10, 0] = 0
    logits[:, blanks + 10 :, 1:9] = 0
    targets = task.inputs_and_targets(features, frames, frames).targets
    loss, terms = task.loss(jnp.asarray(logits), targets, frames)
    np.testing.assert_allclose(loss / terms, 10 * math.log(8) / (blanks + 20), rtol=1e-6)
