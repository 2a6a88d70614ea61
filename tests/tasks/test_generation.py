"""Prediction of samples: the loss in bits, what models get, and a source of known entropy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.audio.frontends.samples import Samples
from gru_audio.audio.normalise import Normalisation
from gru_audio.config import override
from gru_audio.data.fields import ClassField, TextField
from gru_audio.data.resident import Batch
from gru_audio.data.signal import Signal
from gru_audio.settings import UserError
from gru_audio.tasks import make_task
from gru_audio.tasks.generation import Generation
from gru_audio.tasks.metrics import measure
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.program import make_program
from tests.tones import RATE, tiny
from tests.training.one_device import on_one_device

LENGTHS = np.array([7, 4, 1], np.int32)
SOUND = {
    "data.target": "",
    "task.name": "generation",
    "frontend.name": "samples",
    "frontend.normalise": False,
    "frontend.bits": 2,
    "frontend.quantisation": "linear",
    "model.name": "rnn_generator",
    "optimizer.learning_rate": 0.02,
}
# A Markov chain of the codes 1 and 2.
STAY = np.array([0.9, 0.7])
SHARES = np.array([0.75, 0.25])  # stationary: 0.75 x 0.1 = 0.25 x 0.3
ENTROPY = -SHARES @ (STAY * np.log2(STAY) + (1 - STAY) * np.log2(1 - STAY))  # bits per sample

close = functools.partial(np.testing.assert_allclose, rtol=1e-5)


def codes(features, levels):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(0, levels, (3, 7, features)), jnp.float32)


@pytest.mark.parametrize("features", [1, 2])
def test_the_loss_is_in_bits(features):
    task = Generation(features, 4)
    logits = np.random.default_rng(1).normal(0, 2, (3, 7, task.outputs))
    targets = task.inputs_and_targets(codes(features, 4), LENGTHS, ()).targets
    bits, samples = task.loss(jnp.asarray(logits), targets, LENGTHS)
    expected = np.zeros(3)
    for row, length in enumerate(LENGTHS):
        for time in range(length):
            for code in range(features):
                weights = np.exp2(logits[row, time, 4 * code : 4 * code + 4] / np.log(2))
                expected[row] -= np.log2(weights[targets[row, time, code]] / weights.sum())
    close(bits, expected)
    assert samples.tolist() == LENGTHS.tolist()
    scores = jax.device_get(task.score(jnp.asarray(logits), targets, LENGTHS))
    found = measure(task.metrics, scores)
    close([found["bits"], found["loss"]], expected.sum() / LENGTHS.sum())


def test_inputs_are_earlier_samples_and_the_condition():
    given, labels = codes(1, 256), np.array([1, 0, 1])
    task = Generation(1, 256, ("a", "b"))
    inputs, lengths, targets, _ = task.inputs_and_targets(given, LENGTHS, labels)
    assert inputs.shape == (3, 7, task.input_width(1)) and lengths is LENGTHS
    np.testing.assert_array_equal(inputs[:, 0, 0], 128)
    np.testing.assert_array_equal(inputs[:, 1:, 0], given[:, :-1, 0])
    np.testing.assert_array_equal(inputs[0, :, 1:], [[0, 1]] * 7)
    np.testing.assert_array_equal(targets, given)


def test_inputs_of_split_codes_have_the_coarse_half_of_the_same_sample():
    given, task = codes(2, 16), Generation(2, 16)
    inputs = task.inputs_and_targets(given, LENGTHS, ()).inputs
    assert inputs[0, 0].tolist() == [8, 0, given[0, 0, 0]]
    np.testing.assert_array_equal(inputs[:, 1:, :2], given[:, :-1])
    np.testing.assert_array_equal(inputs[..., 2], given[..., 0])


def test_the_trivial_predictor_has_the_entropy_of_the_codes():
    task, given = Generation(1, 4), codes(1, 4)
    targets = task.inputs_and_targets(given, LENGTHS, ()).targets
    sums, samples = task.target_sums(targets, LENGTHS)
    bits, terms = task.loss(task.trivial_outputs(sums / samples, LENGTHS, 7), targets, LENGTHS)
    valid = np.concatenate([row[:n, 0] for row, n in zip(given, LENGTHS, strict=True)])
    share = np.bincount(valid.astype(int)) / len(valid)
    share = share[share > 0]
    close(bits.sum() / terms.sum(), -share @ np.log2(share))


def test_make_task():
    config = override(tiny(), SOUND).task
    assert make_task(config, None, 1, 256) == Generation(1, 256)
    assert make_task(config, ClassField(("x", "y")), 2, 16) == Generation(2, 16, ("x", "y"))
    with pytest.raises(UserError, match=r"needs config\.data\.target, a field of classes"):
        make_task(config, TextField("ab", ()), 1, 256)


def chains(rng, count, time):
    """Chains (count, time) of the codes 1 and 2 as sound, and their summed bits."""
    state = (rng.random(count) < SHARES[1]).astype(int)
    drawn, bits = [state], -np.log2(SHARES[state])
    for _ in range(time - 1):
        stays = rng.random(count) < STAY[state]
        bits = bits - np.log2(np.where(stays, STAY[state], 1 - STAY[state]))
        state = np.where(stays, state, 1 - state)
        drawn.append(state)
    sound = Samples(RATE, 2, "linear").waveform(1 + np.stack(drawn, 1)[..., None])
    rows = np.arange(count, dtype=np.int32)
    return Batch(sound, np.full(count, time, np.int32), 0 * rows, (), rows), bits.sum()


def started(changes):
    config = override(tiny(), SOUND | changes)
    program = make_program(config, Signal(RATE), None)
    hyper = {name: values[0] for name, values in hyperparameters([config]).items()}
    normalisation = Normalisation(jnp.zeros(1), jnp.ones(1))
    return program, jax.jit(program.init)(np.uint32(0), hyper, normalisation)


def test_a_gru_reaches_the_entropy_rate_of_a_markov_chain():
    program, state = started({"train.tbptt_frames": 64})
    step, rng = on_one_device(program.train_step), np.random.default_rng(0)
    for _ in range(150):
        state, _ = step(state, chains(rng, 16, 128)[0])
    batch, bits = chains(rng, 64, 1024)
    least = bits / batch.signal.size  # of these samples, by the true probabilities
    score = jax.jit(lambda *arguments: program.score(*arguments))
    found = jax.device_get(score(state.weights, state.normalisation, batch))
    assert abs(least - ENTROPY) < 0.02
    assert -0.001 < measure(program.task.metrics, found)["bits"] - least < 0.01


@pytest.mark.parametrize("model", ["rnn_generator", "samplernn", "wavenet"])
def test_truncation_does_not_change_the_loss(model):
    """The state passes from segment to segment, in every model."""
    results = []
    for length in (0, 16):
        program, state = started({"model.name": model, "train.tbptt_frames": length})
        batch, _ = chains(np.random.default_rng(0), 4, 40)
        keys = program.keys(state, batch.row)
        results.append(jax.jit(lambda *a, of=program: of.gradients(*a))(state, keys, batch))
    whole, segments = results
    close(segments.loss, whole.loss)
    assert segments.weight == whole.weight == 4 * 40
    differ = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, results), strict=True)]
    assert max(differ) > 1e-3  # the gradients are truncated
