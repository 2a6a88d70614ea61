"""What the benchmark of the recurrence measures: sizes, and the true numbers to hold results to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.rnn import CELLS, Encoder

# How products of float32 arrays are worked out; a CPU has the first alone.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}


@dataclass(frozen=True)
class Case:
    """One recurrent layer and its input.

    Attributes:
      cell: a key of `gru_audio.rnn.CELLS`.
      batch, time, features, hidden: of the input (batch, time, features) and of the layer.
      precision: a key of `PRECISIONS`; "bfloat16" is the type of the inputs and weights too.
      ragged: lengths between half of the time and all of it, instead of all.
      bidirectional: two layers, one in each direction.
    """

    cell: str
    batch: int
    time: int
    features: int
    hidden: int
    precision: str = "float32"
    ragged: bool = False
    bidirectional: bool = False

    @property
    def size(self) -> str:
        """As tables name it."""
        words = [f"{self.batch} x {self.time} x {self.features}, {self.hidden} units"]
        words += ["ragged"] * self.ragged + ["both directions"] * self.bidirectional
        return ", ".join(words)

    @property
    def dtype(self) -> Any:
        return jnp.bfloat16 if self.precision == "bfloat16" else jnp.float32

    @property
    def directions(self) -> int:
        return 1 + self.bidirectional

    @property
    def matmul_flops(self) -> int:
        """Of forward and backward: a product forward is two backward."""
        cell = CELLS[self.cell]
        blocks = (
            len(cell.gates) * self.features + sum(map(len, cell.kernels.values())) * self.hidden
        )
        return 3 * 2 * self.batch * self.time * blocks * self.hidden * self.directions

    def encoder(self, implementation: str) -> Encoder:
        """The layer by one of our implementations."""
        dtype = self.dtype
        return Encoder(
            self.hidden,
            self.cell,
            bidirectional=self.bidirectional,
            implementation=implementation,
            dtype=dtype,
        )


@dataclass(frozen=True)
class Problem:
    """A case with numbers: float32, the same for all contestants.

    Attributes:
      case: the case.
      params: of an `Encoder`.
      inputs: (batch, time, features).
      lengths: int32 (batch,), or None where all frames are valid.
      weight: (batch, time, units), the gradient that comes to the outputs; zero in the padding.
    """

    case: Case
    params: Mapping[str, Any]
    inputs: np.ndarray
    lengths: np.ndarray | None
    weight: np.ndarray

    def truth(self) -> tuple[np.ndarray, Any, np.ndarray]:
        """Outputs, and gradients by parameters and inputs, by linen's scan in float64."""
        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            wide = jax.tree.map(lambda a: np.asarray(a, np.float64), self.params)
            inputs, weight = np.float64(self.inputs), np.float64(self.weight)
            encoder: Any = self.case.encoder("scan").clone(dtype=None)

            def loss(params, inputs):
                frames = encoder.apply({"params": params}, inputs, self.lengths).frames
                return (frames * weight).sum(), frames

            gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
            (d_params, d_inputs), frames = jax.device_get(gradient(wide, inputs))
        return frames, d_params, d_inputs


def make_problem(case: Case) -> Problem:
    """Draws the numbers of a case: uniform weights within 1/sqrt(hidden), normal inputs."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(case.batch, case.time, case.features)).astype(np.float32)
    lengths = None
    if case.ragged:
        lengths = rng.integers(case.time // 2, case.time + 1, case.batch).astype(np.int32)
    encoder = case.encoder("scan").clone(
        dtype=None, kernel_init="uniform", recurrent_init="uniform", bias_init="uniform"
    )
    params = jax.jit(encoder.init)(jax.random.key(0), inputs)["params"]
    weight = rng.normal(size=(case.batch, case.time, case.directions * case.hidden))
    if lengths is not None:
        weight *= (np.arange(case.time) < lengths[:, None])[..., None]
    return Problem(case, jax.device_get(params), inputs, lengths, weight.astype(np.float32))


def error(found: Any, truth: Any) -> float:
    """The greatest difference in a tree, relative to its array's greatest value; NaN if any is."""
    differences = jax.tree.map(
        lambda a, b: float(np.max(np.abs(np.float64(a) - b)) / np.max(np.abs(b))), found, truth
    )
    return float(np.max(jax.tree.leaves(differences)))  # `max` would pass a NaN over
