"""GRUs and LSTMs on sound in JAX: from recordings to an honest comparison of recurrent networks."""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # a command begins, and what it imports takes seconds
    from gru_audio.training import stopping

    if stopping.program().startswith("gru_audio."):
        stopping.begin()
