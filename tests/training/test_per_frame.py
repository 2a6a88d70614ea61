"""Tasks per frame: losses are sums over frames, for any division of the batch."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from scipy.special import log_expit

from gru_audio.data import signal
from gru_audio.data.resident import Batch, Mixing
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError
from gru_audio.tasks.metrics import LOSS
from gru_audio.training.program import make_program
from tests.rolls import NEXT_STEP
from tests.tones import assert_same, fresh, make_loader, member, steps, tiny
from tests.training.one_device import FAST, fresh_state, on_one_device
from tests.training.outcome import Outcome, same_member

WIDTH, TIME = 5, 16
FRAMES = [16, 11, 1, 3]  # half a batch has nearly all of them
ROLLS = (np.random.default_rng(0).random((len(FRAMES), TIME, WIDTH)) < 0.3).astype(np.uint8)
MODEL = {"model.cell": "lstm"}
RATE = 0.1

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def program_of(changes):
    return make_program(tiny({**FAST, **NEXT_STEP, **changes}), signal.frames(WIDTH, "uint8"), None)


def batch_of(fill=0):
    """Returns a batch of pieces padded with `fill`."""
    length = np.array(FRAMES, np.int32)
    inside = np.arange(TIME) < length[:, None]
    rows = np.arange(len(FRAMES), dtype=np.int32)
    return Batch(np.where(inside[..., None], ROLLS, np.uint8(fill)), length, 0 * rows, (), rows)


def share_of(changes, fill=0):
    """Returns the gradient sum of a batch, with its program and state."""
    changes = {**MODEL, **changes}
    program, batch = program_of(changes), batch_of(fill)
    state = fresh_state(program, NEXT_STEP | changes)
    keys = program.keys(state, batch.row)
    return program, state, jax.jit(lambda s, k, b: program.gradients(s, k, b))(state, keys, batch)


@functools.cache
def of_each_piece(first_frame=True):
    """Returns losses of single pieces by another formula, and their gradients.

    The weights are the initial ones.
    """
    program = program_of(MODEL)

    def loss(params, roll):
        late = jnp.concatenate([jnp.zeros((1, WIDTH)), roll[:-1]])
        inputs, targets = (late, roll) if first_frame else (roll[:-1], roll[1:])
        outputs = program.model.apply({"params": params}, inputs[None], jnp.array([len(inputs)]))
        chances = jax.nn.sigmoid(outputs.values[0])
        return -jnp.log(jnp.where(targets == 1, chances, 1 - chances)).sum()

    params, pieces = fresh_state(program, NEXT_STEP | MODEL).weights.params, []
    for roll, frames in zip(jnp.asarray(ROLLS, jnp.float32), FRAMES, strict=True):
        if frames > (not first_frame):  # a piece of one frame has no target
            pieces.append(jax.jit(jax.value_and_grad(loss))(params, roll[:frames]))
    losses, gradients = zip(*pieces, strict=True)
    return np.array(losses), jax.tree.map(lambda *leaves: sum(leaves), *gradients)


@pytest.mark.parametrize("first_frame", [True, False])
def test_a_gradient_sum_is_that_of_single_pieces(first_frame):
    *_, share = share_of({"task.first_frame": first_frame})
    losses, gradients = of_each_piece(first_frame)
    close(share.loss, losses.sum())
    assert share.weight == sum(FRAMES) - (0 if first_frame else len(FRAMES))
    jax.tree.map(functools.partial(close, rtol=1e-4, atol=1e-5), share.gradients, gradients)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_padding_changes_nothing():
    *_, clean = share_of({})
    *_, dirty = share_of({}, fill=200)
    assert_same(dirty, clean)


@functools.cache
def after_a_step(parts):
    """Returns the weights before and after a step, and its metrics."""
    changes = {**MODEL, "optimizer.name": "sgd", "optimizer.learning_rate": RATE}
    program = program_of(changes | {"train.grad_accumulation": parts})
    state = fresh_state(program, NEXT_STEP | changes)
    step = on_one_device(lambda state, batch: program.train_step(state, batch))
    after, metrics = step(state, batch_of())
    return state.weights.params, after.weights.params, metrics


def test_a_step_uses_the_mean_over_frames():
    """The loss is the mean over frames, not the mean of the pieces' means."""
    before, after, metrics = after_a_step(parts=1)
    losses, gradients = of_each_piece()
    close(metrics["loss"], losses.sum() / sum(FRAMES))
    assert abs(metrics["loss"] - (losses / np.array(FRAMES)).mean()) > 1e-3
    jax.tree.map(
        lambda new, old, g: close(new, old - RATE * g / sum(FRAMES)), after, before, gradients
    )


def test_micro_batches_of_unequal_frames_give_the_update_of_the_whole_batch():
    jax.tree.map(close, after_a_step(parts=2), after_a_step(parts=1))


# Truncated back-propagation

SEGMENT = 6


def test_truncation_against_a_loop_over_segments():
    program, state, share = share_of({"train.tbptt_frames": SEGMENT})
    frames = jnp.array(FRAMES)
    rolls = jnp.asarray(batch_of().signal, jnp.float32)
    late = jnp.pad(rolls, ((0, 0), (1, 0), (0, 0)))[:, :-1]

    @jax.jit
    @jax.value_and_grad
    def direct(params):
        carry, total = None, 0.0
        for start in range(0, TIME, SEGMENT):
            segment = slice(start, start + SEGMENT)
            valid = jnp.clip(frames - start, 0, SEGMENT)
            logits, _, carry = program.model.apply(
                {"params": params}, late[:, segment], valid, state=carry
            )
            carry = jax.lax.stop_gradient(carry)
            chances = jax.nn.sigmoid(logits)
            losses = -jnp.log(jnp.where(rolls[:, segment] == 1, chances, 1 - chances))
            inside = jnp.arange(losses.shape[1]) < valid[:, None]
            total += jnp.where(inside[..., None], losses, 0).sum()
        return total

    loss, gradients = direct(state.weights.params)
    close(share.loss, loss)
    assert share.weight == sum(FRAMES)
    jax.tree.map(functools.partial(close, rtol=1e-4, atol=1e-5), share.gradients, gradients)


def test_truncation_changes_the_gradients_and_not_the_loss():
    """The state is passed from segment to segment."""
    *_, whole = share_of({})
    *_, parts = share_of({"train.tbptt_frames": SEGMENT})
    close(parts.loss, whole.loss)
    assert parts.weight == whole.weight
    far = [
        np.abs(a - b).max() / np.abs(b).max()
        for a, b in zip(*map(jax.tree.leaves, (parts.gradients, whole.gradients)), strict=True)
    ]
    assert max(far) > 1e-3


@pytest.mark.parametrize("frames", [TIME, TIME + 1, 1000])
def test_a_segment_as_long_as_the_pieces_is_the_whole_piece(frames):
    *_, whole = share_of({})
    *_, segment = share_of({"train.tbptt_frames": frames})
    assert_same(segment, whole)


# Data sets of frames

OF_TWO_LENGTHS = {**FAST, **NEXT_STEP, "data.buckets": 2}
STREAMED = {"data.loader": "streamed"}


@pytest.fixture(scope="module")
def config():
    return tiny(OF_TWO_LENGTHS)


@pytest.fixture(scope="module")
def loader(rolls, config):
    return make_loader(rolls, [config])


@pytest.fixture(scope="module")
def trained(loader, config):
    return steps(loader, [config], [20])


def scores_of(loader, state, role):
    state = loader.placement.scatter(state)
    return loader.score(state.weights, state.normalisation, role)[0]


def normalisation_of(loader, config):
    return member(jax.device_get(fresh(loader, [config]).normalisation), 0)


def test_lengths_are_padded_to_few_frames(loader, rolls):
    padded, lengths = loader.data.plan.padded, rolls.columns["length"]
    assert len(padded) == 2
    assert all(length % rolls.signal.block == 0 for length in padded)
    assert padded[-1] - lengths.max() < rolls.signal.block == 8


def test_frames_reach_the_model_unchanged(rolls, loader, config):
    reader = loader.data.reader([0], np.arange(8, dtype=np.int32), Mixing())
    batch = jax.tree.map(lambda leaf: leaf[0], reader.step(1, 0)[0])
    prepared = loader.program.inputs_and_targets(normalisation_of(loader, config), batch)
    np.testing.assert_array_equal(prepared.targets, batch.signal)
    np.testing.assert_array_equal(prepared.lengths, batch.length)
    assert set(np.unique(prepared.targets)) == {0, 1}


def test_frames_can_be_normalised(rolls, loader):
    config = tiny(OF_TWO_LENGTHS | {"frontend.normalise": True, "task.distribution": "gaussian"})
    train = np.concatenate(rolls.signals(loader.data.ids[0]["train"]))
    close(normalisation_of(make_loader(rolls, [config]), config).mean, train.mean(axis=0))


def test_zeros_and_ones_may_not_be_normalised(rolls):
    with pytest.raises(UserError, match=r"set config\.frontend\.normalise=False"):
        make_loader(rolls, [tiny(OF_TWO_LENGTHS | {"frontend.normalise": True})])


def test_the_loss_falls_below_that_of_a_chance_for_each_key(rolls, loader, trained):
    longer, _ = steps(loader, [tiny(OF_TWO_LENGTHS)], [200])
    train = np.concatenate(rolls.signals(loader.data.ids[0]["train"]))
    test = np.concatenate(rolls.signals(loader.data.ids[0]["test"]))
    chance = (train.sum(axis=0) + 0.5) / (len(train) + 1)
    alone = -np.where(test == 1, np.log(chance), np.log(1 - chance)).sum(axis=1).mean()
    assert LOSS.value(scores_of(loader, longer, "test")) < 0.9 * alone


def test_resident_and_streamed_give_the_same_bits(rolls, loader, trained):
    configs = [tiny(OF_TWO_LENGTHS | STREAMED)]
    streamed = make_loader(rolls, configs)
    state, metrics = steps(streamed, configs, [1] * 20)
    assert_same(metrics, trained[1])
    assert_same(state, trained[0])
    for role in ("validation", "test"):
        assert_same(scores_of(streamed, state, role), scores_of(loader, state, role))


def test_sharing_a_batch_between_devices_changes_nothing(rolls, trained):
    """Each device has rows of different lengths, in two parts."""
    configs = [tiny(OF_TWO_LENGTHS | {"parallel.data": 2, "train.grad_accumulation": 2})]
    _, metrics = steps(make_loader(rolls, configs), configs, [20])
    np.testing.assert_allclose(metrics["loss"], trained[1]["loss"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        metrics["gradient_norm"], trained[1]["gradient_norm"], rtol=1e-4, atol=1e-5
    )


def test_a_split_is_scored_like_single_pieces(rolls, loader, trained):
    one, ids = member(trained[0], 0), loader.data.ids[0]["test"][:3]
    total, frames = 0.0, 0
    for piece in rolls.signals(ids):
        late = np.concatenate([np.zeros((1, piece.shape[1])), piece[:-1]]).astype(np.float32)
        logits = loader.program.model.apply(
            {"params": one.weights.params}, late[None], np.array([len(piece)])
        )
        logits = np.asarray(logits.values[0], np.float64)
        total -= np.where(piece == 1, log_expit(logits), log_expit(-logits)).sum()
        frames += len(piece)
    scores = {name: values[:3] for name, values in scores_of(loader, trained[0], "test").items()}
    assert LOSS.value(scores) == pytest.approx(total / frames, rel=1e-5)


def test_a_saved_model_has_the_scores_of_its_loader(tmp_path, rolls, loader, config, trained):
    one = member(trained[0], 0)
    longest = loader.data.plan.padded[-1]
    saved = TrainedModel(
        config, (), rolls.signal, longest, one.weights, one.normalisation, {"run": "x"}
    )
    saved.save(epath.Path(tmp_path))
    loaded = TrainedModel.load(epath.Path(tmp_path))
    assert loaded.signal == rolls.signal
    assert loaded.field is None
    ids = loader.data.ids[0]["test"]
    scores = loaded.scores(rolls.signals(ids), np.zeros(len(ids), np.int32))
    expected = scores_of(loader, trained[0], "test")
    assert scores.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-5, atol=1e-5)


@pytest.mark.reliability
def test_resuming_from_a_checkpoint_gives_the_same_bits(rolls, tmp_path):
    options = {**FAST, **NEXT_STEP, "train.weight_noise": 0.05, "checkpoint.every_steps": 5}
    whole = Outcome(rolls, tmp_path, {}, **options)
    for path in (tmp_path / "checkpoints").iterdir():
        if int(path.name) > 5:
            shutil.rmtree(path)
    same_member(Outcome(rolls, tmp_path, {}, **options), whole, 0)


@pytest.mark.parametrize("name", ["time_shift_ms", "gain_db", "mixup", "tempo"])
def test_augmentation_of_sound_is_refused(name):
    with pytest.raises(UserError, match=f"config.augment.{name} is for sound: set it to 0"):
        program_of({f"augment.{name}": 0.5})
    program_of({"augment.time_masks": 1, "augment.time_mask_ms": 2000.0})


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"model.bidirectional": True}, "config.model.bidirectional=False"),
        ({"model.name": "crnn", "model.conv": ("4 3x1",)}, "without kernels over time"),
    ],
)
def test_models_that_read_later_frames_are_refused(changes, setting):
    with pytest.raises(UserError, match=f"next_step needs a causal model: set .*{setting}"):
        program_of(changes)
    program_of({"model.name": "crnn", "model.conv": ("4 1x3",)})
