"""Truncated back-propagation: the state passes between segments, gradients do not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.layer import Dropout
from gru_audio.settings import UserError
from gru_audio.training.keys import DROPOUT
from tests.tones import NOISE, assert_same, make_loader, steps, tiny
from tests.training.one_device import (
    compiled_step,
    fresh_state,
    memory,
    noise,
    program_of,
)

FRAMES = [9, 4, 2, 7]
SEGMENT = 4
MODEL = {"model.cell": "lstm", "model.layers": 2, "model.dropout": 0.3, "model.pooling": "mean"}

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def share_of(changes, batch_of=noise):
    """Returns summed loss and gradients of a batch of noise, with program, state and batch."""
    changes = MODEL | changes
    program = program_of(changes)
    state, batch = fresh_state(program, changes), batch_of(program, FRAMES)
    keys = program.keys(state, batch.row)
    share = jax.jit(lambda s, k, b: program.gradients(s, k, b))(state, keys, batch)
    return program, state, batch, keys, share


def test_against_a_loop_over_segments():
    program, state, batch, keys, share = share_of({"train.tbptt_frames": SEGMENT})
    features, frames = program.features(batch)
    features = jnp.pad(features, ((0, 0), (0, 3), (0, 0)))
    assert frames.tolist() == FRAMES
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))

    def loss(params):
        carry, total = None, 0.0
        for number in range(3):
            start = number * SEGMENT
            valid = jnp.clip(frames - start, 0, SEGMENT)
            dropout = Dropout(fold(keys.rows, number)[:, DROPOUT], state.hyper["model.dropout"])
            logits, _, carry = program.model.apply(
                {"params": params},
                features[:, start : start + SEGMENT],
                valid,
                state=carry,
                dropout=dropout,
            )
            carry = jax.lax.stop_gradient(carry)
            for row, target in enumerate(batch.labels):
                of_row = -jax.nn.log_softmax(logits[row])[target]
                total += of_row * valid[row] / FRAMES[row]
        return total

    value, gradients = jax.value_and_grad(loss)(state.weights.params)
    close(share.loss, value)
    jax.tree.map(close, share.gradients, gradients)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(share.gradients))


def test_a_segment_as_long_as_the_clips_is_the_whole_clip():
    *_, whole = share_of({})
    *_, segment = share_of({"train.tbptt_frames": max(FRAMES)})
    assert_same(segment, whole)


def test_the_state_is_carried_on():
    """The final state after the last segment is that of the whole sequence."""
    changes = {"model.layers": 2}
    program = program_of(changes)
    variables = {"params": fresh_state(program, changes).weights.params}
    features = jax.random.normal(jax.random.key(0), (len(FRAMES), 9, program.frontend.features))
    frames, carry = jnp.array(FRAMES), None
    for start in range(0, 9, SEGMENT):
        segment, valid = features[:, start : start + SEGMENT], jnp.clip(frames - start, 0, SEGMENT)
        logits, _, carry = program.model.apply(variables, segment, valid, state=carry)
    close(logits, program.model.apply(variables, features, frames).values)


@pytest.mark.reliability  # for its length
def test_within_micro_batches_and_with_rematerialisation(source):
    """With all noise and other features, the result is that of truncation alone."""
    losses = []
    for changes in (
        {},
        {"train.grad_accumulation": 2, "model.remat_frames": 2, "parallel.data": 2},
    ):
        configs = [tiny(NOISE | {"train.tbptt_frames": 6} | changes)]
        losses.append(steps(make_loader(source, configs), configs, [20])[1]["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-5)
    assert losses[0][0, -5:].mean() < losses[0][0, :5].mean()


@pytest.mark.reliability  # for its length
def test_memory_grows_only_with_the_sound():
    """Only samples and features grow with the length; activations are those of a segment."""
    size = {"model.hidden": 64, "train.batch_size": 16, "frontend.name": "raw"}
    short, long = (
        memory(compiled_step(size | {"train.tbptt_frames": 50}, frames)) for frames in (500, 2000)
    )
    frame = 16 * 80 * 4  # bytes of one more frame of all clips, as float32
    assert (long - short) / 1500 < 4 * frame
    assert memory(compiled_step(size, 2000)) > 2.5 * long


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model.name": "crnn"}, '"crnn".* carries no state'),
        ({"model.name": "tcn"}, '"tcn".* carries no state'),
        ({"model.bidirectional": True}, "bidirectional reads from the end"),
    ],
)
def test_models_that_need_the_whole_clip_refuse(changes, reason):
    with pytest.raises(UserError, match=f"{reason}.*set config.train.tbptt_frames=0"):
        program_of(changes | {"train.tbptt_frames": 10})
