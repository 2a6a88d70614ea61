"""A trace of some training steps, by JAX's profiler, for XProf and Perfetto.

Calls end at other steps while a trace is recorded. This changes no result (see `trainer.py`).
"""

from collections.abc import Callable
from pathlib import Path

import jax
from etils import epath

from gru_audio.files import matching
from gru_audio.training import distributed


class Profiler:
    """Traces steps of one program, once: after the first call, and without an evaluation."""

    def __init__(self, folder: Path, steps: int, say: Callable[[str], None]):
        """Traces up to `steps` steps into `folder`; 0: none. `say` gets a line for the user."""
        self._folder, self._steps, self._say = folder, steps, say
        self._warm, self._began = False, -1  # whether a call has ended; first step of the trace

    @property
    def active(self) -> bool:
        """Whether a trace is being recorded."""
        return self._began >= 0

    def begin(self, start: int, end: int, event: int, every: int) -> int:
        """Begins the trace if it is time for it. Call it before each call that trains.

        Args:
          start: step at which the call starts.
          end: step at which it would end.
          event: next step of an evaluation, a save or a member's end.
          every: steps from one evaluation to the next.

        Returns:
          The step at which the call must end.
        """
        # A window between two evaluations may be shorter than the trace: then all of it is traced.
        room = event - start >= self._steps or start % every == 0
        if self._steps and not self.active and self._warm and room:
            self._began = start
            if distributed.first():
                jax.profiler.start_trace(self._folder)
        return min(end, self._began + self._steps) if self.active else end

    def end(self, step: int, event: int) -> None:
        """Ends the trace if it is complete. Call it after each call, with its last step."""
        self._warm = True
        if not self.active or step < min(event, self._began + self._steps):
            return
        if distributed.first():
            jax.profiler.stop_trace()
            newest = epath.Path(max((self._folder / "plugins" / "profile").iterdir()))
            files = ", ".join(path.name for path in matching(newest, "*.trace.json.gz"))
            self._say(
                f"trace of steps {self._began + 1} to {step} in {newest}\n"
                f"  Perfetto: open {files} at https://ui.perfetto.dev\n"
                f"  XProf: pip install xprof; xprof --logdir {self._folder}"
            )
        self._steps, self._began = 0, -1

    def close(self) -> None:
        """Says so if there was no step to trace."""
        if self._steps:
            self._say("no trace: the first call that trains is not traced, and no other followed")
