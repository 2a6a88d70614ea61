"""Time that has passed: on the wall, and on the processors that this process has used.

On a machine that does other work too, wall time measures that work as well. Processor time, summed
over the threads of this process, measures this process alone.
"""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Elapsed:
    """A duration, or a reading of both clocks; readings have no meaning but by their difference.

    Attributes:
      wall: seconds.
      cpu: seconds of processor time, of all threads of this process.
    """

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> "Elapsed":
        """Reads both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Elapsed") -> "Elapsed":
        return Elapsed(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: "Elapsed") -> "Elapsed":
        return Elapsed(self.wall - other.wall, self.cpu - other.cpu)


NONE = Elapsed()
