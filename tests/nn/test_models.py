"""The interface of all models, and their construction from a config."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.config import default_config, override, read_config
from gru_audio.nn.conv import Block
from gru_audio.nn.head import Hidden
from gru_audio.nn.layer import Dropout
from gru_audio.nn.model import Model
from gru_audio.nn.models import MODELS, make_model
from gru_audio.settings import UserError

BATCH, TIME, FEATURES = 3, 13, 12
LENGTHS = jnp.array([13, 6, 1], jnp.int32)
# Keys of all models; `read_config` ignores those of other models.
SMALL = {
    "model.hidden": 6,
    "model.conv": ("4 3x3 stride 2x2", "5 3x3 stride 2x2"),
    "model.recurrent_init": "uniform",  # compiles faster than the default
}
INPUTS = jax.random.normal(jax.random.key(0), (BATCH, TIME, FEATURES))


def model_of(**changes):
    named = {f"model.{name}": value for name, value in changes.items()}
    return make_model(read_config(SMALL | named).model, outputs=4)


@functools.cache
def made(name, **changes):
    model = model_of(name=name, **changes)
    variables = jax.jit(model.init)(jax.random.key(1), INPUTS, LENGTHS)
    if "batch_stats" in variables:  # nonzero, as after training
        stats = jax.tree.map(lambda leaf: leaf + 0.5, variables["batch_stats"])
        variables = {**variables, "batch_stats": stats}
    return model, variables


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("rnn_classifier", "attention"),
        ("rnn_classifier", "multi_head_attention"),
        ("crnn", "last"),
        ("cnn", "mean"),
    ],
)
def test_a_clip_in_a_padded_batch_gives_what_it_gives_alone(name, pooling):
    model, variables = made(name, pooling=pooling, bidirectional=True)
    padding = jnp.arange(TIME)[:, None] >= LENGTHS[:, None, None]
    logits = jax.jit(model.apply)(variables, jnp.where(padding, 1e3, INPUTS), LENGTHS).values
    assert logits.shape == (BATCH, 4)
    alone = jax.jit(model.apply)(variables, INPUTS[1:2, :6], LENGTHS[1:2]).values
    np.testing.assert_allclose(logits[1], alone[0], rtol=1e-5, atol=1e-6)


def test_training_a_crnn_moves_its_statistics_and_ignores_padding():
    model, variables = made("crnn")
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    logits, updates = apply(variables, INPUTS, LENGTHS)
    assert np.any(updates["batch_stats"]["front"]["norm_0"]["mean"] != 0.5)
    padding = jnp.arange(TIME)[:, None] >= LENGTHS[:, None, None]
    logits_2, updates_2 = apply(variables, jnp.where(padding, 1e3, INPUTS), LENGTHS)
    np.testing.assert_allclose(logits.values, logits_2.values, atol=1e-6)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), updates, updates_2)


@pytest.mark.parametrize("name", [name for name, m in MODELS.items() if not m.of_samples])
def test_dropout_and_gradients(name):
    model, variables = made(name, layers=2, pooling="max", dense=("7 relu", "6 linear"))
    keys = jax.random.split(jax.random.key(5), BATCH)

    @jax.jit
    @jax.value_and_grad
    def loss(params, rate):
        logits, _ = model.apply(
            {**variables, "params": params},
            INPUTS,
            LENGTHS,
            train=True,
            dropout=Dropout(keys, rate),
            mutable=["batch_stats"],
        )
        return (logits.values**2).sum()

    without, _ = loss(variables["params"], 0.0)
    with_dropout, gradients = loss(variables["params"], 0.1)
    assert with_dropout != without
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_fields_reach_the_model():
    model = model_of(cell="lstm", layers=3, bidirectional=True, layer_norm=True, pooling="max")
    encoder = model.encoder
    assert (encoder.cell, encoder.hidden, encoder.layers) == ("lstm", 6, 3)
    assert (encoder.bidirectional, encoder.layer_norm, model.head.pooling) == (True, True, "max")
    changes = {
        "model.name": "crnn",
        "model.cell": "lstm",
        "model.projection": 5,
        "model.conv_norm": False,
        "model.conv_padding": "valid",
        "model.channels": 2,
        "model.pooling": "multi_head_attention",
        "model.heads": 2,
        "model.dense": ("7 relu",),
    }
    crnn = make_model(override(default_config(), changes).model, 4, batch_axis="data")
    front, head = crnn.front, crnn.head
    assert front.blocks == (Block(16, (3, 3), (1, 2)), Block(32, (3, 3), (1, 2)))
    assert (front.norm, front.padding, front.channels) == (False, "valid", 2)
    assert (front.batch_axis, front.dtype) == ("data", "float32")
    assert (head.heads, head.dense, crnn.encoder.projection) == (2, (Hidden(7, "relu"),), 5)


@pytest.mark.parametrize(
    ("name", "per_frame"),
    [("rnn_classifier", False), ("rnn_classifier", True), ("crnn", False), ("tcn", True)],
)
def test_outputs_begin_with_their_bias(name, per_frame):
    """With zero weights, the outputs equal the biases."""
    changes = {"model.name": name, "model.output_init": "zeros", "model.output_bias": -3.0}
    config = read_config(SMALL | changes)
    model = make_model(config.model, 4, per_frame=per_frame)
    frames, lengths = np.ones((2, 7, 8), np.float32), np.array([7, 3])
    outputs, variables = jax.jit(model.init_with_output)(jax.random.key(0), frames, lengths)
    np.testing.assert_array_equal(outputs.values, np.full((2, 7, 4) if per_frame else (2, 4), -3.0))
    np.testing.assert_array_equal(variables["params"]["head"]["output"]["bias"], -3)


@pytest.mark.parametrize(
    ("field", "value", "valid"),
    [
        ("name", "rnn_clasifier", "rnn_classifier"),
        ("cell", "lstm_peepholes", "lstm_peephole"),
        ("pooling", "maxx", "max"),
        ("kernel_init", "glorot", "glorot_normal"),
        ("recurrent_init", "orthogonall", "orthogonal"),
        ("output_init", "zero", "zeros"),
        ("implementation", "scann", "scan"),
    ],
)
def test_an_unknown_name_stops_before_any_work(field, value, valid):
    with pytest.raises(UserError, match=f'"{value}" is unknown. Did you mean "{valid}"'):
        model_of(**{field: value})


@pytest.mark.parametrize("name", ["crnn", "cnn"])
@pytest.mark.parametrize(
    "changes",
    [{"conv": ("4 3x3 stride 2x1",)}, {"conv": ("4 3x3 pool 2x1",)}, {"conv_padding": "valid"}],
    ids=["stride", "pool", "padding"],
)
def test_outputs_for_every_frame_need_every_frame(name, changes):
    changes = {f"model.{key}": value for key, value in {"name": name, **changes}.items()}
    config = override(default_config(), changes)
    with pytest.raises(UserError, match="outputs for every frame"):
        make_model(config.model, 4, per_frame=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "cnn"}, '"last" needs a state .* set it to "mean"'),
        (
            {"name": "crnn", "conv": ("16 3*3",)},
            '"16 3\\*3" is not a block of convolutions',
        ),
        ({"name": "crnn", "conv": ("16 3x3 stride 0x1",)}, "must be at least 1 in Block"),
        ({"dense": ("64",)}, '"64" is not a layer. Write UNITS ACTIVATION'),
        ({"dense": ("64 rellu",)}, 'Unknown activation "rellu". Did you mean "relu"'),
    ],
)
def test_invalid_combinations_stop_before_any_work(changes, message):
    with pytest.raises(UserError, match=message):
        model_of(**changes)


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({}, ""),
        ({"bidirectional": True}, "config.model.bidirectional=False"),
        ({"name": "tcn"}, ""),
        ({"name": "crnn", "conv": ("4 1x3",)}, ""),
        ({"name": "crnn", "conv": ("4 1x3",), "bidirectional": True}, "bidirectional=False"),
        ({"name": "crnn", "conv": ("4 3x3",)}, "config.model.conv without kernels over time"),
        ({"name": "cnn", "pooling": "mean"}, "config.model.conv without kernels over time"),
    ],
)
def test_a_causal_model_reads_no_later_frame(changes, setting):
    """A change of the last frame shows whether a model is causal, as it declares."""
    frozen = tuple(sorted({"conv": ("4 3x3",), "layers": 2, **changes}.items()))
    config = {f"model.{key}": value for key, value in dict(frozen).items()}
    model = make_model(read_config(SMALL | config).model, 4, per_frame=True)
    assert setting in model.look_ahead and model.causal == (not model.look_ahead)
    variables = jax.jit(model.init)(jax.random.key(1), INPUTS, LENGTHS)
    lengths = jnp.full(BATCH, TIME)
    run = jax.jit(model.apply)
    before = run(variables, INPUTS, lengths).values
    after = run(variables, INPUTS.at[:, -1].add(3.0), lengths).values
    assert np.any(before[:, -1] != after[:, -1])
    assert np.array_equal(before[:, :-1], after[:, :-1]) == model.causal


@pytest.mark.parametrize("changes", [{}, {"name": "tcn"}, {"name": "crnn"}, {"name": "cnn"}])
def test_lengths_are_those_of_the_frames(changes):
    changes = {"pooling": "mean", "conv_padding": "valid"} | changes
    model, variables = made(**({"name": "rnn_classifier"} | changes))
    outputs = jax.jit(model.apply)(variables, INPUTS, LENGTHS)
    np.testing.assert_array_equal(outputs.lengths, model.output_lengths(LENGTHS))
    if "front" in variables["params"]:
        front = model.front.apply(
            {name: tree["front"] for name, tree in variables.items() if "front" in tree},
            INPUTS,
            LENGTHS,
            train=False,
        )
        np.testing.assert_array_equal(outputs.lengths, front[1])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_pieces_give_what_the_whole_gives(cell):
    config = read_config(SMALL | {"model.cell": cell, "model.layers": 2}).model
    model = make_model(config, 4, per_frame=True)
    variables = jax.jit(model.init)(jax.random.key(1), INPUTS, LENGTHS)
    whole = jax.jit(model.apply)(variables, INPUTS, jnp.full(BATCH, TIME)).values
    state, pieces = model.initial_state(BATCH), []
    for start, stop in ((0, 1), (1, 6), (6, TIME)):
        state, outputs = model.apply(variables, state, INPUTS[:, start:stop], method="step")
        pieces.append(outputs.values)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "tcn"}, "TcnClassifier cannot run in pieces"),
        ({"name": "crnn"}, "CrnnClassifier cannot run in pieces"),
        ({"bidirectional": True}, "set it to False"),
    ],
)
def test_a_model_that_cannot_run_in_pieces_says_so(changes, message):
    with pytest.raises(UserError, match=message):
        model_of(**changes).initial_state(1)


def test_a_model_without_declarations_is_not_causal():
    class Undeclared(Model):
        pass

    with pytest.raises(NotImplementedError, match="Undeclared must declare look_ahead"):
        Undeclared().causal  # noqa: B018
