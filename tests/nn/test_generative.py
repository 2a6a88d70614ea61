"""Generative models of sound: what all of them must satisfy, and the equations of single ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.config import default_config, override
from gru_audio.data.fields import ClassField
from gru_audio.data.signal import Signal
from gru_audio.inference.generator import log_probability, sampled, uniforms
from gru_audio.nn.generative import generate, silence
from gru_audio.nn.layer import Dropout
from gru_audio.nn.size import count_parameters
from gru_audio.settings import UserError
from gru_audio.training.program import make_program

BATCH, TIME = 3, 24
CLASSES = ("a", "b")
SMALL = {
    "task.name": "generation",
    "frontend.name": "samples",
    "frontend.normalise": False,
    "frontend.bits": 4,
}
MODELS = {
    "rnn": {"model.name": "rnn_generator", "model.cell": "lstm", "model.layers": 2},
    "value": {"model.name": "rnn_generator", "model.input": "value"},
    "two tiers": {"model.name": "samplernn", "model.frames": ("4",), "model.layers": 2},
    "three tiers": {"model.name": "samplernn", "model.frames": ("8", "2"), "model.cell": "lstm"},
    "wavernn": {"model.name": "wavernn", "frontend.split": True},
    "wavenet": {"model.name": "wavenet", "model.layers": 3, "model.stacks": 2, "model.kernel": 3},
}
close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)


@functools.cache
def program_of(name):
    changes = SMALL | {"model.hidden": 6} | MODELS[name]
    return make_program(override(default_config(), changes), Signal(8000), ClassField(CLASSES))


@functools.cache
def problem(name):
    """A program, variables with no zero among them, codes and classes of a batch, and outputs."""
    program = program_of(name)
    model, task = program.model, program.task
    rng = np.random.default_rng(0)
    codes = rng.integers(0, model.levels, (BATCH, TIME, model.codes)).astype(np.float32)
    labels = np.array([0, 1, 1])
    inputs = task.inputs_and_targets(jnp.asarray(codes), jnp.full(BATCH, TIME), labels)
    variables = jax.jit(model.init)(jax.random.key(0), inputs.inputs, inputs.lengths)
    variables = jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape), variables)
    outputs = jax.jit(model.apply)(variables, inputs.inputs, inputs.lengths)
    return program, variables, codes, labels, inputs, outputs


def run(name, needed, choose, start=None):
    program, variables, _, labels, *_ = problem(name)
    model, condition = program.model, jax.nn.one_hot(labels, len(CLASSES))
    if start is None:
        first = jnp.broadcast_to(silence(model.codes, model.levels), (BATCH, model.codes))
        start = model.initial_state(BATCH), first
    function = functools.partial(generate, model, choose=choose)
    return jax.jit(function)(variables, *start, condition, needed=needed)


def random_numbers(name, first=0, samples=TIME):
    keys = jax.random.split(jax.random.key(1), BATCH)
    return uniforms(keys, first + jnp.arange(samples), program_of(name).model.codes)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_the_sum_of_the_samplers_log_probabilities(name):
    program, _, codes, _, inputs, outputs = problem(name)
    bits, samples = program.task.loss(outputs.values, inputs.targets, outputs.lengths)
    given = jnp.asarray(codes, jnp.int32)
    _, drawn = run(name, given, lambda logits, code: (code, log_probability(logits, code)))
    np.testing.assert_array_equal(drawn.codes, codes)
    np.testing.assert_array_equal(samples, TIME)
    close(bits, -drawn.log_probabilities.sum(1) / np.log(2))
    assert np.ptp(bits) > 0.1


@pytest.mark.parametrize("name", MODELS)
def test_sounds_in_one_go_and_in_pieces_are_the_same(name):
    last, whole = run(name, random_numbers(name), sampled)
    half, first = run(name, random_numbers(name, samples=8), sampled)
    end, second = run(name, random_numbers(name, 8, TIME - 8), sampled, (first.state, half))
    np.testing.assert_array_equal(jnp.concatenate([first.codes, second.codes], 1), whole.codes)
    np.testing.assert_array_equal(end, last)
    assert len(np.unique(whole.codes)) > 2


@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_in_pieces(name):
    """The state after a piece of a known sequence is that which the sampler goes on from."""
    program, variables, codes, _, inputs, outputs = problem(name)
    model, cut = program.model, 16
    piece = jax.jit(model.apply)(
        variables, inputs.inputs[:, :cut], None, state=model.initial_state(BATCH)
    )
    close(piece.values, outputs.values[:, :cut])
    rest = jax.jit(model.apply)(variables, inputs.inputs[:, cut:], None, state=piece.state)
    close(rest.values, outputs.values[:, cut:])
    given = jnp.asarray(codes, jnp.int32)
    previous = given[:, cut - 1]
    _, drawn = run(
        name,
        given[:, cut:],
        lambda logits, code: (code, log_probability(logits, code)),
        (piece.state, previous),
    )
    bits, _ = program.task.loss(rest.values, inputs.targets[:, cut:], jnp.full(BATCH, TIME - cut))
    close(bits, -drawn.log_probabilities.sum(1) / np.log(2))


@pytest.mark.parametrize("name", MODELS)
def test_an_output_depends_on_earlier_samples_only(name):
    program, variables, codes, labels, inputs, outputs = problem(name)
    model, place = program.model, 13
    other = codes.copy()
    other[:, place] = (other[:, place] + 1) % model.levels
    changed = program.task.inputs_and_targets(jnp.asarray(other), inputs.lengths, labels)
    values = jax.jit(model.apply)(variables, changed.inputs, inputs.lengths).values
    np.testing.assert_array_equal(values[:, :place], outputs.values[:, :place])
    coarse = slice(model.levels)  # the fine half is given the coarse half of the same sample
    np.testing.assert_array_equal(values[:, place, coarse], outputs.values[:, place, coarse])
    assert np.all(np.any(values[:, place + 1] != outputs.values[:, place + 1], axis=-1))
    if model.codes == 2:
        assert np.any(values[:, place] != outputs.values[:, place])


@pytest.mark.parametrize("name", MODELS)
def test_the_condition_changes_the_outputs(name):
    program, variables, codes, _, inputs, outputs = problem(name)
    others = program.task.inputs_and_targets(jnp.asarray(codes), inputs.lengths, np.array([1] * 3))
    values = jax.jit(program.model.apply)(variables, others.inputs, inputs.lengths).values
    assert np.any(values[0] != outputs.values[0])
    close(values[1:], outputs.values[1:])


def test_two_softmaxes_are_a_distribution_over_all_codes():
    """The probabilities of all pairs of a coarse and a fine half add up to 1."""
    program, variables, codes, labels, inputs, _ = problem("wavernn")
    model, place = program.model, 7
    probabilities = []
    for coarse in range(model.levels):
        for fine in range(model.levels):
            other = codes.copy()
            other[:, place] = coarse, fine
            changed = program.task.inputs_and_targets(jnp.asarray(other), inputs.lengths, labels)
            outputs = jax.jit(model.apply)(variables, changed.inputs, inputs.lengths)
            logits = outputs.values[:, place].reshape(BATCH, 2, model.levels)
            log = jax.nn.log_softmax(logits)
            probabilities.append(np.exp(log[:, 0, coarse] + log[:, 1, fine]))
    close(np.sum(probabilities, 0), 1)


def test_a_sampled_code_has_its_probability():
    logits = jnp.array([[0.3, -jnp.inf, 1.2, -0.5]])
    uniform = (jnp.arange(4000) + 0.5) / 4000
    codes, log = jax.jit(sampled)(jnp.broadcast_to(logits, (4000, 4)), uniform)
    shares = np.bincount(codes, minlength=4) / 4000
    close(shares, jax.nn.softmax(logits[0]), atol=5e-4)
    close(log[0], jax.nn.log_softmax(logits[0])[codes[0]])


@pytest.mark.parametrize("frames", ["16,3", "8,8", "1", "x", ""])
def test_frames_that_do_not_fit_into_each_other_are_refused(frames):
    changes = SMALL | {"model.name": "samplernn", "model.frames": tuple(frames.split(","))}
    with pytest.raises(UserError, match='each a multiple of the next, from 2 on: "16"'):
        make_program(override(default_config(), changes), Signal(8000), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "wavernn"}, "set config.frontend.split=True"),
        ({"model.name": "wavenet", "frontend.split": True}, "set config.frontend.split=False"),
        ({"model.name": "rnn_classifier"}, "predicts no samples: choose one of rnn_generator"),
        ({"model.name": "rnn_generator", "model.bidirectional": True}, "bidirectional=False"),
        ({"model.name": "samplernn", "train.tbptt_frames": 24}, "multiple of the model's frames"),
        ({"model.name": "wavenet", "augment.time_mask_ms": 10.0}, "does not apply to codes"),
        ({"frontend.name": "raw", "model.name": "wavenet"}, "frontend.name=samples"),
    ],
)
def test_components_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make_program(override(default_config(), SMALL | changes), Signal(8000), None)


def test_a_sample_model_needs_the_task():
    changes = {"model.name": "wavenet"}
    with pytest.raises(UserError, match=r'config.task.name="generation"'):
        make_program(override(default_config(), changes), Signal(8000), ClassField(CLASSES))


@pytest.mark.parametrize("name", ["two tiers", "wavernn", "wavenet"])
def test_dropout(name):
    """Each example has a mask of its own, and a rate of 0 changes nothing."""
    program, variables, _, _, inputs, outputs = problem(name)
    same = jax.tree.map(lambda a: jnp.repeat(a[:1], 2, 0), (inputs.inputs, inputs.lengths))
    keys = jax.random.split(jax.random.key(2), 2)

    @jax.jit
    def apply(rate):
        return program.model.apply(variables, *same, dropout=Dropout(keys, rate)).values

    close(apply(0.0)[0], outputs.values[0])
    dropped = apply(0.5)
    assert np.mean(dropped[0] != dropped[1]) > 0.5  # small layers may draw the same mask


@pytest.mark.parametrize("name", MODELS)
def test_recurrent_parameters_are_counted(name):
    program, variables, *_ = problem(name)
    params = variables["params"]
    count = count_parameters(program.model, params, "recurrent")
    assert 0 <= count < count_parameters(program.model, params)
    assert (count == 0) == (name == "wavenet")
