"""Compiled calls, and the number of members in one `vmap` that fit into a device's memory."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from gru_audio.training.cost import Cost
from gru_audio.training.logging import Elapsed


@dataclass(frozen=True)
class Compiled:
    """A compiled call.

    Attributes:
      call: the compiled function, a `jax.stages.Compiled`.
      memory_bytes: memory of arguments, results and temporaries on a device, according to the
        compiler; None if unknown.
      vmap_members: members of a device in one `vmap`.
      cost: operations on a device; of one step, for a call that trains several.
      compile_time: compilation time, including earlier attempts.
    """

    call: Any
    memory_bytes: int | None
    vmap_members: int = 1
    cost: Cost = field(default_factory=Cost)
    compile_time: Elapsed = field(default_factory=Elapsed)

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def with_most_members(
    compiled: Callable[[int], Compiled], members: int, device_bytes: int | None
) -> Compiled:
    """Returns the call with the most members in one `vmap` that fit into memory.

    Args:
      compiled: compiles the call with this number of members in one `vmap`.
      members: number of members on a device.
      device_bytes: usable memory of a device; None: no limit.
    """
    limit = device_bytes or sys.maxsize
    if members == 1:
        return compiled(1)
    whole = _if_it_fits(compiled, members)
    if whole and (whole.memory_bytes or 0) <= limit:
        return whole
    one, two = compiled(1), _if_it_fits(compiled, 2)
    if two is None:
        return one
    each = max(1, (two.memory_bytes or 0) - (one.memory_bytes or 0))
    fitting = 1 + (limit - (one.memory_bytes or 0)) // each
    # Only divisors, because `lax.map` would compile a remainder separately.
    divisors = [n for n in range(1, members) if members % n == 0]
    for count in sorted((n for n in divisors if 2 < n <= fitting), reverse=True):
        if best := _if_it_fits(compiled, count):
            return best
    return two if 2 in divisors and fitting >= 2 else one


def _if_it_fits(compiled: Callable[[int], Compiled], members: int) -> Compiled | None:
    """Returns the call; None if the compiler runs out of memory, as it may on TPUs."""
    try:
        return compiled(members)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def memory_bytes(compiled: Any) -> int | None:
    """Returns the memory of arguments, results and temporaries on a device; None if unknown."""
    try:
        sizes = compiled.memory_analysis()
    except Exception:  # not every backend implements it
        return None
    if sizes is None:
        return None
    total = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return int(total - sizes.alias_size_in_bytes)
