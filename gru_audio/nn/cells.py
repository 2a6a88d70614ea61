"""The recurrent cells. Each is one time step, given as equations.

To add a cell, write its elementwise functions and its entry in `CELLS`. The parameters of the
layer, all implementations of the recurrence, their gradients and the parameter counts follow from
the entry.

Notation: a gate named ``r`` starts as the input projection ``W_r x + b_r``, which the layer
computes for all steps at once. The entry's equations add to it, for example ``h U_r`` with the
output ``h`` of the previous step. A function gets these sums as arguments named like the gates.
"""

import jax
import jax.numpy as jnp
from flax.linen import log_sigmoid, relu, sigmoid

from gru_audio.nn.equations import Activation, Bias, Cell, Diagonal, Matrix, Pointwise


def gru(h: jax.Array, r: jax.Array, z: jax.Array, n: jax.Array, m: jax.Array) -> jax.Array:
    """GRU with the reset gate after the recurrent product, as in cuDNN, PyTorch and linen.

    ``h' = (1 - s(z)) * tanh(n + s(r) * m) + s(z) * h`` with ``m = h U_m + b_m``. ``s`` is the
    sigmoid function.
    """
    z = sigmoid(z)
    return (1 - z) * candidate(r, n, m) + z * h


def candidate(r: jax.Array, n: jax.Array, m: jax.Array) -> jax.Array:
    """The candidate of that GRU: ``tanh(n + s(r) * m)``."""
    return jnp.tanh(n + sigmoid(r) * m)


def reset(h: jax.Array, r: jax.Array) -> jax.Array:
    """The reset output of a GRU with the reset gate before the product: ``s(r) * h``."""
    return sigmoid(r) * h


def update(h: jax.Array, z: jax.Array, n: jax.Array) -> jax.Array:
    """A GRU's output: ``(1 - s(z)) * tanh(n) + s(z) * h``.

    If ``n`` includes ``(s(r) * h) U_n``, this is the GRU of Cho et al. 2014 (arXiv 1406.1078, eq.
    5-8). The candidate depends on the reset gate, so a step needs two products in sequence.
    """
    z = sigmoid(z)
    return (1 - z) * jnp.tanh(n) + z * h


def memory(c: jax.Array, i: jax.Array, f: jax.Array, g: jax.Array) -> jax.Array:
    """Memory of an LSTM with forget gate (Gers et al. 2000): ``s(f) * c + s(i) * tanh(g)``."""
    return sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)


def output(c: jax.Array, o: jax.Array) -> jax.Array:
    """The output of an LSTM: ``s(o) * tanh(c)``."""
    return sigmoid(o) * jnp.tanh(c)


def elman(a: jax.Array) -> jax.Array:
    """Elman's network (1990): ``tanh(a)``."""
    return jnp.tanh(a)


def li_gru(h: jax.Array, z: jax.Array, n: jax.Array) -> jax.Array:
    """Light GRU (Ravanelli et al. 2018, arXiv 1803.10225): ``(1 - s(z)) * relu(n) + s(z) * h``.

    It has no reset gate. ReLU is unbounded, so the paper applies batch normalisation to the input
    projections. Here the layer's `layer_norm` does that; it has no running statistics.
    """
    z = sigmoid(z)
    return (1 - z) * relu(n) + z * h


def min_gru(h: jax.Array, z: jax.Array, n: jax.Array) -> jax.Array:
    """Minimal GRU (Feng et al. 2024, arXiv 2410.01201, sec. 3.1): ``(1 - s(z)) * h + s(z) * n``.

    The gate and the candidate depend on the input only. This is the paper's version without
    logarithms. As in the paper, an update gate of 1 takes the candidate.
    """
    z = sigmoid(z)
    return (1 - z) * h + z * n


def min_lstm(h: jax.Array, f: jax.Array, i: jax.Array, n: jax.Array) -> jax.Array:
    """Minimal LSTM (Feng et al. 2024, sec. 3.2): ``(s(f) * h + s(i) * n) / (s(f) + s(i))``."""
    forget = share(f, i)
    return forget * h + (1 - forget) * n


def share(gate: jax.Array, other: jax.Array) -> jax.Array:
    """A normalised gate of a minimal LSTM: ``s(gate) / (s(gate) + s(other))``."""
    return sigmoid(log_sigmoid(gate) - log_sigmoid(other))  # avoids 0 / 0


def linear(n: jax.Array) -> jax.Array:
    """A candidate without an activation function."""
    return n


RESET = Activation(sigmoid, ("r",))
UPDATE = Activation(sigmoid, ("z",))
CANDIDATE = Activation(jnp.tanh, ("n",))
LSTM = {
    "input": Activation(sigmoid, ("i",)),
    "forget": Activation(sigmoid, ("f",)),
    "candidate": Activation(jnp.tanh, ("g",)),
    "output": Activation(sigmoid, ("o",)),
}

CELLS: dict[str, Cell] = {
    "gru": Cell(
        gates=("r", "z", "n"),
        carry=("h",),
        equations=(
            Matrix("recurrent_kernel", "h", ("r", "z", "m")),
            Bias("recurrent_bias", ("m",)),
            Pointwise("h", gru),
        ),
        activations={
            "reset": RESET,
            "update": UPDATE,
            "candidate": Activation(candidate, ("r", "n", "m")),
        },
    ),
    "gru_reset_before": Cell(
        gates=("r", "z", "n"),
        carry=("h",),
        equations=(
            Matrix("recurrent_kernel", "h", ("r", "z")),
            Pointwise("q", reset),
            Matrix("candidate_kernel", "q", ("n",)),
            Pointwise("h", update),
        ),
        activations={"reset": RESET, "update": UPDATE, "candidate": CANDIDATE},
    ),
    "lstm": Cell(
        gates=("i", "f", "g", "o"),
        carry=("h", "c"),
        equations=(
            Matrix("recurrent_kernel", "h", ("i", "f", "g", "o")),
            Pointwise("c", memory),
            Pointwise("h", output),
        ),
        activations=LSTM,
    ),
    # Gers et al. 2002; Graves 2013 (arXiv 1308.0850, eq. 7-11): i and f read the previous memory,
    # o reads the new one.
    "lstm_peephole": Cell(
        gates=("i", "f", "g", "o"),
        carry=("h", "c"),
        equations=(
            Matrix("recurrent_kernel", "h", ("i", "f", "g", "o")),
            Diagonal("peephole", "c", ("i", "f")),
            Pointwise("c", memory),
            Diagonal("output_peephole", "c", ("o",)),
            Pointwise("h", output),
        ),
        activations=LSTM,
    ),
    "rnn": Cell(
        gates=("a",),
        carry=("h",),
        equations=(Matrix("recurrent_kernel", "h", ("a",)), Pointwise("h", elman)),
        activations={"candidate": Activation(jnp.tanh, ("a",))},
    ),
    "li_gru": Cell(
        gates=("z", "n"),
        carry=("h",),
        equations=(Matrix("recurrent_kernel", "h", ("z", "n")), Pointwise("h", li_gru)),
        activations={"update": UPDATE, "candidate": Activation(relu, ("n",))},
    ),
    "min_gru": Cell(
        gates=("z", "n"),
        carry=("h",),
        equations=(Pointwise("h", min_gru),),
        activations={"update": UPDATE, "candidate": Activation(linear, ("n",))},
        linear=True,
    ),
    "min_lstm": Cell(
        gates=("f", "i", "n"),
        carry=("h",),
        equations=(Pointwise("h", min_lstm),),
        activations={
            "forget": Activation(share, ("f", "i")),
            "input": Activation(share, ("i", "f")),
            "candidate": Activation(linear, ("n",)),
        },
        linear=True,
    ),
}
