"""Recurrent networks on audio in JAX: training, and honest comparison."""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # a command begins, and what it imports takes seconds
    from gru_audio.training import stopping

    if stopping.program().startswith("gru_audio."):
        stopping.begin()
