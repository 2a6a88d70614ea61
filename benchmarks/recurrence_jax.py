"""The contestants in JAX: our implementations, linen's layers, and JAX's own binding of cuDNN."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.recurrence_case import PRECISIONS, Problem
from gru_audio.config import default_config, override
from gru_audio.rnn.weights import to_linen, to_torch
from gru_audio.training.parallel import DATA, Kind, make_layout

LINEN = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


@dataclass(frozen=True)
class Contestant:
    """A layer that is ready to run.

    Attributes:
      forward: computes the outputs.
      both: computes them and all gradients: by the inputs and by every weight.
      result: runs once: outputs, gradients of our parameters (None where they are held
        otherwise), gradient of the inputs; arrays of the host.
      compile_seconds: of both; None where nothing is compiled.
      temporary_bytes: of `both`, by the compiler's count.
    """

    forward: Callable[[], Any]
    both: Callable[[], Any]
    result: Callable[[], tuple[Any, Any, Any]]
    compile_seconds: float | None = None
    temporary_bytes: int | None = None


def ours(problem: Problem, implementation: str) -> Contestant:
    """The layer by one of our implementations, on one device."""
    apply: Any = problem.case.encoder(implementation).apply
    return _compiled(
        problem,
        lambda params, inputs: apply({"params": params}, inputs, problem.lengths).frames,
        problem.params,
        lambda gradient: gradient,
    )


def linen(problem: Problem) -> Contestant:
    """Linen's own layer; its outputs go on in the padding, where no gradient comes to them."""
    case = problem.case

    def layer() -> nn.RNN:
        return nn.RNN(LINEN[case.cell](case.hidden, dtype=case.dtype, param_dtype=jnp.float32))

    params: Any = {name: to_linen(case.cell, layer) for name, layer in problem.params.items()}
    if case.bidirectional:
        module: nn.Module = nn.Bidirectional(layer(), layer())
        params = {
            f"{direction}_rnn": {"cell": params[f"{direction}_0"]}
            for direction in ("forward", "backward")
        }
    else:
        module, params = layer(), {"cell": params["forward_0"]}

    def run(params, inputs):
        frames: Any = module.apply({"params": params}, inputs, seq_lengths=problem.lengths)
        if problem.lengths is None:
            return frames
        return jnp.where((jnp.arange(case.time) < problem.lengths[:, None])[..., None], frames, 0)

    return _compiled(problem, run, params, lambda gradient: None)


def shared(problem: Problem, implementation: str) -> Contestant:
    """Ours, with the batch shared by all devices and the weights' gradients added up."""
    devices = len(jax.devices())
    config = override(default_config(), {"parallel.data": devices, "parallel.member": 1})
    layout = make_layout(config.parallel, 1)
    apply: Any = problem.case.encoder(implementation).apply

    def forward(params, inputs, weight, lengths):
        return apply({"params": params}, inputs, lengths).frames

    def both(params, inputs, weight, lengths):
        def loss(params, inputs):
            frames = forward(params, inputs, weight, lengths)
            return (frames * weight).sum(), frames

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
        (d_params, d_inputs), frames = gradient(params, inputs)
        d_params = jax.tree.map(lambda a: a[None], jax.lax.psum(d_params, DATA))
        return frames, d_params, d_inputs

    lengths = problem.lengths
    if lengths is None:
        lengths = np.zeros((problem.case.batch, 0), np.int32)  # the same for every kind of rows
    values = (problem.params, *_cast(problem), lengths)
    kinds = (Kind.MEMBER, Kind.ROWS, Kind.ROWS, Kind.ROWS)
    arguments = tuple(
        layout.put(jax.tree.map(lambda a: np.asarray(a)[None], value), kind)
        for value, kind in zip(values, kinds, strict=True)
    )

    def with_lengths(function):
        def called(params, inputs, weight, lengths):
            return function(params, inputs, weight, None if lengths.ndim == 2 else lengths)

        return called

    began = time.perf_counter()
    with jax.default_matmul_precision(PRECISIONS[problem.case.precision]):
        run, run_both = (
            layout.compile(with_lengths(function), arguments, kinds, Kind.ROWS)
            for function in (forward, both)
        )

    def result():
        frames, d_params, d_inputs = jax.device_get(run_both(*arguments))
        return frames[0], jax.tree.map(lambda a: a[0, 0], d_params), d_inputs[0]

    return Contestant(
        lambda: jax.block_until_ready(run(*arguments)),
        lambda: jax.block_until_ready(run_both(*arguments)),
        result,
        time.perf_counter() - began,
    )


def cudnn(problem: Problem) -> Contestant:
    """`jax.experimental.rnn`: LSTM in float32 on a GPU alone."""
    from jax.experimental import rnn

    case = problem.case
    sizes = (case.features, case.hidden, 1, 0.0, case.bidirectional)
    weights = cudnn_weights(problem.params)
    lengths = problem.lengths
    if lengths is None:
        lengths = np.full(case.batch, case.time, np.int32)
    start = jnp.zeros((case.directions, case.batch, case.hidden))

    def run(weights, inputs):
        return rnn.lstm(inputs, start, start, weights, lengths, *sizes)[0]

    return _compiled(problem, run, weights, lambda gradient: None)


def cudnn_weights(params: Mapping[str, Any]) -> np.ndarray:
    """An LSTM's weights as cuDNN has them: PyTorch's, flat, the biases of all directions last."""
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


def _compiled(problem: Problem, run, params, of_params) -> Contestant:
    inputs, weight = _cast(problem)
    params = jax.tree.map(jnp.asarray, params)

    def both(params, inputs):
        def loss(params, inputs):
            frames = run(params, inputs)
            return (frames * weight).sum(), frames

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
        (d_params, d_inputs), frames = gradient(params, inputs)
        return frames, d_params, d_inputs

    with jax.default_matmul_precision(PRECISIONS[problem.case.precision]):
        began = time.perf_counter()
        forward = jax.jit(run).lower(params, inputs).compile()
        compiled = jax.jit(both).lower(params, inputs).compile()
        seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()

    def result():
        frames, d_params, d_inputs = jax.device_get(compiled(params, inputs))
        return frames, of_params(d_params), d_inputs

    return Contestant(
        lambda: jax.block_until_ready(forward(params, inputs)),
        lambda: jax.block_until_ready(compiled(params, inputs)),
        result,
        seconds,
        memory.temp_size_in_bytes if memory else None,
    )


def _cast(problem: Problem) -> tuple[jax.Array, jax.Array]:
    dtype = problem.case.dtype
    return jnp.asarray(problem.inputs, dtype), jnp.asarray(problem.weight, dtype)
