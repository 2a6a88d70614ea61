"""Sounds drawn sample by sample at 8 kHz: all models of sound, and the one-tier GRU in PyTorch.

The GRU has 128 units, and the other models the same number of parameters. PyTorch runs the same
weights with `nn.GRUCell` and draws from the same softmax. "ms" is the time of a sample of all
sounds, and "real_time" the seconds of sound that are made in a second: from 1 on, a device keeps up
with the listener. "error" is the largest difference of PyTorch's logits.

    taskset -c 0 python -m benchmarks generation         # on one core
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Contestant, Options, Row, compete, say
from gru_audio.audio.normalise import Normalisation
from gru_audio.config import default_config, override
from gru_audio.data.signal import Signal
from gru_audio.inference.generator import Generator
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.nn.weights import to_torch
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.step import Weights

RATE = 8000
SOUNDS = (1, 16)
GRU, PYTORCH = "one-tier GRU", "one-tier GRU, PyTorch"
# About as many parameters as the GRU.
MODELS: Mapping[str, Mapping[str, Any]] = {
    GRU: {"model.name": "rnn_generator", "model.hidden": 128},
    "SampleRNN, 2 tiers": {"model.name": "samplernn", "model.hidden": 45},
    "SampleRNN, 3 tiers": {
        "model.name": "samplernn",
        "model.frames": ("8", "2"),
        "model.hidden": 63,
    },
    "WaveRNN": {"model.name": "wavernn", "model.hidden": 63, "frontend.split": True},
    "WaveNet": {"model.name": "wavenet", "model.layers": 9, "model.hidden": 41},
}
_SAMPLES = 1024  # of a turn
_CHECKED = 100  # samples, for the error


def measure(
    options: Options, sounds: Sequence[int] = SOUNDS, samples: int = _SAMPLES
) -> Iterator[Row]:
    """Times the contestants.

    Args:
      options: options of the command line.
      sounds: numbers of sounds that are drawn at once.
      samples: samples of a turn.
    """
    models = {name: _model(changes) for name, changes in MODELS.items()}
    for count in sounds:
        say(f"{count} sounds")
        makers: dict[str, Callable[[], Contestant]] = {
            name: functools.partial(_ours, trained, count, samples)
            for name, trained in models.items()
        }
        if importlib.util.find_spec("torch"):
            makers[PYTORCH] = functools.partial(_pytorch, models[GRU], count, samples)
        for row in compete(makers, options.seconds, (PYTORCH,)):
            if "ms" in row:
                row["real_time"] = 1000 * count / RATE / row["ms"]["median"]
            yield {"table": f"{count} sounds at {RATE} Hz"} | row


def _model(changes: Mapping[str, Any]) -> TrainedModel:
    """Returns a model with initial weights."""
    base = {
        "data.target": "",
        "task.name": "generation",
        "frontend.name": "samples",
        "frontend.normalise": False,
    }
    config = override(override(default_config(), base), changes)
    trained = TrainedModel(
        config=config,
        field=None,
        signal=Signal(RATE),
        longest=RATE,
        weights=Weights({}, {}),
        normalisation=Normalisation(jnp.zeros(1), jnp.ones(1)),
        about={"run": "benchmark"},
    )
    program = trained.program()
    hyper = jax.tree.map(lambda leaf: leaf[0], hyperparameters([config]))
    features = program.frontend.features
    normalisation = Normalisation(jnp.zeros(features), jnp.ones(features))
    state = jax.jit(program.init)(jnp.uint32(0), hyper, normalisation)
    return dataclasses.replace(trained, weights=state.weights, normalisation=normalisation)


def _ours(trained: TrainedModel, count: int, samples: int) -> Contestant:
    generator = Generator(trained, rows=count)

    def run() -> None:
        generator.sounds(samples, count)

    run()  # compiles
    return Contestant(lambda _: run(), steps=samples)


def _pytorch(trained: TrainedModel, count: int, samples: int) -> Contestant:
    import torch

    params, model = trained.weights.params, trained.program().model
    state = {name: torch.tensor(np.array(a)) for name, a in _gru(params["encoder"]).items()}
    embedding = torch.tensor(np.array(params["read"]["embedding"]["embedding"]))
    cell = torch.nn.GRUCell(embedding.shape[1], state["weight_hh"].shape[1])
    cell.load_state_dict(state)
    kernel, bias = (torch.tensor(np.array(params["head"]["output"][n])) for n in ("kernel", "bias"))

    @torch.inference_mode()
    def run(given: torch.Tensor | None = None, steps: int = samples) -> list[torch.Tensor]:
        """Draws samples, or goes through given codes (steps, count); returns the logits."""
        h, code = torch.zeros(count, cell.hidden_size), torch.full((count,), 128)
        found = []
        for step in range(steps):
            code = code if given is None else given[step]
            h = cell(embedding[code], h)
            found.append(h @ kernel + bias)
            code = torch.multinomial(torch.softmax(found[-1], -1), 1)[:, 0]
        return found

    codes = np.random.default_rng(0).integers(0, 256, (count, _CHECKED, 1))
    ours: Any = model.apply({"params": params}, jnp.asarray(codes, jnp.float32), None)
    theirs = torch.stack(run(torch.tensor(codes[..., 0].T), _CHECKED), 1)
    error = float(np.abs(theirs.numpy() - ours.values).max())
    return Contestant(lambda _: run(), steps=samples, about={"error": error})


def _gru(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of one layer by the names of `GRUCell`."""
    return {name.removesuffix("_l0"): a for name, a in to_torch("gru", params).items()}
