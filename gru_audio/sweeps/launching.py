"""The commands that launch a planned sweep at each place (`launch/README.md`)."""

import math
import re
import shlex
from collections.abc import Sequence

from gru_audio.training.peaks import GPUS, TPUS

# Accelerator type of Cloud TPU, what its number counts for each chip, and the runtime's version.
_TYPES = {
    "v4": ("v4", 2, "tpu-ubuntu2204-base"),
    "v5e": ("v5litepod", 1, "v2-alpha-tpuv5-lite"),
    "v5p": ("v5p", 2, "v2-alpha-tpuv5"),
    "v6e": ("v6e", 1, "v2-alpha-tpuv6e"),
}
_ONLY_TO_PLAN = ("plan", "topology", "chip_price")  # flags


def commands(
    arguments: Sequence[str], data_set: str, topology: str = "", shards: int = 1
) -> dict[str, str]:
    """Returns the commands by place.

    Args:
      arguments: of the command that planned the sweep, with --config and --workdir.
      data_set: the recipe that prepares its data.
      topology: such as "v5e:4x4" or "h100:8"; "": the devices of this machine.
      shards: number of shards to make of the sweep where a place makes them.
    """
    own = _without(arguments, _ONLY_TO_PLAN)
    whole = _without(own, ("shard",))
    chip, _, layout = topology.partition(":")
    if chip in TPUS:
        return _on_tpus(whole, data_set, chip, layout, shards)
    gpus = int(layout) if chip in GPUS else 0
    gres = f" --gres=gpu:{gpus}" if gpus else ""
    found = {
        "this machine, several processes": (
            f"python launch/local.py --processes 2 -- python -m gru_audio.sweep {_joined(own)}"
        ),
        "SLURM": f"sbatch --array=1-{shards}{gres} launch/slurm.sbatch {_joined(whole)}",
    }
    if gpus:
        sky = f"sky jobs launch launch/skypilot/gpu.yaml --gpus {chip.upper()}:{gpus}"
        found["SkyPilot"] = _sky(sky, whole, data_set)
    return found


def _on_tpus(
    whole: Sequence[str], data_set: str, chip: str, layout: str, shards: int
) -> dict[str, str]:
    chips = math.prod(map(int, layout.split("x")))
    name, each, runtime = _TYPES[chip]
    accelerator, cloud = f"{name}-{chips * each}", _in_bucket(whole)
    vm = (
        f"ZONE=ZONE ACCELERATOR={accelerator} RUNTIME={runtime} PREPARE={shlex.quote(data_set)} "
        f"launch/tpu_vm.sh {_name(whole)} {_joined(cloud)}"
    )
    gke = (
        f"python launch/gke/jobset.py --image IMAGE --name {_name(whole)} "
        f"--topology {chip}:{layout} --shards {shards} --prepare {shlex.quote(data_set)} -- "
        f"{_joined(cloud)} | kubectl apply --filename -"
    )
    sky = (
        f"sed 's/tpu-v5litepod-8/tpu-{accelerator}/; s/v2-alpha-tpuv5-lite/{runtime}/' "
        "launch/skypilot/tpu.yaml > tpu.yaml && sky jobs launch tpu.yaml"
    )
    return {
        "Cloud TPU VM (queued resource, spot)": vm,
        "GKE": gke,
        "SkyPilot": _sky(sky, whole, data_set),
    }


def _sky(launch: str, whole: Sequence[str], data_set: str) -> str:
    cloud = _in_bucket(whole)
    experiment, workdir = _value(cloud, "config"), _value(cloud, "workdir")
    variables = {
        "EXPERIMENT": experiment,
        "WORKDIR": workdir,
        "PREPARE": data_set,
        "FLAGS": _joined(_without(cloud, ("config", "workdir"))),
    }
    texts = [shlex.quote(f"{name}={value}") for name, value in variables.items() if value]
    return " ".join([launch, *(f"--env {text}" for text in texts)])


def _in_bucket(arguments: Sequence[str]) -> list[str]:
    """Replaces a workdir on a disk, which would be deleted with the machine."""
    workdir = _value(arguments, "workdir")
    if "://" not in workdir:
        workdir = f"gs://BUCKET/{_name(arguments)}"
    config = _value(arguments, "config")
    rest = _without(arguments, ("config", "workdir"))
    return [f"--config={config}", f"--workdir={workdir}", *rest]


def _name(arguments: Sequence[str]) -> str:
    """Returns the last part of the workdir, as a name that Kubernetes and gcloud accept."""
    last = _value(arguments, "workdir").rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "sweep"


def _joined(arguments: Sequence[str]) -> str:
    return shlex.join(arguments)


def _split(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Returns each flag's name, with its arguments: --name=value, or --name value."""
    flags: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("-"):
            flags.append((argument.lstrip("-").partition("=")[0], [argument]))
        elif flags:
            flags[-1][1].append(argument)
    return flags


def _without(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    return [part for name, parts in _split(arguments) if name not in names for part in parts]


def _value(arguments: Sequence[str], name: str) -> str:
    for flag, (first, *rest) in _split(arguments):
        if flag == name:
            return rest[0] if rest else first.partition("=")[2]
    return ""
