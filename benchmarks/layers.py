"""One recurrent layer in all JAX implementations, with the same weights and inputs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.harness import Contestant, turn
from gru_audio.nn.cells import CELLS
from gru_audio.nn.layer import Encoder
from gru_audio.nn.weights import to_linen, to_torch

# JAX's precision of products of float32 arrays. A CPU has only the first one.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}
LINEN = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


@dataclass(frozen=True)
class Case:
    """One recurrent layer and its input.

    Attributes:
      cell: a key of `gru_audio.nn.cells.CELLS`.
      batch, time, features, hidden: sizes of the input (batch, time, features) and the layer.
      precision: a key of `PRECISIONS`. With "bfloat16", inputs and weights have this type, too.
      ragged: whether lengths vary between half of `time` and `time`.
      bidirectional: whether there are two layers, one in each direction.
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
        """The description in tables."""
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
        """Operations of forward and backward pass. Each product needs two in the backward pass."""
        cell = CELLS[self.cell]
        blocks = (
            len(cell.gates) * self.features + sum(map(len, cell.kernels.values())) * self.hidden
        )
        return 3 * 2 * self.batch * self.time * blocks * self.hidden * self.directions

    def encoder(self, implementation: str, **changes: Any) -> Encoder:
        """Makes the layer with one of our implementations."""
        settings = {"bidirectional": self.bidirectional, "dtype": self.dtype} | changes
        return Encoder(self.hidden, self.cell, implementation=implementation, **settings)


@dataclass(frozen=True)
class LayerData:
    """Weights and inputs of a case, float32, the same for all contestants.

    Attributes:
      case: the case.
      params: parameters of an `Encoder`.
      inputs: (batch, time, features).
      lengths: int32 (batch,); None: all frames are valid.
      weight: gradient of the outputs (batch, time, units), zero in the padding.
    """

    case: Case
    params: Mapping[str, Any]
    inputs: np.ndarray
    lengths: np.ndarray | None
    weight: np.ndarray

    def truth(self) -> tuple[np.ndarray, Any, np.ndarray]:
        """Returns outputs and gradients of parameters and inputs, from our scan in float64."""
        with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
            wide = jax.tree.map(lambda a: np.asarray(a, np.float64), self.params)
            encoder: Any = self.case.encoder("scan", dtype=None)

            def run(params, inputs):
                return encoder.apply({"params": params}, inputs, self.lengths).frames

            both = jax.jit(with_gradients(run, np.float64(self.weight)))
            return jax.device_get(both(wide, np.float64(self.inputs)))


def make_data(case: Case) -> LayerData:
    """Draws uniform weights within 1/sqrt(hidden), and normal inputs."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(case.batch, case.time, case.features)).astype(np.float32)
    lengths = None
    if case.ragged:
        lengths = rng.integers(case.time // 2, case.time + 1, case.batch).astype(np.int32)
    uniform = dict.fromkeys(("kernel_init", "recurrent_init", "bias_init"), "uniform")
    encoder = case.encoder("scan", dtype=None, **uniform)
    params = jax.jit(encoder.init)(jax.random.key(0), inputs)["params"]
    weight = rng.normal(size=(case.batch, case.time, case.directions * case.hidden))
    if lengths is not None:
        weight *= (np.arange(case.time) < lengths[:, None])[..., None]
    return LayerData(case, jax.device_get(params), inputs, lengths, weight.astype(np.float32))


def with_gradients(run: Callable, weight: Any) -> Callable:
    """Returns a function from (params, inputs) to the outputs of `run` and both gradients."""

    def both(params, inputs):
        def loss(params, inputs):
            frames = run(params, inputs)
            return (frames * weight).sum(), frames

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
        (d_params, d_inputs), frames = gradient(params, inputs)
        return frames, d_params, d_inputs

    return both


def error(found: Any, truth: Any) -> float:
    """Returns the largest difference in a tree, relative to the largest value of its array."""
    differences = jax.tree.map(
        lambda a, b: float(np.max(np.abs(np.float64(a) - b)) / np.max(np.abs(b))), found, truth
    )
    return float(np.max(jax.tree.leaves(differences)))  # Python's `max` would ignore NaN


@dataclass(frozen=True)
class Layer:
    """A compiled layer.

    Attributes:
      forward: computes the outputs.
      both: computes the outputs and the gradients of inputs and weights.
      result: returns host arrays: outputs, gradients of our parameters (None if the layer has other
        parameters), gradient of the inputs.
      compile_seconds: compilation time of both; None: nothing is compiled.
      temporary_bytes: temporary memory of `both`, according to the compiler.
    """

    forward: Callable[[], Any]
    both: Callable[[], Any]
    result: Callable[[], tuple[Any, Any, Any]]
    compile_seconds: float | None = None
    temporary_bytes: int | None = None

    def error(self, truth: tuple[Any, Any, Any]) -> float:
        """Returns the largest relative difference from the truth, over outputs and gradients."""
        pairs = zip(self.result(), truth, strict=True)
        return float(np.max([error(found, true) for found, true in pairs if found is not None]))

    def contestant(self, **about: Any) -> Contestant:
        """Returns the contestant. The speed of forward and backward pass together is compared."""
        memory = {"temporary_bytes": self.temporary_bytes, "compile_seconds": self.compile_seconds}
        turns = {"forward": turn(self.forward), "both": turn(self.both)}
        return Contestant(turns, about=about | memory)


def ours(data: LayerData, implementation: str) -> Layer:
    """Compiles one of our implementations on one device."""
    apply: Any = data.case.encoder(implementation).apply
    return _compiled(
        data,
        lambda params, inputs: apply({"params": params}, inputs, data.lengths).frames,
        data.params,
        to_our_params=lambda gradient: gradient,
    )


def shared(data: LayerData, implementation: str) -> Layer:
    """Compiles one of our implementations, with the batch divided over all devices."""
    mesh = jax.make_mesh((len(jax.devices()),), ("data",), axis_types=(AxisType.Auto,))
    whole, rows = PartitionSpec(), PartitionSpec("data")
    apply: Any = data.case.encoder(implementation).apply
    lengths = () if data.lengths is None else (data.lengths,)

    def of_device(params, inputs, *lengths):
        return apply({"params": params}, inputs, *lengths).frames

    sharded = jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(whole, rows, *(rows for _ in lengths)),
        out_specs=rows,
        check_vma=False,
    )
    return _compiled(
        data,
        lambda params, inputs: sharded(params, inputs, *lengths),
        data.params,
        to_our_params=lambda gradient: gradient,
        shardings=(NamedSharding(mesh, whole), NamedSharding(mesh, rows)),
    )


def linen(data: LayerData) -> Layer:
    """Compiles linen's layer, with its outputs in the padding set to zero."""
    case = data.case

    def layer() -> nn.RNN:
        return nn.RNN(LINEN[case.cell](case.hidden, dtype=case.dtype, param_dtype=jnp.float32))

    params: Any = {name: to_linen(case.cell, layer) for name, layer in data.params.items()}
    if case.bidirectional:
        module: nn.Module = nn.Bidirectional(layer(), layer())
        params = {f"{d}_rnn": {"cell": params[f"{d}_0"]} for d in ("forward", "backward")}
    else:
        module, params = layer(), {"cell": params["forward_0"]}

    def run(params, inputs):
        frames: Any = module.apply({"params": params}, inputs, seq_lengths=data.lengths)
        if data.lengths is None:
            return frames
        return jnp.where((jnp.arange(case.time) < data.lengths[:, None])[..., None], frames, 0)

    return _compiled(data, run, params)


def cudnn(data: LayerData) -> Layer:
    """Compiles `jax.experimental.rnn`, which is an LSTM in float32 on GPUs."""
    from jax.experimental import rnn

    case = data.case
    sizes = (case.features, case.hidden, 1, 0.0, case.bidirectional)
    lengths = data.lengths
    if lengths is None:
        lengths = np.full(case.batch, case.time, np.int32)
    start = jnp.zeros((case.directions, case.batch, case.hidden))

    def run(weights, inputs):
        return rnn.lstm(inputs, start, start, weights, lengths, *sizes)[0]

    return _compiled(data, run, cudnn_weights(data.params))


def cudnn_weights(params: Mapping[str, Any]) -> np.ndarray:
    """Returns an LSTM's weights in cuDNN's order: flat PyTorch weights, then all biases."""
    state = to_torch("lstm", params)
    directions = ("l0", "l0_reverse") if len(params) > 1 else ("l0",)
    return np.concatenate(
        [
            state[f"{kind}_{source}_{direction}"].ravel()
            for kind in ("weight", "bias")
            for direction in directions
            for source in ("ih", "hh")
        ]
    )


def _compiled(
    data: LayerData,
    run: Callable,
    params: Any,
    to_our_params: Callable = lambda gradient: None,
    shardings: tuple[Any, Any] = (None, None),
) -> Layer:
    """Compiles `run`, from (params, inputs) to outputs, and its gradients.

    Args:
      data: the inputs and the gradient of the outputs.
      run: the layer.
      params: its parameters.
      to_our_params: converts the gradient of `params` to a gradient of `data.params`, or to None.
      shardings: shardings of params and inputs; None: the default device.
    """
    dtype = data.case.dtype
    params = jax.tree.map(lambda a: jax.device_put(a, shardings[0]), params)
    inputs, weight = (
        jax.device_put(jnp.asarray(array, dtype), shardings[1])
        for array in (data.inputs, data.weight)
    )
    with jax.default_matmul_precision(PRECISIONS[data.case.precision]):
        began = time.perf_counter()
        forward = jax.jit(run).lower(params, inputs).compile()
        both = jax.jit(with_gradients(run, weight)).lower(params, inputs).compile()
        seconds = time.perf_counter() - began
    memory = both.memory_analysis()

    def result():
        frames, d_params, d_inputs = jax.device_get(both(params, inputs))
        return frames, to_our_params(d_params), d_inputs

    return Layer(
        lambda: jax.block_until_ready(forward(params, inputs)),
        lambda: jax.block_until_ready(both(params, inputs)),
        result,
        seconds,
        memory.temp_size_in_bytes if memory else None,
    )
