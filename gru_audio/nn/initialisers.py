"""The weight initialisers that a config can select."""

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
    """Uniform in [-b, b] with b = 1/sqrt(hidden), as in PyTorch's recurrent layers."""
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
    # In [-b, b] with b = 1/sqrt(fan in), as in PyTorch's linear and convolutional layers.
    "uniform_fan_in": initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "zeros": initializers.zeros_init(),
}


def uniform_bias(fan_in: int) -> Initializer:
    """Uniform in [-b, b] with b = 1/sqrt(fan in), as biases of PyTorch's linear and conv layers.

    Args:
      fan_in: number of inputs of each output of the layer.
    """
    bound = 1 / math.sqrt(fan_in)

    def initialise(
        key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
    ) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


def per_gate(name: str, gates: int) -> Initializer:
    """Initialises each gate's block of the last axis separately.

    So fan-in, fan-out and orthogonality are those of one gate, as in linen, not those of the fused
    matrix.

    Args:
      name: a key of `INITIALISERS`.
      gates: number of blocks.

    Raises:
      UserError: the name is unknown.
    """
    block = choose("initialiser", name, INITIALISERS)

    def initialise(
        key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
    ) -> jax.Array:
        keys = jax.random.split(key, gates)
        block_shape = (*shape[:-1], shape[-1] // gates)
        return jnp.concatenate([block(k, block_shape, dtype) for k in keys], axis=-1)

    return initialise


def gate_bias(name: str, gates: tuple[str, ...], forget_bias: float) -> Initializer:
    """Initialises as `per_gate`, and adds ``forget_bias`` to a gate named "f"."""
    base = per_gate(name, len(gates))

    def initialise(
        key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
    ) -> jax.Array:
        shift = jnp.array([forget_bias * (gate == "f") for gate in gates], dtype)
        return base(key, shape, dtype) + jnp.repeat(shift, shape[-1] // len(gates))

    return initialise
