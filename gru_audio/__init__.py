"""Recurrent networks on audio in JAX: training, and honest comparison."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gru_audio.loading import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if sys.argv[:1] == ["-m"]:  # a command begins, and what it imports takes seconds
    from gru_audio.training import stopping

    if stopping.program().startswith("gru_audio."):
        stopping.begin()


def __getattr__(name: str) -> Any:
    """Imports `load` when it is first used, because it imports JAX."""
    if name == "load":
        from gru_audio.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
