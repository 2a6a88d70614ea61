"""Where members and batches lie: the device mesh, and the wrapping of per-member functions.

Everything else is written for one member on one device. A `Layout` makes of such a function a
compiled call on many members and devices, by one of two modes:

  pjit  `jit(shard_map(f))` over a mesh with the axes `member` and `data`
  pmap  `pmap(f)` over the axis `data`, every device holding all members (in one process)

The mesh may reach over several processes: all of them then put the same arrays and make the same
calls. Inside a device the members follow one another (`lax.map`) on a CPU, where that is faster and
bit-equal to a run alone. On an accelerator they run side by side (`vmap`), as many as its memory
holds.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from gru_audio.settings import UserError
from gru_audio.training.devices import device_memory
from gru_audio.training.elapsed import NONE, Elapsed
from gru_audio.training.step import DATA

MEMBERS = "member"  # the mesh axis over which members are shared
Tree = Any


class Kind(Enum):
    """How an argument or a result is spread: the value says what its leading axes are."""

    SHARED = P()  # the same for all members and devices
    MEMBER = P(MEMBERS)  # one slice a member
    ROWS = P(MEMBERS, DATA)  # member, then rows of the batch


@dataclass
class Compiled:
    """A compiled call, and what it took to make it.

    Attributes:
      call: the call.
      memory_bytes: arguments, results and temporaries on a device, by the compiler's count.
      compile_time: of what was tried and not taken, too.
    """

    call: Callable[..., Tree]
    memory_bytes: int | None
    compile_time: Elapsed = NONE

    def __call__(self, *arguments: Tree) -> Tree:
        return self.call(*arguments)


@dataclass
class Layout:
    """The members of a group on a mesh of devices.

    Attributes:
      mode: "pjit" or "pmap".
      mesh: of shape (member, data).
      members: real members; they are padded to fill the mesh, and the padding is never stepped.
      side_by_side: members that a device steps at a time; 0: as many as fit.
      memory_bytes: of a device, for programs; None: without limit.
      deterministic: whether a GPU must give the same bits each time.
    """

    mode: str
    mesh: Mesh
    members: int
    side_by_side: int = 1
    memory_bytes: int | None = None
    deterministic: bool = False

    def __post_init__(self):
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
        """Devices that share the members."""
        return self.mesh.shape[MEMBERS]

    @property
    def padded_members(self) -> int:
        return -(-self.members // self.member_devices) * self.member_devices

    @property
    def members_of_device(self) -> int:
        """Members that lie on each device, with padding."""
        return self.padded_members // self.member_devices

    def pad(self, array: np.ndarray) -> np.ndarray:
        """Repeats the first member until the mesh is filled: (members, ...) -> (padded, ...)."""
        fill = np.repeat(array[:1], self.padded_members - self.members, axis=0)
        return np.concatenate([array, fill])

    def gather(self, tree: Tree) -> Tree:
        """What is saved: arrays without padded members, whole on every device."""
        return self._real(tree)

    def fetch(self, tree: Tree) -> Tree:
        """Arrays of members on the host, in every process, without padded members."""
        if jax.process_count() > 1:
            return jax.device_get(self.gather(tree))
        return jax.tree.map(lambda a: a[: self.members], jax.device_get(tree))

    def abstract(self, tree: Tree) -> Tree:
        """Shapes and shardings of what `gather` would return for `tree`."""
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
        """Host arrays, the same in all processes, to the devices. Members must be padded."""
        sharding = self.sharding(kind)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)

        def spread(a):
            a = np.asarray(a)
            return jax.make_array_from_callback(a.shape, sharding, lambda part: a[part])

        with jax.transfer_guard("allow"):  # asked for, though JAX takes it for implicit
            return jax.tree.map(spread, tree)

    def check_streaming(self) -> None:
        """Refuses what `local` cannot name: rows of a run, and all of another, in one process.

        Raises:
          UserError: a process has neither whole runs nor a part of one.
        """
        own, data = jax.local_device_count(), self.data_devices
        if jax.process_count() > 1 and own % data and data % own:
            raise UserError(
                f"config.data.feed=streamed with {own} devices a process: config.parallel.data="
                f"{data} must divide that or be a multiple of it."
            )

    def local(self, rows: int) -> tuple[slice, slice]:
        """The members, of the padded ones, and the rows of a batch that lie in this process."""
        shape = (self.padded_members, rows)
        places = self.sharding(Kind.ROWS).addressable_devices_indices_map(shape).values()
        # A device holds a part of each axis from a beginning to an end; so does a process.
        ends = np.array(
            [
                [part.indices(size)[:2] for part, size in zip(place or (), shape, strict=True)]
                for place in places
            ]
        )
        first, last = ends[..., 0].min(axis=0), ends[..., 1].max(axis=0)
        return slice(first[0], last[0]), slice(first[1], last[1])

    def put_local(self, tree: Tree, rows: int) -> Tree:
        """What `local` names, (members, rows, ...) here alone, as `Kind.ROWS` of all processes."""
        sharding, head = self.sharding(Kind.ROWS), (self.padded_members, rows)

        def spread(a):
            return jax.make_array_from_process_local_data(sharding, a, head + a.shape[2:])

        with jax.transfer_guard("allow"):
            return jax.tree.map(spread, tree)

    def sharding(self, kind: Kind) -> NamedSharding:
        """The sharding of arrays of a kind. Under pmap every device holds all of them."""
        return NamedSharding(self.mesh, kind.value if self.mode == "pjit" else P())

    def compile(
        self,
        function: Callable[..., Tree],
        arguments: tuple[Tree, ...],
        kinds: tuple[Kind, ...],
        result: Kind,
        donate: tuple[int, ...] = (),
    ) -> Compiled:
        """Compiles `function`, written for one member on one device, for all of them.

        Args:
          function: called with every argument without its member axis, and with its own part of
            `ROWS`. It may reduce over the mesh axis `DATA`.
          arguments: arrays, or their shapes with shardings, to compile for.
          kinds: one an argument.
          result: kind of everything returned.
          donate: arguments whose memory the results may take.
        """

        def compiled(side_by_side: int) -> Compiled:
            return self._compile(function, arguments, kinds, result, donate, side_by_side)

        began = Elapsed.now()
        call = compiled(self.side_by_side) if self.side_by_side else self._fitting(compiled)
        return replace(call, compile_time=Elapsed.now() - began)

    def _fitting(self, compiled: Callable[[int], Compiled]) -> Compiled:
        """The call with as many members side by side as the memory holds."""
        if self.members_of_device == 1:
            return compiled(1)
        whole = _if_it_fits(compiled, self.members_of_device)
        if whole and self._room(whole) >= 0:
            return whole
        one, two = compiled(1), _if_it_fits(compiled, 2)
        if two is None:
            return one
        each = max(1, (two.memory_bytes or 0) - (one.memory_bytes or 0))
        fitting = 1 + self._room(one) // each
        # A number that divides them: a rest would be compiled by itself.
        shares = [n for n in range(1, self.members_of_device) if self.members_of_device % n == 0]
        for members in sorted((n for n in shares if 2 < n <= fitting), reverse=True):
            if best := _if_it_fits(compiled, members):
                return best
        return two if 2 in shares and fitting >= 2 else one

    def _room(self, call: Compiled) -> int:
        """Bytes that a call leaves of a device's memory."""
        return (self.memory_bytes or sys.maxsize) - (call.memory_bytes or 0)

    def _compile(self, function, arguments, kinds, result, donate, side_by_side) -> Compiled:
        per_device = self._over_members(function, kinds, side_by_side)
        if self.mode == "pjit":
            sharded = jax.shard_map(
                per_device,
                mesh=self.mesh,
                in_specs=tuple(kind.value for kind in kinds),
                out_specs=result.value,
                check_vma=False,
            )
            jitted = jax.jit(sharded, donate_argnums=donate)
        else:
            jitted = self._pmap(per_device, kinds, result, donate)
        compiled = jitted.lower(*arguments).compile(self.compiler_options)
        return Compiled(compiled, _memory(compiled))

    def _over_members(self, function, kinds, side_by_side):
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

            if side_by_side == 1:
                return jax.lax.map(one_member, mapped)
            if side_by_side >= self.members_of_device:
                return jax.vmap(one_member)(mapped)
            return jax.lax.map(one_member, mapped, batch_size=side_by_side)

        return per_device

    def _pmap(self, per_device, kinds, result, donate):
        """`pmap` inside a `jit` that cuts the rows into one part a device and joins them again."""
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
            # pmap insists on an argument that it spreads, and there may be no rows.
            results = mapped(np.arange(devices), *arguments)
            return jax.tree.map(join, results) if result == Kind.ROWS else results

        return jax.jit(call, donate_argnums=donate)


def make_layout(parallel: ConfigDict, members: int) -> Layout:
    """Chooses devices for a group: `parallel.data` share a batch, the rest share its members.

    Raises:
      UserError: fewer devices than the config asks for, or a mode that cannot do it.
    """
    devices, hosts = jax.devices(), jax.process_count()
    data = parallel.data
    if data > len(devices):
        raise UserError(f"config.parallel.data={data}, but there are {len(devices)} devices.")
    if parallel.mode == "pmap" and hosts > 1:
        raise UserError("config.parallel.mode=pmap serves one process: take pjit for several.")
    most = 1 if parallel.mode == "pmap" else len(devices) // data
    # Each process must hold a part, be it padding.
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
    side_by_side = parallel.side_by_side
    if side_by_side is None:
        side_by_side = int(devices[0].platform == "cpu")
    memory = device_memory()
    if parallel.memory_gb is not None:
        memory = int(parallel.memory_gb * 2**30)
    deterministic = parallel.deterministic
    return Layout(parallel.mode, mesh, members, side_by_side, memory, deterministic)


def make_mesh(devices: Sequence[jax.Device], member: int, data: int) -> Mesh:
    """The first of the devices, process by process, as a mesh of shape (member, data).

    Not by `jax.make_mesh`: its order follows the torus of a TPU, which mixes the devices of several
    processes, where each is to hold one part of the members and rows; and it refuses what is no
    part of a torus, as three chips of eight.
    """
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    chosen = np.array(ordered[: member * data]).reshape(member, data)
    return Mesh(chosen, (MEMBERS, DATA), axis_types=(AxisType.Auto,) * 2)


def _if_it_fits(compiled: Callable[[int], Compiled], members: int) -> Compiled | None:
    """The call; None if the compiler itself finds no room, as that of TPUs does."""
    try:
        return compiled(members)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def _memory(compiled) -> int | None:
    try:
        sizes = compiled.memory_analysis()
    except Exception:  # a backend may not offer it
        return None
    if sizes is None:
        return None
    total = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return int(total - sizes.alias_size_in_bytes)
