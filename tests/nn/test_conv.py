"""Blocks of convolutions: parsing, values and lengths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.nn.conv import Block, ConvFront, parse_block
from gru_audio.settings import UserError

TIME, FEATURES = 13, 12
LENGTHS = jnp.array([13, 6, 1], jnp.int32)
INPUTS = jax.random.normal(jax.random.key(0), (len(LENGTHS), TIME, FEATURES))


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("16 3x3", Block(16, (3, 3))),
        ("48 10x4 stride 2x1", Block(48, (10, 4), stride=(2, 1))),
        ("128 3x3 pool 1x5", Block(128, (3, 3), pool=(1, 5))),
        ("8 5x1 stride 1x2 pool 3x4", Block(8, (5, 1), (1, 2), (3, 4))),
    ],
)
def test_blocks_as_text(text, block):
    assert parse_block(text) == block


def made(*blocks, **more):
    front = ConvFront(tuple(map(parse_block, blocks)), **more)
    variables = jax.eval_shape(
        functools.partial(front.init, train=False), jax.random.key(1), INPUTS, LENGTHS
    )
    stats = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5), variables.get("batch_stats", {}))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape), variables["params"])
    return front, {"params": params, "batch_stats": stats}


@functools.partial(jax.jit, static_argnums=0)
def run(front, variables, features, lengths):
    return front.apply(variables, features, lengths, train=False)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    "blocks",
    [
        ("2 1x3 stride 3x1", "3 5x2"),
        ("2 2x3 pool 2x2", "3 3x1 stride 2x1"),
        ("2 3x2 stride 2x2 pool 2x1", "3 2x2 pool 3x4"),
    ],
)
def test_a_clip_in_a_padded_batch_gives_what_it_gives_alone(blocks, padding):
    front, variables = made(*blocks, padding=padding)
    beyond = jnp.arange(TIME)[:, None] >= LENGTHS[:, None, None]
    frames, lengths = run(front, variables, jnp.where(beyond, jnp.nan, INPUTS), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        own = INPUTS[row, None, :length], LENGTHS[row, None]
        alone, (count,) = run(front, variables, *own)
        assert alone.shape[1] == count == lengths[row]
        np.testing.assert_allclose(frames[row, :count], alone[0], atol=1e-5)
        assert not np.any(frames[row, count:])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 5])
def test_a_step_of_n_keeps_one_frame_in_n(kernel, stride):
    front, variables = made(f"2 {kernel}x3 stride {stride}x2", f"3 {kernel}x3 pool {stride}x2")
    assert front.positions.step == stride**2
    frames, lengths = run(front, variables, INPUTS, LENGTHS)
    halves = [-(-n // stride) for n in LENGTHS.tolist()]
    assert lengths.tolist() == [-(-n // stride) for n in halves]
    assert frames.shape == (3, int(lengths.max()), 3 * FEATURES // 4)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("block", ["1 3x1", "1 4x1 stride 2x1", "1 3x1 stride 2x1 pool 3x1"])
def test_outputs_lie_at_the_centres_of_the_frames_they_read(block, padding):
    """The frames that an output depends on are found by changing one input frame at a time."""
    front = ConvFront((parse_block(block), parse_block("1 3x1 stride 2x1")), False, padding)
    time = 60
    inputs = jnp.arange(1.0, time + 1)[None, :, None]
    variables = jax.tree.map(
        jnp.ones_like, front.init(jax.random.key(0), inputs, jnp.array([time]), train=False)
    )
    changed = jnp.tile(inputs, (time, 1, 1)) + 1e3 * jnp.eye(time)[..., None]
    plain, lengths = run(front, variables, inputs, jnp.array([time]))
    frames, _ = run(front, variables, changed, jnp.full(time, time))
    read = np.asarray(frames != plain).any(-1)  # (changed frame, output)
    for output in range(2, int(lengths[0]) - 3):  # away from the padding
        frames_read = np.flatnonzero(read[:, output])
        centre = (frames_read[0] + frames_read[-1]) / 2
        assert centre == front.positions.first + front.positions.step * output


def test_values_against_pytorch():
    torch = pytest.importorskip("torch")
    front, variables = made(
        "4 4x3 stride 2x1 pool 1x2", "5 3x1 pool 2x2", norm=False, padding="valid", channels=2
    )
    frames, lengths = run(front, variables, INPUTS[:1], LENGTHS[:1])
    image = torch.tensor(np.asarray(INPUTS[:1], np.float64).reshape(1, TIME, 2, -1))
    x = image.permute(0, 2, 1, 3)  # batch, channels, time, bands
    for number, (stride, pool) in enumerate([((2, 1), (1, 2)), ((1, 1), (2, 2))]):
        conv = variables["params"][f"conv_{number}"]
        kernel = torch.tensor(np.asarray(conv["kernel"])).permute(3, 2, 0, 1)
        x = torch.nn.functional.conv2d(x, kernel, torch.tensor(np.asarray(conv["bias"])), stride)
        x = torch.nn.functional.max_pool2d(x.relu(), pool)
    expected = x.permute(0, 2, 3, 1).flatten(2)
    assert (frames.shape, lengths.tolist()) == (expected.shape, [expected.shape[1]])
    np.testing.assert_allclose(frames, expected, rtol=1e-4, atol=1e-4)


def test_features_that_do_not_fit():
    with pytest.raises(UserError, match=r"channels=5 does not divide frames of 12 values"):
        made("2 3x3", channels=5)
    with pytest.raises(UserError, match=r"a kernel of 7 bands does not fit the 6 that block 2"):
        made("2 3x1 stride 1x2", "3 1x7", padding="valid")
