"""All contestants compute the same results, at the precision of the case."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

from benchmarks.layers import Case, cudnn_weights, error, make_data, ours, shared
from benchmarks.recurrence import TOLERANCES, checked


@pytest.fixture
def dumped(tmp_path):
    """Returns a folder to which JAX writes every lowered program."""
    jax.config.update("jax_dump_ir_to", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_dump_ir_to", "")


def test_a_shared_batch_has_the_precision_of_the_case(dumped):
    data = make_data(Case("gru", len(jax.devices()), 3, 4, 5))
    for file in dumped.iterdir():
        file.unlink()
    shared(data, "loop")
    programs = [file.read_text() for file in dumped.iterdir()]
    products = [line for text in programs for line in re.findall(r"dot_general %.*", text)]
    assert products
    assert all("HIGHEST" in product for product in products)


def test_cudnn_gets_the_same_weights():
    """JAX's reference implementation of cuDNN agrees with float64."""
    case = Case("lstm", 2, 5, 3, 4, bidirectional=True)
    data = make_data(case)
    sizes = (case.features, case.hidden, 1)
    parts = rnn.unpack_lstm_weights(
        jnp.asarray(cudnn_weights(data.params)), *sizes, case.bidirectional
    )
    start = jnp.zeros((case.directions, case.batch, case.hidden))
    lengths = jnp.full(case.batch, case.time, jnp.int32)
    outputs, *_ = rnn.lstm_ref(
        jnp.asarray(data.inputs), start, start, *parts, lengths, *sizes, 0.0, case.bidirectional
    )
    np.testing.assert_allclose(outputs, data.truth()[0], atol=1e-5)


def test_wrong_results_do_not_pass():
    """Errors of one percent, or NaN, do not pass."""
    data = make_data(Case("gru", 3, 5, 4, 6))
    right = ours(data, "scan")
    wrong = jax.tree.map(lambda a: 1.01 * a, right.result())
    astray = dataclasses.replace(right, result=lambda: wrong)
    frames, d_params, d_inputs = right.result()
    holed = dataclasses.replace(right, result=lambda: (frames, d_params, d_inputs * np.nan))
    tried = {"scan": astray, "right": right, "loop": astray, "holed": holed}
    rows = list(checked(data, {name: lambda one=one: one for name, one in tried.items()}))
    assert [row["passed"] for row in rows] == [False, True, False, False]
    (broken,) = checked(data, {"none": lambda: [][0]})
    assert not broken["passed"] and broken["failed"] == "list index out of range"


def test_a_shared_batch_gives_the_same_as_float64():
    """Gradients of the weights are summed over the devices."""
    data = make_data(Case("gru", len(jax.devices()), 9, 5, 6, ragged=True))
    assert shared(data, "auto").error(data.truth()) < 1e-5


def test_checks_detect_errors():
    """Float64 passes --check, and an error of one thousandth does not."""
    truth = make_data(Case("gru", 3, 5, 4, 6)).truth()
    assert error(truth, truth) == 0
    wrong = jax.tree.map(lambda a: a * 1.001, truth)
    assert error(wrong, truth) == pytest.approx(1e-3)
    assert TOLERANCES["float32"] < 1e-3
