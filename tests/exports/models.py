"""Models with random weights, and their comparison with what a runtime computes."""

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.normalise import Normalisation
from gru_audio.config import default_config, flatten, override
from gru_audio.data.fields import ClassField, TextField, describe
from gru_audio.data.signal import Signal
from gru_audio.exports.function import Function, make_function
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.step import Weights

RATE = 8000
NAMES = ("low", "middle", "high")


def made(changes: Mapping[str, Any] | None = None, signal: Signal | None = None) -> TrainedModel:
    """A model of three classes or tokens, whose weights and statistics are random."""
    changes = {"frontend.normalise": True, **(changes or {})}
    if changes.get("model.name") != "cnn":
        changes = {"model.hidden": 5, **changes}
    config = override(default_config(), changes)
    field = TextField("ab ") if config.task.name == "ctc" else ClassField(NAMES)
    trained = TrainedModel(
        config=config,
        field=field,
        signal=signal or Signal(RATE),
        longest=RATE,
        weights=Weights({}, {}),
        normalisation=Normalisation(0, 1),
        about={"run": "one"},
    )
    program, rng = trained.program(), np.random.default_rng(0)
    features = program.frontend.features
    normalisation = Normalisation(
        rng.normal(size=features).astype(np.float32),
        rng.uniform(0.5, 2, features).astype(np.float32),
    )
    hyper = jax.tree.map(lambda leaf: leaf[0], hyperparameters([config]))
    shapes = jax.eval_shape(program.init, jnp.uint32(0), hyper, normalisation).weights

    def drawn(leaf: Any) -> np.ndarray:
        return rng.normal(size=leaf.shape, scale=0.4).astype(np.float32)

    weights = Weights(
        jax.tree.map(drawn, shapes.params),
        jax.tree.map(lambda leaf: np.abs(drawn(leaf)), shapes.model_state),
    )
    return dataclasses.replace(trained, weights=weights, normalisation=normalisation)


def description(trained: TrainedModel) -> dict[str, Any]:
    """What a saved model has in `model.json`."""
    return {
        "config": flatten(trained.config),
        "field": describe(trained.field),
        "signal": dataclasses.asdict(trained.signal),
        "longest": trained.longest,
        "longest_clip": None,
        "decoding": {},
        "about": trained.about,
    }


def function_of(
    changes: Mapping[str, Any] | None = None, source: str = "features", stream: bool = False
) -> Function:
    """The function of such a model."""
    return make_function(made(changes), source, stream)


def assert_runs_alike(module: ModuleType, function: Function, inputs=None) -> None:
    """The file of a function computes in its runtime what the function computes."""
    inputs = function.example() if inputs is None else inputs
    found = module.run(function, module.encode(function), inputs)
    for one, other in zip(found, jax.jit(function.__call__)(*inputs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
