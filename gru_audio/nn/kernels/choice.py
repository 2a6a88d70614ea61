"""What "auto" chooses from: problems, choices, and the candidates for a problem.

A `Problem` is a recurrence of a program by its shapes. `choosing` makes "auto" ask a function for
the choice of each problem. Without it, "auto" follows the rule of `gru_audio.nn.recurrence`.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from gru_audio.nn.cells import CELLS
from gru_audio.nn.equations import Carry, Cell, Projections
from gru_audio.nn.kernels import cudnn, gpu, tpu
from gru_audio.nn.kernels.gradient import differentiable
from gru_audio.nn.kernels.linear import associative
from gru_audio.nn.kernels.loop import Loop

# Has the positional arguments of `recurrence`, up to `reverse`, and its results.
Run = Callable[..., tuple[jax.Array, Carry]]

# Operations that XLA may put into CUDA graphs. By default while loops are not among them.
_COMMAND_BUFFERS = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,CONDITIONAL,WHILE"
}


@dataclass(frozen=True)
class Problem:
    """A recurrence of a program, as one member on one device sees it.

    The number of frames is not part of it: the padded lengths of a program share one choice.

    Attributes:
      cell: a key of `gru_audio.nn.cells.CELLS`.
      batch: examples.
      hidden: units.
      dtype: type of the projections.
      ragged: whether the examples have lengths of their own.
      reverse: whether it runs from the last valid frame to the first.
    """

    cell: str
    batch: int
    hidden: int
    dtype: str
    ragged: bool
    reverse: bool

    def __str__(self) -> str:
        words = [f"{self.cell} of {self.hidden} units", f"batch {self.batch}", self.dtype]
        return ", ".join(words + ["reverse"] * self.reverse)


@dataclass(frozen=True)
class Choice:
    """An implementation with its settings, of JSON types.

    Attributes:
      implementation: a key of `RUNS`.
      settings: arguments of that entry.
      compiler_options: of XLA, for the whole program.
    """

    implementation: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    compiler_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def run(self) -> Run:
        """The implementation, for `recurrence`."""
        return RUNS[self.implementation](**self.settings)

    def __str__(self) -> str:
        words = [f"{name}={value}" for name, value in self.settings.items()]
        return ", ".join([self.implementation, *words, *self.compiler_options])

    def to_json(self) -> dict[str, Any]:
        """Returns the arguments of a new `Choice`."""
        return asdict(self)


RUNS: dict[str, Callable[..., Run]] = {
    "loop": lambda: functools.partial(differentiable, Loop()),
    "associative": lambda: associative,
    "cudnn": lambda: cudnn.lstm,
    "pallas_gpu": lambda **settings: functools.partial(differentiable, gpu.PallasGpu(**settings)),
    "pallas_tpu": lambda **settings: functools.partial(differentiable, tpu.PallasTpu(**settings)),
}
LOOP = Choice("loop")


def candidates(problem: Problem, members: int, platform: str) -> list[Choice]:
    """Returns the choices that may be the fastest on a platform; the loop comes first.

    Args:
      problem: the problem.
      members: number of members in one `vmap`.
      platform: "gpu" or "tpu".
    """
    cell, hidden, dtype = CELLS[problem.cell], problem.hidden, jnp.dtype(problem.dtype)
    found = [LOOP]
    if cell.linear:
        found.append(Choice("associative"))
    if platform == "gpu":
        found.append(Choice("loop", compiler_options=_COMMAND_BUFFERS))
        if members == 1 and cudnn.serves(cell, dtype):
            found.append(Choice("cudnn"))
        if gpu.fits(cell, hidden, dtype):
            found += _gpu_kernels(cell, problem)
    if platform == "tpu" and tpu.fits(cell, hidden, dtype):
        settings: list[dict[str, int]] = [{}, {"frames": 8}, {"frames": 64}]
        settings += [{"rows": rows} for rows in (16, 32, 64) if rows < problem.batch]
        found += [Choice("pallas_tpu", each) for each in settings]
    return found


def _gpu_kernels(cell: Cell, problem: Problem) -> Iterator[Choice]:
    """Yields settings around the default, which was the fastest for one run on an H200."""
    hidden, dtype = problem.hidden, jnp.dtype(problem.dtype)
    for rows, warps in itertools.product((8, 16, 32), (4, 8)):
        if rows > max(8, problem.batch):
            continue
        resident = gpu.stay(cell, hidden, dtype, rows)
        if resident:
            yield _kernel(rows, warps, 3, True)
        # With several members, a program that needs less shared memory may win.
        stages = (2, 3) if rows < 32 and not resident else (3,) if rows == 8 else ()
        for each in stages:
            yield _kernel(rows, warps, each, False)


def _kernel(rows: int, warps: int, stages: int, resident: bool) -> Choice:
    settings = {"rows": rows, "warps": warps, "stages": stages, "resident": resident}
    return Choice("pallas_gpu", settings)


# Maps a problem and its number of frames to a choice; None: as the rule decides.
Chooser = Callable[[Problem, int], Choice | None]
_chooser: ContextVar[Chooser | None] = ContextVar("chooser", default=None)


@contextlib.contextmanager
def choosing(chooser: Chooser) -> Iterator[None]:
    """Makes "auto" ask `chooser`. JAX must not have traced the code before."""
    token = _chooser.set(chooser)
    try:
        yield
    finally:
        _chooser.reset(token)


def chosen(
    cell: Cell, projections: Projections, lengths: jax.Array | None, reverse: bool
) -> Choice | None:
    """Returns the choice for a recurrence with arguments as in `recurrence`, or None."""
    chooser = _chooser.get()
    name = next((name for name, entry in CELLS.items() if entry is cell), None)
    if chooser is None or name is None:
        return None
    time, batch, hidden = projections[0].shape
    dtype = projections[0].dtype.name
    return chooser(Problem(name, batch, hidden, dtype, lengths is not None, reverse), time)
