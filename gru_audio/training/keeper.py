"""What outlives the process: metrics up to a step, then the checkpoint of that step.

In several processes the first alone has files. The others take their part in gathering what is
saved, and are given what was restored.
"""

import time
from collections.abc import Callable
from typing import Any

from etils import epath

from gru_audio.settings import UserError
from gru_audio.training import processes
from gru_audio.training.boards import Boards
from gru_audio.training.checkpoint import Checkpoints
from gru_audio.training.heartbeat import Heartbeat
from gru_audio.training.metrics import Record, Segments
from gru_audio.training.pack import Pack

_PATIENCE_SECONDS = 600.0  # that a finished group waits for room to be saved in
_RETRY_SECONDS = 5.0


class Keeper:
    """Saves a group and takes it up again."""

    def __init__(
        self, directory: epath.Path, keep: int, boards: Boards, say: Callable[[str], None]
    ):
        """Keeps the latest `keep` checkpoints in `directory`; `say` tells the user what is odd.

        What is saved `boards` show.
        """
        self._say, self._boards = say, boards
        self._records: list[Record] = []
        self._step, self._saved_at = 0, time.monotonic()
        if processes.first():
            self._segments = Segments(directory / "metrics", say)
            self._checkpoints = Checkpoints(directory / "checkpoints", keep, say)
            self._heartbeat = Heartbeat(directory / "status.json")

    def resume(self, pack: Pack) -> dict[str, Any] | None:
        """Restores the latest checkpoint that is whole, and so its metrics; returns its memory.

        Without one the pack stays as it is, and there is no memory. Metrics are cut back to it.
        """
        found, abstract = None, pack.abstract()

        def read() -> dict[str, Any] | None:
            nonlocal found
            found = self._checkpoints.restore(abstract, self._segments.whole_until())
            memory = found[1] if found else None
            self._step = memory["step"] if memory else 0
            self._segments.rewind(self._step)
            self._boards.begin(self._segments.records())
            return memory

        memory = processes.from_first(read)
        if memory is not None:
            pack.restore(processes.arrays_from_first(lambda: found and found[0], abstract))
        return memory

    def add(self, records: list[Record]) -> None:
        """Takes metrics, which the next save writes."""
        self._records += records

    def beat(self, state: str, **news: Any) -> None:
        """Tells lookers-on what the group is doing, as `Heartbeat.beat` does."""
        if processes.first():
            self._heartbeat.beat(state, **news)

    @property
    def age(self) -> float:
        """Seconds since the last save, or since the start."""
        return time.monotonic() - self._saved_at

    def save(self, pack: Pack, memory: dict[str, Any]) -> None:
        """Saves in the background. A disk that is full is no reason to end: it says so."""
        states, step = pack.states(), memory["step"]
        self._saved_at = time.monotonic()
        if not processes.first():
            return
        if step > self._step:
            try:
                # The segment first: one without its checkpoint is dropped on resume.
                self._segments.write(self._step, step, self._records)
            except OSError as error:
                self._say(f"step {step} could not be saved ({error.strerror}); training goes on")
                return
            self._boards.add(self._records)
            self._records, self._step = [], step
        self._checkpoints.save(step, states, memory)

    def finish(self, pack: Pack, memory: dict[str, Any]) -> None:
        """Returns when the last save is on disk; waits for room where there is none.

        Raises:
          UserError: there was none for ten minutes.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not processes.from_first(lambda: self._is_saved(memory["step"])):
            if processes.greatest([float(time.monotonic() > deadline)])[0]:
                raise UserError("The last checkpoint could not be written; make room and repeat.")
            time.sleep(_RETRY_SECONDS)
            self.save(pack, memory)

    def _is_saved(self, step: int) -> bool:
        return self._checkpoints.wait() and self._step == step

    def records(self) -> list[Record]:
        """All metrics, in order of steps; in the first process."""
        return list(self._segments.records())

    def close(self) -> None:
        """Frees what the checkpoints hold open."""
        if processes.first():
            self._checkpoints.close()
