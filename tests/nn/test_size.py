import jax
import jax.numpy as jnp
import pytest

from gru_audio.config import default_config, override
from gru_audio.nn.models import make_model
from gru_audio.nn.size import count_parameters, model_size
from gru_audio.settings import UserError
from gru_audio.sweeps.size import match_parameters

# Table 1 of Chung et al. 2014, speech: frames of 20 samples, the recurrent part alone.
CHUNG = {
    "tanh": {"model.cell": "rnn", "model.hidden": 400},
    "gru": {"model.cell": "gru_reset_before"},
    "lstm": {"model.cell": "lstm_peephole"},
}


@pytest.mark.parametrize(
    ("cell", "hidden", "published"),
    [("rnn", 400, 168_400), ("gru_reset_before", 227, 168_888), ("lstm_peephole", 195, 169_065)],
)
def test_sizes_of_chung_2014(cell, hidden, published):
    config = override(default_config(), {"model.cell": cell, "model.hidden": hidden})
    assert model_size(config.model, 20, 7, "recurrent") == published
    assert model_size(config.model, 20, 7) == published + 7 * (hidden + 1)


def test_matching_gives_the_nearest_size():
    variants = match_parameters(
        default_config(), CHUNG, to="tanh", features=20, outputs=7, counting="recurrent"
    )
    assert variants["tanh"] == CHUNG["tanh"]
    assert variants["gru"] == CHUNG["gru"] | {"model.hidden": 227}
    assert variants["lstm"]["model.hidden"] == 195

    def off(name, hidden):
        config = override(default_config(), variants[name] | {"model.hidden": hidden})
        return abs(model_size(config.model, 20, 7, "recurrent") - 168_400)

    for name in ("gru", "lstm"):
        hidden = variants[name]["model.hidden"]
        assert off(name, hidden) < min(off(name, hidden - 1), off(name, hidden + 1))


def test_matching_stops_at_one_unit():
    variants = {"small": {"model.hidden": 1}, "deep": {"model.layers": 3}}
    matched = match_parameters(default_config(), variants, to="small", features=3, outputs=2)
    assert matched["deep"]["model.hidden"] == 1


@pytest.mark.parametrize("name", ["rnn_classifier", "crnn"])
def test_recurrent_is_the_encoder(name):
    config = override(default_config(), {"model.name": name, "model.hidden": 5}).model
    model = make_model(config, 3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 8)), jnp.ones(1, jnp.int32))
    params = variables["params"]
    features = 8 if name == "rnn_classifier" else 2 * 32  # 8 bands halved twice, 32 channels
    assert count_parameters(model, params, "recurrent") == 3 * (features * 5 + 5 * 5 + 5) + 5
    rest = 3 * (5 + 1) + (0 if name == "rnn_classifier" else 9 * 16 + 9 * 16 * 32 + 2 * (16 + 32))
    assert count_parameters(model, params) == count_parameters(model, params, "recurrent") + rest


@pytest.mark.parametrize("name", ["tcn", "cnn"])
def test_convolutions_are_not_recurrent(name):
    config = override(default_config(), {"model.name": name, "model.pooling": "mean"}).model
    assert model_size(config, 20, 7, "recurrent") == 0 < model_size(config, 20, 7)


def test_unknown_names():
    with pytest.raises(UserError, match='Did you mean "gru"'):
        match_parameters(default_config(), CHUNG, to="gruu", features=20, outputs=7)
    with pytest.raises(UserError, match='Did you mean "recurrent"'):
        model_size(default_config().model, 20, 7, "recurent")
