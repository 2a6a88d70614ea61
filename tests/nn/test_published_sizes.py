"""Parameter counts of published networks for keyword spotting.

The GRU of TensorFlow 1 equals "gru_reset_before" here, and its LSTM "lstm_peephole".
"""

import pytest

from gru_audio.config import default_config, override
from gru_audio.nn.size import model_size

LABELS = 12


def size(features, **changes):
    changes = {f"model.{name}": value for name, value in changes.items()}
    return model_size(override(default_config(), changes).model, features, LABELS)


@pytest.mark.parametrize(
    ("hidden", "published"), [(154, 78_090), (250, 198_762), (400, 498_012)], ids="SML"
)
def test_gru_of_hello_edge(hidden, published):
    assert size(10, cell="gru_reset_before", hidden=hidden) == published


@pytest.mark.parametrize(
    ("hidden", "published"), [(118, 62_316), (214, 195_180), (344, 492_620)], ids="SML"
)
def test_basic_lstm_of_hello_edge(hidden, published):
    assert size(10, cell="lstm", hidden=hidden) == published


@pytest.mark.parametrize(
    ("hidden", "projection", "published"),
    [(144, 98, 78_516), (280, 130, 196_732), (500, 188, 495_768)],
    ids="SML",
)
def test_lstm_of_hello_edge(hidden, projection, published):
    found = size(10, cell="lstm_peephole", hidden=hidden, projection=projection)
    assert found == published


@pytest.mark.parametrize(
    ("conv", "hidden", "dense", "published"),
    [
        ("48 10x4 stride 2x2", 60, "84 relu", 75_432),
        ("128 10x4 stride 2x2", 76, "164 relu", 189_032),
        ("100 10x4 stride 2x1", 136, "188 relu", 485_004),
    ],
    ids="SML",
)
def test_crnn_of_hello_edge(conv, hidden, dense, published):
    found = size(
        10,
        name="crnn",
        cell="gru_reset_before",
        conv=(conv,),
        conv_norm=False,
        conv_padding="valid",
        hidden=hidden,
        layers=2,
        dense=(dense,),
    )
    assert found == published


def test_lstm_of_kws_streaming():
    """545K (Rybakov et al. 2020)."""
    assert size(20, cell="lstm_peephole", hidden=500, projection=200) == 545_912


def test_crnn_of_kws_streaming():
    """467K; 467,772 with Keras' six biases per GRU unit, of which two pairs are redundant."""
    found = size(
        20,
        name="crnn",
        conv=("16 3x3", "16 5x3"),
        conv_norm=False,
        conv_padding="valid",
        hidden=256,
        dense=("128 linear", "256 relu"),
    )
    assert found == 467_772 - 2 * 256


@pytest.mark.parametrize(
    ("features", "dense", "keras"),
    [(20, ("64 relu", "32 linear"), 743_025), (40, ("64 relu",), 756_689)],
    ids=["700K", "750K"],
)
def test_mhatt_rnn_of_kws_streaming(features, dense, keras):
    """The networks called 700K and 750K, from their commands and code.

    Keras' convolutions have biases before batch norm, which removes them, and its GRUs two more
    biases per unit.
    """
    found = size(
        features,
        name="crnn",
        conv=("10 5x1", "1 5x1"),
        hidden=128,
        layers=2,
        bidirectional=True,
        pooling="multi_head_attention",
        heads=4,
        dense=dense,
    )
    assert found == keras - (10 + 1) - 2 * 128 * 4
