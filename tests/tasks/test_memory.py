"""Adding, copying and counting against plain Python. Padding has no effect."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit, log_softmax

from gru_audio.config import default_config, override
from gru_audio.tasks import make_task
from gru_audio.tasks.memory import Adding, CopyMemory, Counting
from gru_audio.tasks.metrics import measure

RNG = np.random.default_rng(0)
TIME = 40
LENGTHS = np.array([40, 31, 24], np.int32)
VALID = np.arange(TIME) < LENGTHS[:, None]
NOTHING = np.zeros(3, np.float32)  # for labels


def padded(sequences, fill=0.0):
    """Returns a batch (3, TIME, values) with arbitrary padding."""
    batch = np.full((3, TIME, np.shape(sequences[0])[-1]), fill, np.float32)
    for row, sequence in zip(batch, sequences, strict=True):
        row[: len(sequence)] = sequence
    return batch


def to_add():
    """Returns marked numbers and their sums."""
    sequences, sums = [], []
    for lengths in LENGTHS:
        numbers, first, second = RNG.random(lengths).tolist(), 3, int(lengths) - 2
        marks = [1.0 if i in (first, second) else 0.0 for i in range(lengths)]
        sequences.append(list(zip(numbers, marks, strict=True)))
        sums.append(numbers[first] + numbers[second])
    return sequences, np.array(sums)


def to_copy():
    """Returns ten symbols, blanks and eleven nines; and the target at each step."""
    sequences, output_names = [], []
    for lengths in LENGTHS:
        symbols, blanks = RNG.integers(1, 9, 10).tolist(), int(lengths) - 20
        sequences.append([[x] for x in symbols + [0] * (blanks - 1) + [9] * 11])
        output_names.append([0] * 10 + [0] * blanks + symbols)
    return sequences, output_names


def to_count():
    """Returns brackets, and whether all are closed."""
    sequences, output_names = [], []
    for lengths in LENGTHS:
        sequence, answer, depth = [], [], 0
        for _ in range(lengths):
            opens = depth == 0 or RNG.random() < 0.5
            depth += 1 if opens else -1
            sequence.append((1.0, 0.0) if opens else (0.0, 1.0))
            answer.append(float(depth == 0))
        sequences.append(sequence)
        output_names.append(answer)
    return sequences, output_names


CASES = {"adding": (Adding(), to_add), "copy_memory": (CopyMemory(), to_copy)}
CASES |= {"counting": (Counting(), to_count)}
every_task = pytest.mark.parametrize("name", CASES)


@every_task
@pytest.mark.parametrize("fill", [0.0, 7.0])
def test_targets(name, fill):
    task, draw = CASES[name]
    sequences, output_names = draw()
    prepared = task.inputs_and_targets(padded(sequences, fill), LENGTHS, NOTHING)
    np.testing.assert_array_equal(prepared.lengths, LENGTHS)
    np.testing.assert_array_equal(prepared.inputs, padded(sequences, fill))  # all is given
    if not task.per_frame:
        np.testing.assert_allclose(prepared.targets, output_names, rtol=1e-6)
        return
    for row, answer in zip(prepared.targets, output_names, strict=True):
        np.testing.assert_array_equal(row[: len(answer)], answer)


def outputs_of(task):
    shape = (3, TIME, task.outputs) if task.per_frame else (3, task.outputs)
    return np.random.default_rng(1).normal(0, 3, shape).astype(np.float32)


def test_adding_loses_the_squared_error():
    sequences, sums = to_add()
    task, outputs = Adding(), outputs_of(Adding())
    loss, terms = task.loss(
        outputs, task.inputs_and_targets(padded(sequences), LENGTHS, NOTHING)[2], LENGTHS
    )
    np.testing.assert_allclose(loss, (outputs[:, 0] - sums) ** 2, rtol=1e-5)
    np.testing.assert_array_equal(terms, 1)


def test_copying_loses_the_cross_entropy_of_every_step():
    sequences, output_names = to_copy()
    task, outputs = CopyMemory(), outputs_of(CopyMemory())
    loss, terms = task.loss(
        outputs, task.inputs_and_targets(padded(sequences), LENGTHS, NOTHING)[2], LENGTHS
    )
    chances = log_softmax(outputs.astype(np.float64), axis=-1)
    expected = [
        -sum(chances[row, step, symbol] for step, symbol in enumerate(answer))
        for row, answer in enumerate(output_names)
    ]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(terms, LENGTHS)


def test_counting_loses_the_cross_entropy_of_every_step():
    sequences, output_names = to_count()
    task, outputs = Counting(), outputs_of(Counting())
    loss, terms = task.loss(
        outputs, task.inputs_and_targets(padded(sequences), LENGTHS, NOTHING)[2], LENGTHS
    )
    logits = outputs[..., 0].astype(np.float64)
    expected = [
        -sum(log_expit(x if closed else -x) for x, closed in zip(row, answer, strict=False))
        for row, answer in zip(logits, output_names, strict=True)
    ]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(terms, LENGTHS)


@every_task
def test_padding_has_no_effect(name):
    """Padding of any value changes neither losses nor gradients."""
    task, draw = CASES[name]
    sequences, _ = draw()
    outputs, garbage = outputs_of(task), RNG.normal(0, 1e4, (3, TIME, task.outputs))

    def lost(outputs, features):
        prepared = task.inputs_and_targets(features, LENGTHS, NOTHING)
        loss, terms = task.loss(outputs, prepared.targets, prepared.lengths)
        return loss.sum(), (loss, terms)

    other = np.where(VALID[..., None], 0, garbage) if task.per_frame else 0
    other = (outputs + other).astype(np.float32)
    gradient, clean = jax.grad(lost, has_aux=True)(outputs, padded(sequences))
    its_gradient, dirty = jax.grad(lost, has_aux=True)(other, padded(sequences, fill=7.0))
    np.testing.assert_array_equal(clean, dirty)
    np.testing.assert_array_equal(gradient, its_gradient)
    assert np.any(gradient)


@pytest.mark.parametrize("name", ["copy_memory", "counting"])
def test_metrics_weight_every_step_equally(name):
    task, draw = CASES[name]
    sequences, _ = draw()
    targets = task.inputs_and_targets(padded(sequences), LENGTHS, NOTHING).targets
    outputs = outputs_of(task)
    loss, _ = task.loss(outputs, targets, LENGTHS)
    scores = {k: np.asarray(v) for k, v in task.score(outputs, targets, LENGTHS).items()}
    metrics = measure(task.metrics, scores)
    expected = np.asarray(loss, np.float64).sum() / LENGTHS.sum()
    assert metrics == {"loss": pytest.approx(expected, rel=1e-6)}
    assert abs(expected - np.mean(loss / LENGTHS)) > 1e-3  # that of sequences alike


def test_a_copy_has_no_loss_except_for_wrong_symbols():
    sequences, output_names = to_copy()
    answered = np.zeros((3, TIME), int)
    for row, answer in zip(answered, output_names, strict=True):
        row[: len(answer)] = answer
    task, sure = CopyMemory(), np.array(100 * np.eye(10)[answered], np.float32)
    targets = task.inputs_and_targets(padded(sequences), LENGTHS, NOTHING).targets
    np.testing.assert_array_equal(task.loss(sure, targets, LENGTHS)[0], 0)
    sure[1, LENGTHS[1] - 1, 1:9] = 100  # any of eight
    loss, _ = task.loss(sure, targets, LENGTHS)
    np.testing.assert_allclose(loss, [0, math.log(8), 0], rtol=1e-5)


@every_task
def test_make_task(name):
    task, draw = CASES[name]
    config = override(default_config(), {"task.name": name}).task
    width = padded(draw()[0]).shape[-1]
    assert make_task(config, None, width) == task
    assert task.needs is None
    assert jnp.shape(task.soft_labels(jnp.arange(3))) == (3,)
