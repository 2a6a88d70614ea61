"""How to define a cell: the simple recurrent unit against the GRU, at equal parameters.

  python -m gru_audio.prepare spoken_digit
  python -m gru_audio.sweep --config experiments/own_cell.py --workdir runs/own_cell
  python -m gru_audio.evaluate --experiment experiments/own_cell.py --workdir runs/own_cell \
      --run SRU-seed0

The cell is the SRU of Lei et al. 2018 (arXiv 1709.02755, eq. 3-6). A step has no matrix product
with the old state. The highway connection adds the layer's input, here through a linear map, so
that the widths may differ. The config can name every entry of the experiment's CELLS, MODELS,
POOLINGS, FRONTENDS, TASKS and METRICS. The experiment was not run.
"""

import jax.numpy as jnp
from flax.linen import sigmoid

from gru_audio.config import default_config
from gru_audio.nn.equations import Activation, Cell, Diagonal, Pointwise
from gru_audio.sweeps.size import match_parameters
from gru_audio.sweeps.sweep import Sweep


def memory(c: jnp.ndarray, f: jnp.ndarray, n: jnp.ndarray) -> jnp.ndarray:
    """``s(f) * c + (1 - s(f)) * n``."""
    return sigmoid(f) * c + (1 - sigmoid(f)) * n


def highway(c: jnp.ndarray, r: jnp.ndarray, x: jnp.ndarray) -> jnp.ndarray:
    """``s(r) * c + (1 - s(r)) * x``."""
    return sigmoid(r) * c + (1 - sigmoid(r)) * x


CELLS = {
    "sru": Cell(
        gates=("f", "r", "n", "x"),
        carry=("h", "c"),
        equations=(
            Diagonal("peephole", "c", ("f", "r")),
            Pointwise("c", memory),
            Pointwise("h", highway),
        ),
        activations={
            "forget": Activation(sigmoid, ("f",)),
            "reset": Activation(sigmoid, ("r",)),
        },
    ),
}


def get_config():
    config = default_config()
    config.data.name = "spoken_digit"
    config.model.hidden = 64
    config.model.layers = 2
    config.optimizer.learning_rate = 2e-3
    config.train.steps = 600
    return config


def get_sweep(config):
    variants = {"GRU": {"model.cell": "gru"}, "SRU": {"model.cell": "sru"}}
    return Sweep(
        variants=match_parameters(config, variants, to="GRU"),
        replicates=[{"seed": seed} for seed in range(3)],
    )
