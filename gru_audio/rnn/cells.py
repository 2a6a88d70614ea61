"""The recurrent cells: one time step each, as a pure function and a short description.

To change a cell, change its function. To add one, write its function and its entry in `CELLS`;
the layer, the recurrence and the parameter counts follow from the entry.

Notation, in every cell: ``x_g`` is the input projection of gate ``g`` (``W_g x + b_g``, computed
for all steps ahead by the layer), ``h_g`` the recurrent one, ``h`` the output.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax.linen import sigmoid

Params = Mapping[str, jax.Array]
Carry = tuple[jax.Array, ...]
Projections = tuple[jax.Array, ...]


@dataclass(frozen=True, eq=False)
class Cell:
    """What a layer must know of a cell to own its parameters, and the cell's step.

    Attributes:
      step: ``(params, carry, projections) -> carry``, all arrays of the last two (batch, hidden).
      gates: names of the input projections, in the order of the input kernel's blocks.
      carry: names of the carried arrays; the first is the cell's output.
      kernels: recurrent matrices: name -> the gates whose (hidden, hidden) blocks lie side by side.
      vectors: recurrent biases and diagonal weights, likewise with (hidden,) blocks.
    """

    step: Callable[[Params, Carry, Projections], Carry]
    gates: tuple[str, ...]
    carry: tuple[str, ...]
    kernels: Mapping[str, tuple[str, ...]]
    vectors: Mapping[str, tuple[str, ...]]

    def initial_carry(self, batch: int, hidden: int, dtype: jax.typing.DTypeLike) -> Carry:
        """Zeros."""
        return tuple(jnp.zeros((batch, hidden), dtype) for _ in self.carry)


def gru(params: Params, carry: Carry, projections: Projections) -> Carry:
    """GRU, reset gate after the recurrent product, as in cuDNN, PyTorch and linen.

    ``r = s(x_r + h_r)``, ``z = s(x_z + h_z)``, ``n = tanh(x_n + r * (h_n + b))``,
    ``h' = (1 - z) * n + z * h``.
    """
    (h,) = carry
    x_r, x_z, x_n = projections
    h_r, h_z, h_n = jnp.split(h @ params["recurrent_kernel"], 3, axis=-1)
    r = sigmoid(x_r + h_r)
    z = sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + r * (h_n + params["recurrent_bias"]))
    return ((1 - z) * n + z * h,)


def gru_reset_before(params: Params, carry: Carry, projections: Projections) -> Carry:
    """GRU, reset gate before the recurrent product (Cho et al. 2014, arXiv 1406.1078, eq. 5-8).

    ``r = s(x_r + h_r)``, ``z = s(x_z + h_z)``, ``n = tanh(x_n + U_n (r * h))``,
    ``h' = (1 - z) * n + z * h``. The candidate waits for ``r``: two products a step.
    """
    (h,) = carry
    x_r, x_z, x_n = projections
    h_r, h_z = jnp.split(h @ params["recurrent_kernel"], 2, axis=-1)
    r = sigmoid(x_r + h_r)
    z = sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + (r * h) @ params["candidate_kernel"])
    return ((1 - z) * n + z * h,)


def lstm(params: Params, carry: Carry, projections: Projections) -> Carry:
    """LSTM with forget gate (Gers et al. 2000), as in cuDNN, PyTorch and linen.

    ``i, f, o = s(x + h)``, ``g = tanh(x_g + h_g)``, ``c' = f * c + i * g``, ``h' = o * tanh(c')``.
    """
    h, c = carry
    x_i, x_f, x_g, x_o = projections
    h_i, h_f, h_g, h_o = jnp.split(h @ params["recurrent_kernel"], 4, axis=-1)
    c = sigmoid(x_f + h_f) * c + sigmoid(x_i + h_i) * jnp.tanh(x_g + h_g)
    return sigmoid(x_o + h_o) * jnp.tanh(c), c


def lstm_peephole(params: Params, carry: Carry, projections: Projections) -> Carry:
    """LSTM with diagonal peepholes (Gers et al. 2002; Graves 2013, arXiv 1308.0850, eq. 7-11).

    As `lstm`, but the gates see the memory: ``i`` and ``f`` the old one, ``o`` the new one.
    """
    h, c = carry
    x_i, x_f, x_g, x_o = projections
    h_i, h_f, h_g, h_o = jnp.split(h @ params["recurrent_kernel"], 4, axis=-1)
    p_i, p_f, p_o = jnp.split(params["peephole"], 3)
    i = sigmoid(x_i + h_i + p_i * c)
    f = sigmoid(x_f + h_f + p_f * c)
    c = f * c + i * jnp.tanh(x_g + h_g)
    o = sigmoid(x_o + h_o + p_o * c)
    return o * jnp.tanh(c), c


def rnn(params: Params, carry: Carry, projections: Projections) -> Carry:
    """Elman's network (1990): ``h' = tanh(x_h + U h)``."""
    (h,) = carry
    (x_h,) = projections
    return (jnp.tanh(x_h + h @ params["recurrent_kernel"]),)


CELLS: Mapping[str, Cell] = {
    "gru": Cell(
        step=gru,
        gates=("r", "z", "n"),
        carry=("h",),
        kernels={"recurrent_kernel": ("r", "z", "n")},
        vectors={"recurrent_bias": ("n",)},
    ),
    "gru_reset_before": Cell(
        step=gru_reset_before,
        gates=("r", "z", "n"),
        carry=("h",),
        kernels={"recurrent_kernel": ("r", "z"), "candidate_kernel": ("n",)},
        vectors={},
    ),
    "lstm": Cell(
        step=lstm,
        gates=("i", "f", "g", "o"),
        carry=("h", "c"),
        kernels={"recurrent_kernel": ("i", "f", "g", "o")},
        vectors={},
    ),
    "lstm_peephole": Cell(
        step=lstm_peephole,
        gates=("i", "f", "g", "o"),
        carry=("h", "c"),
        kernels={"recurrent_kernel": ("i", "f", "g", "o")},
        vectors={"peephole": ("i", "f", "o")},
    ),
    "rnn": Cell(
        step=rnn,
        gates=("h",),
        carry=("h",),
        kernels={"recurrent_kernel": ("h",)},
        vectors={},
    ),
}
