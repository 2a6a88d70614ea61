"""Where members and batches lie: the device mesh, and calls that span it.

Everything else is written for one member on one device. A `Placement` compiles such a function into
a call on many members and devices, in one of two modes:

  pjit  `jit(shard_map(f))` over a mesh with the axes `member` and `data`
  pmap  `pmap(f)` over the axis `data`; every device holds all members (one process only)

The mesh may span several processes. All of them then put the same arrays and make the same calls.
On a CPU the members of a device run one after another (`lax.map`): this is faster there, and
bit-equal to a run alone. On an accelerator they run in one `vmap`, as many as the memory holds.
"""

import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from gru_audio.settings import UserError
from gru_audio.training.distributed import device_memory
from gru_audio.training.logging import Elapsed
from gru_audio.training.step import DATA

MEMBERS = "member"  # the mesh axis over which members are divided
Tree = Any  # a pytree of arrays


class Kind(Enum):
    """How an argument or a result is sharded; the value names its leading axes."""

    SHARED = P()  # the same for all members and devices
    MEMBER = P(MEMBERS)  # one slice per member
    ROWS = P(MEMBERS, DATA)  # member, then rows of the batch


@dataclass(frozen=True)
class Compiled:
    """A compiled call.

    Attributes:
      call: takes and returns arrays as it was compiled for.
      memory_bytes: arguments, results and temporaries on a device, as the compiler counts; None if
        it does not.
      compile_time: spent on it, and on what was tried before.
    """

    call: Callable[..., Tree]
    memory_bytes: int | None
    compile_time: Elapsed = field(default_factory=Elapsed)

    def __call__(self, *arguments: Tree) -> Tree:
        return self.call(*arguments)


@dataclass
class Placement:
    """The members of a group on a mesh of devices, and the calls compiled for them.

    Attributes:
      mode: "pjit" or "pmap".
      mesh: of shape (member, data).
      members: real members. Padding fills the mesh and is never stepped.
      vmap_members: members that a device steps in one `vmap`; 0: as many as fit.
      device_bytes: memory of a device that programs may take; None: no limit.
      deterministic: whether a GPU must give the same bits each time.
      compile_time: spent on compilation so far.
      memory_bytes: the most that one call takes on a device.
    """

    mode: str
    mesh: Mesh
    members: int
    vmap_members: int = 1
    device_bytes: int | None = None
    deterministic: bool = False
    compile_time: Elapsed = field(default_factory=Elapsed, init=False)
    memory_bytes: int = field(default=0, init=False)
    _calls: dict[Hashable, Compiled] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        platform = self.mesh.devices.flat[0].platform
        self.compiler_options: dict[str, bool | str] = {}
        if self.deterministic and platform == "gpu":
            self.compiler_options = {
                "xla_gpu_deterministic_ops": True,
                "xla_gpu_autotune_level": "0",
            }
        members, everywhere = self.members, NamedSharding(self.mesh, P())
        self._real = jax.jit(
            lambda tree: jax.tree.map(lambda a: a[:members], tree), out_shardings=everywhere
        )

    @property
    def data_devices(self) -> int:
        return self.mesh.shape[DATA]

    @property
    def member_devices(self) -> int:
        """Devices over which the members are divided."""
        return self.mesh.shape[MEMBERS]

    @property
    def padded_members(self) -> int:
        return -(-self.members // self.member_devices) * self.member_devices

    @property
    def members_of_device(self) -> int:
        """Members on each device, with padding."""
        return self.padded_members // self.member_devices

    def pad(self, array: np.ndarray) -> np.ndarray:
        """Repeats the first member until the mesh is filled: (members, ...) -> (padded, ...)."""
        fill = np.repeat(array[:1], self.padded_members - self.members, axis=0)
        return np.concatenate([array, fill])

    def gather(self, tree: Tree) -> Tree:
        """Arrays as they are saved: without padding, whole on every device."""
        return self._real(tree)

    def fetch(self, tree: Tree) -> Tree:
        """Host arrays of the real members, in every process."""
        if jax.process_count() > 1:
            return jax.device_get(self.gather(tree))
        return jax.tree.map(lambda a: a[: self.members], jax.device_get(tree))

    def abstract(self, tree: Tree) -> Tree:
        """Shapes and shardings that `gather` would return for `tree`."""
        everywhere = NamedSharding(self.mesh, P())
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(
                (self.members, *a.shape[1:]), a.dtype, sharding=everywhere
            ),
            tree,
        )

    def scatter(self, tree: Tree) -> Tree:
        """The inverse of `gather`: pads the members and spreads them."""
        return self.put(jax.tree.map(lambda a: self.pad(np.asarray(a)), tree), Kind.MEMBER)

    def put(self, tree: Tree, kind: Kind) -> Tree:
        """Puts host arrays, the same in all processes, on the devices. Members must be padded."""
        sharding = self.sharding(kind)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)

        def spread(a):
            a = np.asarray(a)
            return jax.make_array_from_callback(a.shape, sharding, lambda part: a[part])

        with jax.transfer_guard("allow"):  # JAX takes this transfer for an implicit one
            return jax.tree.map(spread, tree)

    def check_streaming(self) -> None:
        """Checks that a process holds whole members, or a part of one member: see `local`.

        Raises:
          UserError: it holds neither.
        """
        own, data = jax.local_device_count(), self.data_devices
        if jax.process_count() > 1 and own % data and data % own:
            raise UserError(
                f"config.data.loader=streamed with {own} devices a process: config.parallel.data="
                f"{data} must divide that or be a multiple of it."
            )

    def local(self, rows: int) -> tuple[slice, slice]:
        """The padded members, and the rows of a batch, that lie in this process."""
        shape = (self.padded_members, rows)
        places = self.sharding(Kind.ROWS).addressable_devices_indices_map(shape).values()
        # A device holds one interval of each axis, and so does a process.
        ends = np.array(
            [
                [part.indices(size)[:2] for part, size in zip(place or (), shape, strict=True)]
                for place in places
            ]
        )
        first, last = ends[..., 0].min(axis=0), ends[..., 1].max(axis=0)
        return slice(first[0], last[0]), slice(first[1], last[1])

    def put_local(self, tree: Tree, rows: int) -> Tree:
        """Puts this process's part, as `local` names it, as `Kind.ROWS` of all processes."""
        sharding, head = self.sharding(Kind.ROWS), (self.padded_members, rows)

        def spread(a):
            return jax.make_array_from_process_local_data(sharding, a, head + a.shape[2:])

        with jax.transfer_guard("allow"):
            return jax.tree.map(spread, tree)

    def sharding(self, kind: Kind) -> NamedSharding:
        """The sharding of arrays of a kind. Under pmap every device holds all of them."""
        return NamedSharding(self.mesh, kind.value if self.mode == "pjit" else P())

    def run(
        self,
        key: Hashable,
        function: Callable[..., Tree],
        arguments: tuple[Tree, ...],
        kinds: tuple[Kind, ...],
        result: Kind,
        donate: tuple[int, ...] = (),
    ) -> Tree:
        """Calls a function on all members and devices; compiles it at the first call of a key.

        Args as for `compile`; functions of one key must be the same, and their arguments alike.
        """
        if key not in self._calls:
            call = self.compile(function, arguments, kinds, result, donate)
            self.compile_time += call.compile_time
            self.memory_bytes = max(self.memory_bytes, call.memory_bytes or 0)
            self._calls[key] = call
        return self._calls[key](*arguments)

    def compile(
        self,
        function: Callable[..., Tree],
        arguments: tuple[Tree, ...],
        kinds: tuple[Kind, ...],
        result: Kind,
        donate: tuple[int, ...] = (),
    ) -> Compiled:
        """Compiles a function, written for one member on one device, for all of them.

        Args:
          function: gets every argument without its member axis, and its own part of `ROWS`. It may
            reduce over the mesh axis `DATA`.
          arguments: arrays, or their shapes with shardings.
          kinds: one for each argument.
          result: kind of everything that is returned.
          donate: arguments whose memory the results may take.
        """

        def compiled(vmap_members: int) -> Compiled:
            jitted = self._jit(function, kinds, result, donate, vmap_members)
            call = jitted.lower(*arguments).compile(self.compiler_options)
            return Compiled(call, _memory_bytes(call))

        began = Elapsed.now()
        call = compiled(self.vmap_members) if self.vmap_members else self._fitting(compiled)
        return replace(call, compile_time=Elapsed.now() - began)

    def _fitting(self, compiled: Callable[[int], Compiled]) -> Compiled:
        """The call with as many members in one `vmap` as the memory holds."""
        if self.members_of_device == 1:
            return compiled(1)
        whole = _if_it_fits(compiled, self.members_of_device)
        if whole and self._free_bytes(whole) >= 0:
            return whole
        one, two = compiled(1), _if_it_fits(compiled, 2)
        if two is None:
            return one
        each = max(1, (two.memory_bytes or 0) - (one.memory_bytes or 0))
        fitting = 1 + self._free_bytes(one) // each
        # Only divisors: `lax.map` would compile a remainder by itself.
        divisors = [n for n in range(1, self.members_of_device) if self.members_of_device % n == 0]
        for members in sorted((n for n in divisors if 2 < n <= fitting), reverse=True):
            if best := _if_it_fits(compiled, members):
                return best
        return two if 2 in divisors and fitting >= 2 else one

    def _free_bytes(self, call: Compiled) -> int:
        """Bytes of a device's memory that a call leaves."""
        return (self.device_bytes or sys.maxsize) - (call.memory_bytes or 0)

    def _jit(self, function, kinds, result, donate, vmap_members):
        """The function on all members and devices, not yet traced."""

        def per_device(*arguments):
            mapped = [a for a, kind in zip(arguments, kinds, strict=True) if kind != Kind.SHARED]

            def one_member(slices):
                remaining = iter(slices)
                return function(
                    *(
                        a if kind == Kind.SHARED else next(remaining)
                        for a, kind in zip(arguments, kinds, strict=True)
                    )
                )

            if vmap_members == 1:
                return jax.lax.map(one_member, mapped)
            if vmap_members >= self.members_of_device:
                return jax.vmap(one_member)(mapped)
            return jax.lax.map(one_member, mapped, batch_size=vmap_members)

        if self.mode == "pmap":
            return self._pmap(per_device, kinds, result, donate)
        sharded = jax.shard_map(
            per_device,
            mesh=self.mesh,
            in_specs=tuple(kind.value for kind in kinds),
            out_specs=result.value,
            check_vma=False,
        )
        return jax.jit(sharded, donate_argnums=donate)

    def _pmap(self, per_device, kinds, result, donate):
        """`pmap` inside a `jit` that splits the rows over the devices and joins them again."""
        devices = self.data_devices
        mapped = jax.pmap(
            lambda _, *arguments: per_device(*arguments),
            axis_name=DATA,
            in_axes=(0, *(1 if kind == Kind.ROWS else None for kind in kinds)),
            out_axes=1 if result == Kind.ROWS else None,
            devices=list(self.mesh.devices.flat),
        )

        def cut(a):
            return a.reshape(a.shape[0], devices, -1, *a.shape[2:])

        def join(a):
            return a.reshape(a.shape[0], -1, *a.shape[3:])

        def call(*arguments):
            arguments = tuple(
                jax.tree.map(cut, a) if kind == Kind.ROWS else a
                for a, kind in zip(arguments, kinds, strict=True)
            )
            # pmap needs an argument to spread, and there may be no rows.
            results = mapped(np.arange(devices), *arguments)
            return jax.tree.map(join, results) if result == Kind.ROWS else results

        return jax.jit(call, donate_argnums=donate)


def make_placement(parallel: ConfigDict, members: int) -> Placement:
    """Chooses devices for a group: `parallel.data` of them share a batch, the rest its members.

    Raises:
      UserError: there are fewer devices than the config asks for, or the mode cannot do it.
    """
    devices, hosts = jax.devices(), jax.process_count()
    data = parallel.data
    if data > len(devices):
        raise UserError(f"config.parallel.data={data}, but there are {len(devices)} devices.")
    if parallel.mode == "pmap" and hosts > 1:
        raise UserError("config.parallel.mode=pmap serves one process: take pjit for several.")
    most = 1 if parallel.mode == "pmap" else len(devices) // data
    # Each process must hold a part, even if it is padding.
    member = parallel.member or (most if hosts > 1 else min(most, members))
    if member > most:
        if parallel.mode == "pmap":
            raise UserError("config.parallel.mode=pmap does not part members: leave member at 0.")
        raise UserError(
            f"config.parallel.member={member} x data={data} needs {member * data} devices, but "
            f"there are {len(devices)}."
        )
    mesh = make_mesh(devices, member, data)
    idle = set(range(hosts)) - {device.process_index for device in mesh.devices.flat}
    if idle:
        raise UserError(
            f"config.parallel.member={member} x data={data} leaves process {min(idle)} of "
            f"{hosts} without a device: all must take part."
        )
    vmap_members = parallel.vmap_members
    if vmap_members is None:
        vmap_members = int(devices[0].platform == "cpu")
    memory = device_memory()
    if parallel.memory_gb is not None:
        memory = int(parallel.memory_gb * 2**30)
    deterministic = parallel.deterministic
    return Placement(parallel.mode, mesh, members, vmap_members, memory, deterministic)


def make_mesh(devices: Sequence[jax.Device], member: int, data: int) -> Mesh:
    """The first devices, process by process, as a mesh of shape (member, data).

    `jax.make_mesh` would follow the torus of a TPU: it mixes the devices of several processes, but
    each process must hold one part of the members and rows; and it refuses three chips of eight.
    """
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    chosen = np.array(ordered[: member * data]).reshape(member, data)
    return Mesh(chosen, (MEMBERS, DATA), axis_types=(AxisType.Auto,) * 2)


def _if_it_fits(compiled: Callable[[int], Compiled], members: int) -> Compiled | None:
    """The call; None if the compiler itself runs out of memory, as on TPUs."""
    try:
        return compiled(members)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def _memory_bytes(compiled) -> int | None:
    try:
        sizes = compiled.memory_analysis()
    except Exception:  # a backend may not offer it
        return None
    if sizes is None:
        return None
    total = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return int(total - sizes.alias_size_in_bytes)
