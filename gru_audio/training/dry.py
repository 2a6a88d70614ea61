"""Placements that compile and run nothing, to learn about programs for devices elsewhere."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from gru_audio.audio.normalise import Normalisation
from gru_audio.training.compiled import Compiled
from gru_audio.training.cost import cost_of
from gru_audio.training.loader import Loader
from gru_audio.training.logging import Elapsed
from gru_audio.training.placement import Kind, Placement
from gru_audio.training.step import TrainState

Tree = Any  # a pytree of arrays


@dataclass
class DryPlacement(Placement):
    """Like `Placement`, but arrays on devices are shapes.

    Attributes:
      calls: the compiled calls by key. They cannot be called.
    """

    calls: dict[Hashable, Compiled] = field(default_factory=dict, init=False)

    def put(self, tree: Tree, kind: Kind) -> Tree:
        sharding = self.sharding(kind)

        def shape(a):
            dtype = a.dtype if hasattr(a, "dtype") else np.result_type(a)
            return jax.ShapeDtypeStruct(
                np.shape(a), jax.dtypes.canonicalize_dtype(dtype), sharding=sharding
            )

        return jax.tree.map(shape, tree)

    def put_local(self, tree: Tree, rows: int) -> Tree:
        return self.put(tree, Kind.ROWS)

    def local(self, rows: int) -> tuple[slice, slice]:
        """Returns all members and rows, as if one process held them."""
        return slice(0, self.padded_members), slice(0, rows)

    def fetch(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda a: np.zeros((self.members, *a.shape[1:]), a.dtype), tree)

    def run(
        self,
        key: Hashable,
        function: Callable[..., Tree],
        arguments: tuple[Tree, ...],
        kinds: tuple[Kind, ...],
        result: Kind,
        donate: tuple[int, ...] = (),
        tuned: bool = False,
    ) -> Tree:
        call = self.calls[key] = self.compile(function, arguments, kinds, result, donate)
        jitted = self._jit(function, kinds, result, donate, call.vmap_members)
        return self.put(jax.eval_shape(jitted, *arguments), result)


@dataclass
class LoweredPlacement(DryPlacement):
    """Lowers programs for GPUs of `AbsentGpu`, without compiling them.

    All members of a device are in one `vmap`, since it is not known how many fit. `mode` is always
    "pjit", since pmap takes only devices that exist.
    """

    def __post_init__(self) -> None:
        self.mode = "pjit"
        self.deterministic = False  # an option of the compiler
        super().__post_init__()

    def compile(
        self,
        function: Callable[..., Tree],
        arguments: tuple[Tree, ...],
        kinds: tuple[Kind, ...],
        result: Kind,
        donate: tuple[int, ...] = (),
        tuned: bool = False,
    ) -> Compiled:
        began, members = Elapsed.now(), self.vmap_members or self.members_of_device
        traced = self._jit(function, kinds, result, donate, members).trace(*arguments)
        lowered = traced.lower(lowering_platforms=("cuda",))
        return Compiled(lowered, None, members, cost_of(traced.jaxpr), Elapsed.now() - began)


def abstract_state(loader: Loader, hyper: dict[str, np.ndarray]) -> TrainState:
    """Returns the shapes of `loader.initial_state(hyper)`."""
    placement, features = loader.placement, loader.program.frontend.features
    like: Any = np.zeros((placement.members, features), np.float32)
    of_members = (loader.data.seeds, hyper, Normalisation(like, like), loader.class_weights())
    arguments = placement.put(jax.tree.map(placement.pad, of_members), Kind.MEMBER)
    state = jax.eval_shape(jax.vmap(loader.program.init), *arguments)
    return placement.put(state, Kind.MEMBER)
