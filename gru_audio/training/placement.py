"""The placement of members and batches on a mesh of devices, and calls on the whole mesh.

Other code is written for one member on one device. A `Placement` compiles such a function into a
call on many members and devices, in one of two modes:

  pjit  `jit(shard_map(f))` over a mesh with the axes `member` and `data`
  pmap  `pmap(f)` over the axis `data`; every device holds all members (one process only)

The mesh may span several processes, which all put the same arrays and make the same calls. On a CPU
the members of a device run one after another (`lax.map`). This is faster there, and bit-identical
to a single run. On an accelerator they run in one `vmap`, as many at a time as fit into memory.
"""

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from gru_audio.nn.kernels.choice import choosing
from gru_audio.platforms import platform
from gru_audio.settings import UserError
from gru_audio.training.compiled import Compiled, memory_bytes, with_most_members
from gru_audio.training.cost import Cost, cost_of
from gru_audio.training.distributed import device_memory
from gru_audio.training.logging import Elapsed
from gru_audio.training.peaks import AbsentGpu
from gru_audio.training.step import DATA
from gru_audio.training.tuning import Tuning

MEMBERS = "member"  # the mesh axis that divides the members
Tree = Any  # a pytree of arrays


class Kind(Enum):
    """How an argument or a result is sharded; the value names its leading axes."""

    SHARED = P()  # the same for all members and devices
    MEMBER = P(MEMBERS)  # one slice per member
    ROWS = P(MEMBERS, DATA)  # member, then rows of the batch


@dataclass
class Placement:
    """The members of a group on a mesh of devices, and the calls compiled for them.

    Attributes:
      mode: "pjit" or "pmap".
      mesh: of shape (member, data).
      members: number of members without padding. Padding fills the mesh and is never trained.
      vmap_members: members of a device in one `vmap`; 0: as many as fit.
      device_bytes: usable memory of a device; None: no limit.
      deterministic: whether results on a GPU must be bit-identical each time.
      tuning: measures the recurrences of training; None: "auto" follows its rule.
      compile_time: compilation time so far.
      memory_bytes: largest memory of one call on a device.
      latest: the call that ran last.
    """

    mode: str
    mesh: Mesh | AbstractMesh
    members: int
    vmap_members: int = 1
    device_bytes: int | None = None
    deterministic: bool = False
    tuning: Tuning | None = None
    compile_time: Elapsed = field(default_factory=Elapsed, init=False)
    memory_bytes: int = field(default=0, init=False)
    latest: Compiled | None = field(default=None, init=False, repr=False)
    _calls: dict[Hashable, Compiled] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.compiler_options: dict[str, bool | str] = {}
        if self.deterministic and self.devices[0].platform == "gpu":
            self.compiler_options = {
                "xla_gpu_deterministic_ops": True,
                "xla_gpu_autotune_level": "0",
            }
        members, everywhere = self.members, NamedSharding(self.mesh, P())
        self._real = jax.jit(
            lambda tree: jax.tree.map(lambda a: a[:members], tree), out_shardings=everywhere
        )

    @property
    def devices(self) -> list[jax.Device]:
        return list(self.mesh.devices.flat)

    @property
    def data_devices(self) -> int:
        return self.mesh.shape[DATA]

    @property
    def member_devices(self) -> int:
        """Number of devices that divide the members."""
        return self.mesh.shape[MEMBERS]

    @property
    def padded_members(self) -> int:
        return -(-self.members // self.member_devices) * self.member_devices

    @property
    def members_of_device(self) -> int:
        """Number of members on each device, including padding."""
        return self.padded_members // self.member_devices

    def pad(self, array: np.ndarray) -> np.ndarray:
        """Fills the mesh with copies of the first member: (members, ...) to (padded, ...)."""
        fill = np.repeat(array[:1], self.padded_members - self.members, axis=0)
        return np.concatenate([array, fill])

    def gather(self, tree: Tree) -> Tree:
        """Returns arrays for saving: without padding, and replicated on every device."""
        return self._real(tree)

    def fetch(self, tree: Tree) -> Tree:
        """Returns host arrays of the members without padding, in every process."""
        if jax.process_count() > 1:
            return jax.device_get(self.gather(tree))
        return jax.tree.map(lambda a: a[: self.members], jax.device_get(tree))

    def abstract(self, tree: Tree) -> Tree:
        """Returns shapes and shardings of `gather(tree)`."""
        everywhere = NamedSharding(self.mesh, P())
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(
                (self.members, *a.shape[1:]), a.dtype, sharding=everywhere
            ),
            tree,
        )

    def scatter(self, tree: Tree) -> Tree:
        """Pads the members and shards them; the inverse of `gather`."""
        return self.put(jax.tree.map(lambda a: self.pad(np.asarray(a)), tree), Kind.MEMBER)

    def put(self, tree: Tree, kind: Kind) -> Tree:
        """Puts padded host arrays, which are the same in all processes, on the devices."""
        sharding = self.sharding(kind)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)

        def put(a):
            a = np.asarray(a)
            return jax.make_array_from_callback(a.shape, sharding, lambda part: a[part])

        with jax.transfer_guard("allow"):  # JAX considers this transfer implicit
            return jax.tree.map(put, tree)

    def check_streaming(self) -> None:
        """Checks that each process holds whole members or a part of one member; see `local`.

        Raises:
          UserError: a process holds parts of several members.
        """
        own, data = jax.local_device_count(), self.data_devices
        if jax.process_count() > 1 and own % data and data % own:
            raise UserError(
                f"config.data.loader=streamed with {own} devices a process: config.parallel.data="
                f"{data} must divide that number or be a multiple of it."
            )

    def local(self, rows: int) -> tuple[slice, slice]:
        """Returns the padded members and the rows of a batch that this process holds."""
        shape = (self.padded_members, rows)
        places = self.sharding(Kind.ROWS).addressable_devices_indices_map(shape).values()
        # Each device, and so each process, holds one interval of each axis.
        ends = np.array(
            [
                [part.indices(size)[:2] for part, size in zip(place or (), shape, strict=True)]
                for place in places
            ]
        )
        first, last = ends[..., 0].min(axis=0), ends[..., 1].max(axis=0)
        return slice(first[0], last[0]), slice(first[1], last[1])

    def put_local(self, tree: Tree, rows: int) -> Tree:
        """Puts the part of this process (see `local`) of an array of `Kind.ROWS`."""
        sharding, head = self.sharding(Kind.ROWS), (self.padded_members, rows)

        def put(a):
            return jax.make_array_from_process_local_data(sharding, a, head + a.shape[2:])

        with jax.transfer_guard("allow"):
            return jax.tree.map(put, tree)

    def sharding(self, kind: Kind) -> NamedSharding:
        """Returns the sharding of arrays of a kind. With pmap every device holds all arrays."""
        return NamedSharding(self.mesh, kind.value if self.mode == "pjit" else P())

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
        """Calls a function on all members and devices. The first call with a key compiles it.

        See `compile` for the other arguments. All calls with a key must pass the same function, and
        arguments of the same shapes and types.
        """
        if key not in self._calls:
            call = self.compile(function, arguments, kinds, result, donate, tuned)
            self.compile_time += call.compile_time
            self.memory_bytes = max(self.memory_bytes, call.memory_bytes or 0)
            self._calls[key] = call
        self.latest = self._calls[key]
        return self.latest(*arguments)

    def latest_cost(self, members: int) -> Cost:
        """Returns the operations of some members on all devices, in the latest call.

        They are those of one step, for a call that trains several.
        """
        assert self.latest
        cost, share = self.latest.cost, members * self.data_devices / self.members_of_device
        return Cost(share * cost.flops, cost.iterations, share * cost.bytes)

    def compile(
        self,
        function: Callable[..., Tree],
        arguments: tuple[Tree, ...],
        kinds: tuple[Kind, ...],
        result: Kind,
        donate: tuple[int, ...] = (),
        tuned: bool = False,
    ) -> Compiled:
        """Compiles a function of one member on one device for all members and devices.

        Args:
          function: receives all arguments without the member axis, and this device's part of
            `ROWS`. It may reduce over the mesh axis `DATA`.
          arguments: arrays, or shapes with shardings.
          kinds: the kind of each argument.
          result: the kind of all results.
          donate: indices of donated arguments.
          tuned: whether `tuning` chooses the implementations of recurrences.
        """
        tuning = self.tuning if tuned else None

        def compiled(vmap_members: int) -> Compiled:
            jitted = self._jit(function, kinds, result, donate, vmap_members)
            with choosing(tuning.choice) if tuning else contextlib.nullcontext():
                traced = jitted.trace(*arguments)
            options = self.compiler_options | (tuning.compiler_options if tuning else {})
            call = traced.lower().compile(options)
            return Compiled(call, memory_bytes(call), vmap_members, cost_of(traced.jaxpr))

        began = Elapsed.now()
        if tuning:
            one = self._jit(function, kinds, result, donate, 1)
            members = self.vmap_members or self.members_of_device
            tuning.measure(lambda: one.trace(*arguments), members, self.compiler_options)
        if self.vmap_members:
            call = compiled(self.vmap_members)
        else:
            call = with_most_members(compiled, self.members_of_device, self.device_bytes)
        return replace(call, compile_time=Elapsed.now() - began)

    def _jit(self, function, kinds, result, donate, vmap_members):
        """Returns the jitted function of all members and devices."""

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

        # The name of the program in profiles.
        per_device.__name__ = getattr(function, "__name__", "call").strip("_")
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
        """Returns a jitted function that divides rows over devices, calls `pmap` and joins rows."""
        devices = self.data_devices
        mapped = jax.pmap(
            lambda _, *arguments: per_device(*arguments),
            axis_name=DATA,
            in_axes=(0, *(1 if kind == Kind.ROWS else None for kind in kinds)),
            out_axes=1 if result == Kind.ROWS else None,
            devices=self.devices,
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
            # pmap needs a mapped argument, and there may be no rows.
            results = mapped(np.arange(devices), *arguments)
            return jax.tree.map(join, results) if result == Kind.ROWS else results

        return jax.jit(call, donate_argnums=donate)


def make_placement(
    parallel: ConfigDict,
    members: int,
    devices: Sequence[jax.Device] | Sequence[AbsentGpu] | None = None,
    make: type[Placement] = Placement,
) -> Placement:
    """Chooses the devices of a group: `parallel.data` devices share a batch; one, if it is 0.

    The other mesh axis divides the members.

    Args:
      parallel: the section of the config.
      members: number of members.
      devices: devices to choose from, such as those of a TPU elsewhere; None: all devices here.
      make: the class of the result.

    Raises:
      UserError: there are too few devices, or the mode does not support the request.
    """
    memory = None if devices else device_memory()
    devices = devices or jax.devices()
    data, hosts = parallel.data or 1, len({device.process_index for device in devices})
    if data > len(devices):
        raise UserError(f"config.parallel.data={data}, but there are {len(devices)} devices.")
    if parallel.mode == "pmap" and hosts > 1:
        raise UserError(
            "config.parallel.mode=pmap supports one process only: use pjit for several."
        )
    most = 1 if parallel.mode == "pmap" else len(devices) // data
    # Each process must hold a part, which may be padding.
    member = parallel.member or (most if hosts > 1 else min(most, members))
    if member > most:
        if parallel.mode == "pmap":
            raise UserError("config.parallel.mode=pmap does not divide members: leave member at 0.")
        raise UserError(
            f"config.parallel.member={member} x data={data} needs {member * data} devices, but "
            f"there are {len(devices)}."
        )
    mesh = make_mesh(devices, member, data)
    used = {device.process_index for device in mesh.devices.flat} if hosts > 1 else {0}
    if idle := set(range(hosts)) - used:
        raise UserError(
            f"config.parallel.member={member} x data={data} leaves process {min(idle)} of "
            f"{hosts} without a device: every process needs one."
        )
    vmap_members = parallel.vmap_members
    if vmap_members is None:
        vmap_members = int(platform() == "cpu")
    if parallel.memory_gb is not None:
        memory = int(parallel.memory_gb * 2**30)
    deterministic = parallel.deterministic
    return make(parallel.mode, mesh, members, vmap_members, memory, deterministic)


def make_mesh(
    devices: Sequence[jax.Device] | Sequence[AbsentGpu], member: int, data: int
) -> Mesh | AbstractMesh:
    """Returns a mesh (member, data) of the first devices, ordered by process.

    `jax.make_mesh` follows the torus of a TPU. It mixes the devices of several processes, but each
    process must hold one part of the members and rows. And it does not allow three of eight chips.
    """
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    chosen = np.array(ordered[: member * data]).reshape(member, data)
    names, first = (MEMBERS, DATA), chosen[0, 0]
    types = (AxisType.Auto,) * len(names)
    if isinstance(first, jax.Device):
        return Mesh(chosen, names, types)
    absent = AbstractDevice(first.device_kind, None, first.platform)
    return AbstractMesh(chosen.shape, names, types, abstract_device=absent)
