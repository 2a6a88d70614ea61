"""Peaks of devices: published ones of TPUs and GPUs, and those of this machine's processor.

The peaks of a processor are measured once, when a long run first wants them, and kept in the user's
cache directory.
"""

import concurrent.futures
import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import jax
import numpy as np

from gru_audio.training.compilation import directory

WORTHWHILE_SECONDS = 30.0  # training time of a run that may measure the processor
_SIZE, _COPIED = 1536, 2**25  # rows of the matrices; values to copy, more than a cache holds
_MEASURED_SECONDS = 0.4  # for each of the two


@dataclass(frozen=True)
class Peaks:
    """What a device does at best.

    Attributes:
      tflops: dense matrix products, 1e12 operations a second; of bfloat16 on an accelerator (T4:
        float16), of float32 on a processor.
      gbps: memory bandwidth, 1e9 bytes a second.
      gib: memory; 0: unknown.
    """

    tflops: float
    gbps: float
    gib: float = 0.0

    @property
    def memory_bytes(self) -> int:
        return int(self.gib * 2**30)

    def times(self, count: int) -> "Peaks":
        """Returns the peaks of several devices."""
        return Peaks(count * self.tflops, count * self.gbps, count * self.gib)


# TPUs: docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e. Editions of these pages give 800 or 819
# GB/s for v5e, 1600 or 1640 for v6e; the larger values keep least times valid.
TPUS = {
    "v4": Peaks(275, 1228, 32),
    "v5e": Peaks(197, 819, 16),
    "v5p": Peaks(459, 2765, 95),
    "v6e": Peaks(918, 1640, 32),
}
# GPUs: NVIDIA's data sheets, without sparsity. A100 and H100 are the SXM boards with 80 GB.
GPUS = {
    "a100": Peaks(312, 2039, 80),
    "h100": Peaks(989, 3350, 80),
    "h200": Peaks(989, 4800, 141),
    "l4": Peaks(121, 300, 24),
    "t4": Peaks(65, 320, 16),
}
CHIPS = TPUS | GPUS
# The words by which JAX's names of devices are known.
_NAMES = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "A100": "a100",
    "H100": "h100",
    "H200": "h200",
    "L4": "l4",
    "T4": "t4",
}
# The names that JAX has for GPUs (`device_kind`).
JAX_GPUS = {
    "a100": "NVIDIA A100-SXM4-80GB",
    "h100": "NVIDIA H100 80GB HBM3",
    "h200": "NVIDIA H200",
    "l4": "NVIDIA L4",
    "t4": "Tesla T4",
}


@dataclass(frozen=True)
class AbsentGpu:
    """A GPU that this machine lacks, with the attributes of `jax.Device` that placements use."""

    id: int
    device_kind: str
    platform: str = "gpu"
    process_index: int = 0


def chip_of(device_kind: str) -> str:
    """Returns the key of `CHIPS` for a `device_kind` of JAX; "" if it is unknown."""
    words = f" {device_kind.replace('-', ' ')} "
    return next((chip for name, chip in _NAMES.items() if f" {name} " in words), "")


def peaks_of(devices: Sequence[jax.Device], measure: bool = False) -> Peaks | None:
    """Returns the peaks of some devices together; None if unknown.

    The devices of a processor share it, so the peaks are those of the processor, whatever their
    number.

    Args:
      devices: all of one kind.
      measure: whether to measure the processor, which takes a second, if that has not been done.
    """
    if devices[0].platform == "cpu":
        several = len({device.process_index for device in devices}) > 1
        return None if several else processor_peaks(measure)
    chip = chip_of(devices[0].device_kind)
    if not chip:
        return None
    cores = 1 + max(getattr(device, "core_on_chip", 0) for device in devices)
    return CHIPS[chip].times(max(1, len(devices) // cores))


def processor_peaks(measure: bool = False) -> Peaks | None:
    """Returns the peaks of this machine's processor, measured once; None: not yet."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    folder = directory()
    file = folder.parents[1] / "peaks" / f"{folder.name}-{cores}.json"
    with contextlib.suppress(OSError, TypeError, ValueError):
        return Peaks(**json.loads(file.read_text()))
    if not measure:
        return None
    found = _measured(cores)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(asdict(found)))
        part.replace(file)
    return found


def _measured(cores: int) -> Peaks:
    """Measures a product of matrices, and a copy by one thread for each core."""
    a = np.ones((_SIZE, _SIZE), np.float32)
    product = np.empty_like(a)
    flops = 2 * _SIZE**3 / _least_seconds(lambda: np.matmul(a, a, out=product))
    source = np.ones((cores, _COPIED // cores), np.float32)
    copy = np.empty_like(source)
    with concurrent.futures.ThreadPoolExecutor(cores) as threads:
        seconds = _least_seconds(lambda: list(threads.map(np.copyto, copy, source)))
    return Peaks(flops / 1e12, 2 * source.nbytes / seconds / 1e9)


def _least_seconds(call: Callable[[], object]) -> float:
    """Returns the least time of several calls; the first one does not count."""
    call()
    times: list[float] = []
    end = time.perf_counter() + _MEASURED_SECONDS
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)
