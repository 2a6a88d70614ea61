"""The initialisers that a config may name."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax.linen import initializers
from flax.typing import Initializer

from gru_audio.settings import choose


def _uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Uniform within 1/sqrt(hidden), as PyTorch's recurrent layers."""
    bound = 1 / math.sqrt(shape[-1])
    return jax.random.uniform(key, shape, dtype, -bound, bound)


INITIALISERS: Mapping[str, Initializer] = {
    "glorot_normal": initializers.glorot_normal(),
    "glorot_uniform": initializers.glorot_uniform(),
    "he_normal": initializers.he_normal(),
    "he_uniform": initializers.he_uniform(),
    "lecun_normal": initializers.lecun_normal(),
    "lecun_uniform": initializers.lecun_uniform(),
    "normal_0.01": initializers.normal(0.01),
    "normal_0.1": initializers.normal(0.1),
    "orthogonal": initializers.orthogonal(),
    "uniform": _uniform,
    # Within 1/sqrt(fan in), as PyTorch's linear and convolutional layers.
    "uniform_fan_in": initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "zeros": initializers.zeros_init(),
}


def uniform_bias(fan_in: int) -> Initializer:
    """Uniform within 1/sqrt(fan in), as the biases of PyTorch's linear and convolutional layers.

    Args:
      fan_in: how many values an output of the layer reads.
    """
    bound = 1 / math.sqrt(fan_in)

    def initialise(
        key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
    ) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


def per_gate(name: str, gates: int) -> Initializer:
    """Draws each gate's block of the last axis on its own, as if it were a matrix by itself.

    So fans and orthogonality are those of one gate, as in linen, not of the fused matrix.
    """
    block = choose("initialiser", name, INITIALISERS)

    def initialise(
        key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
    ) -> jax.Array:
        keys = jax.random.split(key, gates)
        one = (*shape[:-1], shape[-1] // gates)
        return jnp.concatenate([block(k, one, dtype) for k in keys], axis=-1)

    return initialise


def gate_bias(name: str, gates: tuple[str, ...], forget_bias: float) -> Initializer:
    """As `per_gate`, plus ``forget_bias`` on the gate named "f" where there is one."""
    draw = per_gate(name, len(gates))

    def initialise(
        key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
    ) -> jax.Array:
        shift = jnp.array([forget_bias * (gate == "f") for gate in gates], dtype)
        return draw(key, shape, dtype) + jnp.repeat(shift, shape[-1] // len(gates))

    return initialise
