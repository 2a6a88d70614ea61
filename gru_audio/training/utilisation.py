"""How much of its devices a program uses while it trains."""

from dataclasses import asdict, dataclass

from gru_audio.training.cost import Cost
from gru_audio.training.peaks import Peaks

_UNITS = {1e12: "TFLOP/s", 1e9: "GFLOP/s", 0.0: "MFLOP/s"}


@dataclass(frozen=True)
class Utilisation:
    """Rates of a program, of all its runs and devices together; None: unknown.

    Attributes:
      flops_per_second: operations of matrix products, convolutions and Fourier transforms.
      mfu: model FLOP utilisation, these operations as a share of the devices' peak.
      bytes_per_second: bytes that these operations read and write; see `Cost`.
      bandwidth_share: these bytes as a share of the devices' memory bandwidth. Above 1, caches
        serve them.
    """

    flops_per_second: float | None = None
    mfu: float | None = None
    bytes_per_second: float | None = None
    bandwidth_share: float | None = None

    @classmethod
    def of(cls, cost: Cost, seconds: float, peaks: Peaks | None) -> "Utilisation":
        """Returns the rates of operations that took some seconds.

        Args:
          cost: the operations on all devices.
          seconds: wall time; 0: unknown.
          peaks: of all devices together; None: unknown.
        """
        if not seconds:
            return cls()
        flops, moved = cost.flops / seconds, cost.bytes / seconds
        if peaks is None:
            return cls(flops, None, moved, None)
        return cls(flops, flops / peaks.tflops / 1e12, moved, moved / peaks.gbps / 1e9)

    def asdict(self) -> dict[str, float | None]:
        """Returns the rates by name, for `result.json`."""
        return asdict(self)

    def __str__(self) -> str:
        """Returns a short text, such as "1.2 TFLOP/s (3.1 %)"."""
        if self.flops_per_second is None:
            return ""
        least, unit = next(pair for pair in _UNITS.items() if self.flops_per_second >= pair[0])
        share = "" if self.mfu is None else f" ({100 * self.mfu:.2g} %)"
        return f"{self.flops_per_second / (least or 1e6):.3g} {unit}{share}"
