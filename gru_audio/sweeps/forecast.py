"""What a sweep needs on devices that are elsewhere: its programs, compiled for them but not run.

The TPU's own compiler (libtpu) runs on any Linux machine. It tells memory, communication and
whether a program fits. For GPUs programs are lowered only, as there is no compiler without a GPU:
kernels and operations are known, memory and fusions are not. Times are lower bounds from published
peaks, because nothing is run.
"""

import importlib.util
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

import jax
import numpy as np
from etils import epath
from jax.experimental import topologies

from gru_audio.files import read_json, write_atomically
from gru_audio.platforms import compiling_for
from gru_audio.settings import UserError
from gru_audio.sweeps.planning import Plan
from gru_audio.training.compiled import Compiled
from gru_audio.training.dry import DryPlacement, LoweredPlacement, abstract_state
from gru_audio.training.hyper import hyperparameters, mixing
from gru_audio.training.loader import LOADERS
from gru_audio.training.peaks import CHIPS, GPUS, JAX_GPUS, AbsentGpu
from gru_audio.training.placement import make_placement

LOCAL = "local"  # the devices of this machine
ITERATION_SECONDS = 1e-6  # assumed least time of a loop iteration
_COLLECTIVE = re.compile(
    r"[ )}](all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
)
_LOWERED_COLLECTIVE = re.compile(
    r"stablehlo\.(all_reduce|all_gather|all_to_all|reduce_scatter|collective_permute)"
)
_KERNEL = re.compile('custom_call_target="(?:tpu_custom_call|__gpu\\$xla.gpu.triton)"')
_LOWERED_KERNEL = re.compile(r'@__gpu\$xla\.gpu\.triton\(.*?\bname = "([^"]+)"')


@dataclass(frozen=True)
class Topology:
    """Devices to plan for.

    Attributes:
      name: such as "v5e:4x4" or "h100:8".
      devices: JAX's devices; for GPUs, those that this machine lacks.
      chip: a key of `CHIPS`, or "" if unknown.
      chips: number of chips.
    """

    name: str
    devices: Sequence[jax.Device] | Sequence[AbsentGpu]
    chip: str
    chips: int

    @property
    def platform(self) -> str:
        """What the programs are compiled for: "cpu", "gpu" or "tpu"."""
        return self.devices[0].platform


@dataclass(frozen=True)
class Forecast:
    """What is known of a group's training program.

    Attributes:
      program: name of the group.
      runs: number of runs.
      steps: updates of the run with most of them.
      error: why it cannot be compiled; "" if it can.
      memory_bytes: memory on a chip; None: unknown.
      side_by_side: runs of a chip in one `vmap`.
      kernels: number of Pallas kernels in the program.
      kernel_names: their names, if known.
      collectives: number of each kind of collective.
      flops: operations of a step on a chip.
      bytes: bytes that a step reads and writes, according to the compiler, with one iteration of
        each loop; 0: unknown.
      iterations: loop iterations of a step that follow one another.
      idle_chips: chips that the program leaves idle.
      step_seconds: least time of a step; None without published peaks.
      chip_hours: least chip-hours of all steps, idle chips included.
      compile_seconds: time of this compilation.
    """

    program: str
    runs: int
    steps: int
    error: str = ""
    memory_bytes: int | None = None
    side_by_side: int = 0
    kernels: int = 0
    collectives: Mapping[str, int] | None = None
    flops: float = 0.0
    bytes: float = 0.0
    iterations: int = 0
    idle_chips: int = 0
    step_seconds: float | None = None
    chip_hours: float | None = None
    compile_seconds: float = 0.0
    kernel_names: Sequence[str] = ()


def topology(name: str) -> Topology:
    """Returns the devices of a topology: "local", TPUs such as "v5e:4x4", or GPUs such as "h100:8".

    Raises:
      UserError: the name is wrong, or libtpu is missing.
    """
    if name == LOCAL:
        return Topology(name, jax.devices(), "", len(jax.devices()))
    chip = name.partition(":")[0]
    if chip not in CHIPS:
        raise UserError(
            f'--topology "{name}" must be "{LOCAL}" or begin with {", ".join(CHIPS)}: for example '
            "v5e:4x4, h100:8."
        )
    if chip in GPUS:
        count = name.removeprefix(f"{chip}:")
        if not re.fullmatch(r"[1-9]\d{0,4}", count):
            raise UserError(f'--topology "{name}": write a GPU and a number: {chip}:8.')
        gpus = [AbsentGpu(i, JAX_GPUS[chip]) for i in range(int(count))]
        return Topology(name, gpus, chip, len(gpus))
    if not importlib.util.find_spec("libtpu"):
        raise UserError('Planning for a TPU needs its compiler: pip install "gru-audio[aot]".')
    # libtpu looks for the TPU of this machine, and warns that it finds none.
    quiet = {"TPU_ACCELERATOR_TYPE": "v5litepod-1", "TPU_WORKER_HOSTNAMES": "localhost"}
    alone = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}  # two plans at a time
    for variable, value in (alone | quiet).items():
        os.environ.setdefault(variable, value)
    try:
        devices = topologies.get_topology_desc(name, "tpu").devices
    except (RuntimeError, ValueError) as error:
        raise UserError(f'--topology "{name}": {error}') from error
    cores = 1 + max(getattr(device, "core_on_chip", 0) for device in devices)
    return Topology(name, devices, chip, len(devices) // cores)


def chip_prices(texts: Sequence[str]) -> dict[str, float]:
    """Returns prices per chip-hour from texts such as "v5e=1.2".

    Raises:
      UserError: a text names no chip or no price.
    """
    prices = {}
    for text in texts:
        chip, _, price = text.partition("=")
        try:
            prices[chip] = float(price)
        except ValueError:
            prices[chip] = -1.0
        if chip not in CHIPS or not prices[chip] >= 0:
            raise UserError(f'--chip_price "{text}": write a chip and its price: v5e=1.2.')
    return prices


def forecasts(
    planned: Plan, on: Topology, folder: epath.Path, say: Callable[[str], None]
) -> Iterator[Forecast]:
    """Compiles the training program of every group for a topology.

    Args:
      planned: the sweep.
      on: the devices.
      folder: keeps the results, so that a repeated call continues.
      say: shows progress.
    """
    file = folder / f"{on.name.replace(':', '-')}.json"
    known = (read_json(file) or {}) if file.exists() else {}
    for i, group in enumerate(planned.groups):
        key = f"{group.name} x{len(group.runs)}, jax {jax.__version__}, {_compiler()}"
        if key not in known:
            say(f"[{i + 1}/{len(planned.groups)}] {group.name}: compiling for {on.name}")
            known[key] = asdict(_forecast(planned, i, on))
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(known, indent=1).encode())
        yield Forecast(**known[key])


def _forecast(planned: Plan, index: int, on: Topology) -> Forecast:
    """Compiles one group's program."""
    group, program, data = planned.groups[index], planned.programs[index], planned.data[index]
    configs = [run.config for run in group.runs]
    config, hyper = configs[0], hyperparameters(configs)
    name, runs, steps = group.name, len(configs), max(c.train.steps for c in configs)
    with compiling_for(on.platform):
        kind = LoweredPlacement if on.chip in GPUS else DryPlacement
        placement = make_placement(config.parallel, runs, on.devices, kind)
        assert isinstance(placement, DryPlacement)
        if on.chip and placement.device_bytes is None:
            placement.device_bytes = int(0.9 * CHIPS[on.chip].memory_bytes)
        loader = LOADERS[config.data.loader](
            program, placement, data, mixing(hyper), steps, config.data.workers
        )
        state = abstract_state(loader, hyper)
        try:
            loader.train(state, np.ones(runs, bool), 0, 1)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return Forecast(name, runs, steps, error=_too_large(str(error)))
    call = max(placement.calls.values(), key=lambda call: call.cost.flops)
    return _described(Forecast(name, runs, steps), call, placement, on)


def _described(base: Forecast, call: Compiled, placement: DryPlacement, on: Topology) -> Forecast:
    text, moved, names = call.call.as_text(), 0.0, []
    if isinstance(placement, LoweredPlacement):
        collectives = [m[1].replace("_", "-") for m in _LOWERED_COLLECTIVE.finditer(text)]
        names = _LOWERED_KERNEL.findall(text)
        kernels = len(names)
    else:
        collectives = [match[1] for match in _COLLECTIVE.finditer(text)]
        moved = float((call.call.cost_analysis() or {}).get("bytes accessed", 0.0))
        kernels = len(_KERNEL.findall(text))
    step_seconds = chip_hours = None
    if on.chip:
        peaks, per_chip = CHIPS[on.chip], len(on.devices) // on.chips
        step_seconds = max(
            per_chip * call.cost.flops / (peaks.tflops * 1e12),
            per_chip * moved / (peaks.gbps * 1e9),
            call.cost.iterations * ITERATION_SECONDS,
        )
        chip_hours = step_seconds * base.steps * on.chips / 3600
    return Forecast(
        base.program,
        base.runs,
        base.steps,
        memory_bytes=call.memory_bytes,
        side_by_side=call.vmap_members,
        kernels=kernels,
        kernel_names=names,
        collectives={kind: collectives.count(kind) for kind in sorted(set(collectives))},
        flops=call.cost.flops,
        bytes=moved,
        iterations=call.cost.iterations,
        idle_chips=on.chips - math.ceil(placement.mesh.size * on.chips / len(on.devices)),
        step_seconds=step_seconds,
        chip_hours=chip_hours,
        compile_seconds=call.compile_time.wall,
    )


def _too_large(message: str) -> str:
    """Returns what the compiler says about memory, in a few words."""
    found = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", message)
    if found:
        return f"needs {found[1]} of memory, and a chip has {found[2]}"
    return "needs more memory than a chip has"


def _compiler() -> str:
    try:
        return f"libtpu {metadata.version('libtpu')}"
    except metadata.PackageNotFoundError:
        return f"jaxlib {metadata.version('jaxlib')}"
