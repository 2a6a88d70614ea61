"""How to define a model from a flax.nnx module, and a metric: a perceptron against the GRU.

  python -m gru_audio.prepare spoken_digit
  python -m gru_audio.sweep --config experiments/own_model.py --workdir runs/own_model

Models of the package are linen modules; `flax.nnx.bridge.ToLinen` converts an nnx module. Fields
made by `setting` are keys of the config: --config.model.name=perceptron --config.model.hidden=64.
Training can select by the metric (--config.train.select=validation/top_two), and `report
--experiment experiments/own_model.py --metric top_two` compares by it. The experiment was not run.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from gru_audio.config import default_config
from gru_audio.nn.model import Model, Outputs
from gru_audio.settings import setting
from gru_audio.sweeps.sweep import Sweep
from gru_audio.tasks.metrics import Mean


class Network(nnx.Module):
    """Two linear layers."""

    def __init__(self, features: int, width: int, outputs: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(features, width, rngs=rngs)
        self.output = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, features) -> (batch, outputs)."""
        return self.output(nnx.relu(self.hidden(x)))


class Perceptron(Model):
    """A `Network` on the mean of the valid frames."""

    outputs: int
    hidden: int = setting(32, low=1, high=4096, unit="units", doc="Units of the hidden layer.")

    @property
    def look_ahead(self) -> str:
        """The mean reads every frame."""
        return 'config.model.name="rnn_classifier"'

    @nn.compact
    def __call__(self, features, lengths, *, state=None, train=False, dropout=None) -> Outputs:
        """See `Model`. Dropout applies to the mean frame."""
        valid = jnp.arange(features.shape[1]) < lengths[:, None]
        mean = jnp.mean(features, axis=1, where=valid[..., None])
        if dropout is not None:
            mean = dropout(mean, 0)
        sizes = (features.shape[-1], self.hidden, self.outputs)
        network = nnx.bridge.ToLinen(Network, args=sizes, metadata_fn=None, name="network")
        return Outputs(network(mean), lengths)


MODELS = {"perceptron": Perceptron}


class TopTwo(Mean):
    """The share of examples whose class is among the two most probable ones."""

    name = "top_two"

    def terms(self, predictions):
        """1 if it is, else 0."""
        best = predictions["probabilities"].argsort(axis=-1)[:, -2:]
        return (best == predictions["label"][:, None]).any(axis=-1), None


METRICS = {"top_two": TopTwo()}


def get_config():
    config = default_config()
    config.data.name = "spoken_digit"
    config.optimizer.learning_rate = 2e-3
    config.train.steps = 600
    return config


def get_sweep(config):
    variants = {"GRU": {"model.hidden": 32}, "perceptron": {"model.name": "perceptron"}}
    return Sweep(variants, replicates=[{"seed": seed} for seed in range(3)])
