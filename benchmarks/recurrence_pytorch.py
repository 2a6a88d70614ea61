"""The contestant in PyTorch: `nn.GRU` and `nn.LSTM`, eager and compiled, with the same weights."""

import time
from typing import Any

import numpy as np
import torch

from benchmarks.pytorch import DEVICE, LAYERS
from benchmarks.recurrence_case import Problem
from benchmarks.recurrence_jax import Contestant
from benchmarks.timing import cores
from gru_audio.rnn.weights import to_torch


def pytorch(problem: Problem, *, compiled: bool = False) -> Contestant:
    """PyTorch's layer, of cuDNN on a GPU.

    Args:
      problem: ragged lengths are packed, as PyTorch wants them.
      compiled: by `torch.compile`.

    Raises:
      Exception: whatever `torch.compile` raises where it does not work.
    """
    torch.set_num_threads(cores())
    case = problem.case
    torch.backends.cuda.matmul.allow_tf32 = case.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = case.precision == "tf32"
    dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float32
    layer = LAYERS[case.cell](
        case.features, case.hidden, batch_first=True, bidirectional=case.bidirectional
    )
    state = to_torch(case.cell, problem.params)
    layer.load_state_dict({name: torch.tensor(np.asarray(v)) for name, v in state.items()})
    layer = layer.to(DEVICE, dtype)
    inputs = torch.tensor(problem.inputs, device=DEVICE, dtype=dtype, requires_grad=True)
    weight = torch.tensor(problem.weight, device=DEVICE, dtype=dtype)
    lengths = None if problem.lengths is None else torch.tensor(problem.lengths)
    called: Any = torch.compile(layer) if compiled else layer

    def outputs() -> torch.Tensor:
        if lengths is None:
            return called(inputs)[0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            inputs, lengths, batch_first=True, enforce_sorted=False
        )
        frames, _ = torch.nn.utils.rnn.pad_packed_sequence(
            called(packed)[0], batch_first=True, total_length=case.time
        )
        return frames

    def forward() -> torch.Tensor:
        with torch.no_grad():
            found = outputs()
        _wait()
        return found

    def both() -> tuple[torch.Tensor, ...]:
        found = outputs()
        gradients = torch.autograd.grad(found, [inputs, *layer.parameters()], weight)
        _wait()
        return found, *gradients

    def result():
        frames, d_inputs, *_ = both()
        return frames.detach().float().cpu().numpy(), None, d_inputs.float().cpu().numpy()

    began = time.perf_counter()
    both()
    seconds = time.perf_counter() - began
    return Contestant(forward, both, result, seconds if compiled else None)


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
