"""Saving and restoring a group; the only module that imports Orbax.

A checkpoint contains the stacked train states of the members and the state of the loop. The metrics
of its steps are written before it. Only process 0 has files. Other processes help to gather the
states, and receive the restored ones.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from gru_audio.files import matching
from gru_audio.settings import UserError
from gru_audio.training import distributed
from gru_audio.training.logging import Heartbeat, LogSegments, Record
from gru_audio.training.population import Population
from gru_audio.training.trackers import Trackers

Tree = Any
Say = Callable[[str], None]  # prints a line for the user

_RETRY_SECONDS = 5.0  # between attempts to save a finished group on a full disk,
_GIVE_UP_SECONDS = 600.0  # which end after this time

# Orbax's newer interface makes all processes meet at barriers; here process 0 works alone.
_ALONE = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="checkpoints"
)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def silence() -> None:
    """Keeps Orbax and asyncio from printing stack traces of errors that are reported here.

    Every concurrent read and write would print its own.
    """
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    show = sys.unraisablehook
    sys.unraisablehook = lambda problem: (
        None if str(problem.exc_value) == "Event loop is closed" else show(problem)
    )


class Checkpoints:
    """The checkpoints of one group, by step, written in the background by process 0.

    A checkpoint becomes visible when it is complete, by a rename, and an older one is deleted after
    that. So there is a complete one at any time. Checksums detect later damage.
    """

    def __init__(self, directory: epath.Path, keep: int, say: Say):
        self._directory, self._keep, self._say = directory, keep, say
        directory.mkdir(parents=True, exist_ok=True)
        self._manager = self._open()
        self._saving: int | None = None  # step that is being written
        self._saved = True  # whether the newest save succeeded
        self.save_seconds: float | None = None  # of a save that was restored or has been written

    def save(self, step: int, states: Tree, loop: dict[str, Any]) -> None:
        """Starts to save the arrays `states` and `loop`, which JSON can hold.

        The arrays are copied before this returns. If the save fails, `say` gets a line and training
        goes on.
        """
        self.wait()
        if step in self._manager.all_steps():
            self._saved = True
            return
        arrays = jax.tree.map(np.asarray, jax.device_get(states))
        self._saving = step
        try:
            self._manager.save(
                step,
                args=ocp.args.StandardSave(arrays),
                custom_metadata=_sealed(arrays, loop),
                force=True,  # the loop decides when to save
            )
        except Exception as error:  # Orbax raises many kinds of errors for a full disk
            self._give_up(error)

    def restore(
        self, abstract: Tree, until: int | None = None
    ) -> tuple[Tree, dict[str, Any]] | None:
        """Returns states (host arrays) and loop state of the newest undamaged checkpoint, or None.

        Damaged checkpoints are renamed, and `say` gets a line.

        Args:
          abstract: structure, shapes and types.
          until: prefers the newest checkpoint up to this step, and deletes later ones.

        Raises:
          UserError: a checkpoint has other shapes: it belongs to another config.
        """
        limit = math.inf if until is None else until
        damages: list[str] = []
        found = None
        for step in sorted(self._manager.all_steps(), key=lambda step: (step > limit, -step)):
            try:
                found = self._read(step, abstract)
            except (UserError, MemoryError, PermissionError):
                raise
            except Exception as error:  # Orbax raises many kinds of errors for damaged files
                damages.append(f"checkpoint {step} is damaged ({_reason(error)})")
                self._put_aside(step)
                continue
            self.save_seconds = self._seconds(step)
            for later in self._manager.all_steps():
                if later > step:
                    self._manager.delete(later)
            break
        if damages:
            after = f"resumes from step {step}" if found else "none is left: starts again"
            self._say("; ".join([*damages, after]))
        return found

    def wait(self) -> bool:
        """Waits until nothing is being written. Returns whether the newest save is on disk."""
        if self._saving is not None:
            try:
                self._manager.wait_until_finished()
            except Exception as error:
                self._give_up(error)
            else:
                self.save_seconds = self._seconds(self._saving)
                self._saving, self._saved = None, True
        return self._saved

    def close(self) -> None:
        """Waits until nothing is being written and ends the background threads."""
        self.wait()
        self._manager.close()

    def _open(self) -> ocp.CheckpointManager:
        """Lists the directory and removes incomplete checkpoints."""
        return ocp.CheckpointManager(
            self._directory,
            item_handlers=ocp.StandardCheckpointHandler(multiprocessing_options=_ALONE),
            options=ocp.CheckpointManagerOptions(
                create=False,
                max_to_keep=self._keep,
                cleanup_tmp_directories=True,
                lightweight_initialize=True,  # reads no checkpoint, which may be damaged
                multiprocessing_options=_ALONE,
            ),
        )

    def _give_up(self, error: Exception) -> None:
        """Reports a failed save and removes its files, so that the next one has room."""
        self._say(
            f"checkpoint at step {self._saving} could not be written ({_reason(error)}); "
            "training goes on"
        )
        self._saving, self._saved = None, False
        with contextlib.suppress(Exception):  # it raises the same error again
            self._manager.close()
        for unfinished in matching(self._directory, "*.orbax-checkpoint-tmp*"):
            with contextlib.suppress(OSError):  # the next save tries again
                unfinished.rmtree()
        self._manager = self._open()

    def _read(self, step: int, abstract: Tree) -> tuple[Tree, dict[str, Any]]:
        """Returns states and loop state of a checkpoint, after checks of sizes and contents.

        Raises:
          UserError: the checkpoint belongs to another config.
          Exception: any exception, if the checkpoint is damaged.
        """
        sealed = self._manager.metadata(step).custom_metadata
        if "loop" not in sealed and "memory" in sealed:
            raise UserError(
                f"Checkpoint {step} in {self._directory} was written by an older version: finish "
                "the sweep with that version, or take another --workdir."
            )
        loop, claimed, expected = sealed["loop"], sealed["layout"], _described(abstract)
        if sealed["seal"] != _seal(loop, claimed, sealed["content"]):
            raise ValueError("the checksum of its description is wrong")
        if claimed != expected:
            name = min(n for n in {*claimed, *expected} if claimed.get(n) != expected.get(n))
            raise UserError(
                f"Checkpoint {step} in {self._directory} is of another config or version: {name} "
                f"is {claimed.get(name, 'missing')} there, {expected.get(name, 'not known')} here. "
                "Take another --workdir."
            )
        if _described(self._manager.item_metadata(step)) != expected:
            raise ValueError("its arrays have other shapes than it says")
        plain = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), abstract)
        arrays = self._manager.restore(step, args=ocp.args.StandardRestore(plain))
        if sealed["content"] != content(arrays):
            raise ValueError("the checksum of its arrays is wrong")
        return arrays, loop

    def _seconds(self, step: int) -> float | None:
        """Returns how long it took to write a checkpoint; None if unknown."""
        with contextlib.suppress(Exception):  # it is for a message only
            times = self._manager.metadata(step)
            return (times.commit_timestamp_nsecs - times.init_timestamp_nsecs) / 1e9
        return None

    def _put_aside(self, step: int) -> None:
        aside = self._directory / f"damaged-{step}"
        if aside.exists():
            aside.rmtree()
        (self._directory / str(step)).rename(aside)
        self._manager.reload()


class Checkpointer:
    """Saves and resumes a group: metrics up to a step, then the checkpoint of that step."""

    def __init__(self, directory: epath.Path, keep: int, trackers: Trackers, say: Say):
        """Keeps the latest `keep` checkpoints in `directory`."""
        self._say, self._trackers = say, trackers
        self._records: list[Record] = []  # that are not in a segment yet
        self._step, self._saved_at = 0, time.monotonic()
        if distributed.first():
            self._segments = LogSegments(directory / "metrics", say)
            self._checkpoints = Checkpoints(directory / "checkpoints", keep, say)
            self._heartbeat = Heartbeat(directory / "status.json")

    def restore(self, population: Population) -> dict[str, Any] | None:
        """Restores the latest undamaged checkpoint and cuts the metrics back to it.

        Returns:
          The loop state; None if there is no checkpoint. Then the population does not change.
        """
        found, abstract = None, population.abstract()

        def read() -> dict[str, Any] | None:
            nonlocal found
            found = self._checkpoints.restore(abstract, self._segments.whole_until())
            loop = found[1] if found else None
            self._step = loop["step"] if loop else 0
            self._segments.rewind(self._step)
            self._trackers.reset(self._segments.records())
            return loop

        loop = distributed.broadcast(read)
        if loop is not None:
            states = distributed.broadcast_arrays(lambda: found and found[0], abstract)
            # The number of steps may have been raised since the checkpoint was written.
            population.restore(replace(states, hyper=population.hyper()))
        return loop

    def add(self, records: list[Record]) -> None:
        """Adds metrics, which the next save writes, and the time."""
        now = time.time()
        self._records += [record | {"time": now} for record in records]

    def heartbeat(self, state: str, **news: Any) -> None:
        """Updates `status.json`; see `Heartbeat.beat`."""
        if distributed.first():
            self._heartbeat.beat(state, **news)

    @property
    def save_seconds(self) -> float | None:
        """Returns how long a save took, of this or an earlier process; None if unknown."""
        return self._checkpoints.save_seconds if distributed.first() else None

    @property
    def age(self) -> float:
        """Returns the seconds since the last save, or since the start."""
        return time.monotonic() - self._saved_at

    def save(self, population: Population, loop: dict[str, Any]) -> None:
        """Saves in the background. If the disk is full, `say` gets a line, and training goes on."""
        states, step = population.states(), loop["step"]
        self._saved_at = time.monotonic()
        if not distributed.first():
            return
        if step > self._step:
            try:
                # The segment comes first: without its checkpoint it is deleted on resume.
                self._segments.write(self._step, step, self._records)
            except OSError as error:
                self._say(f"step {step} could not be saved ({error.strerror}); training goes on")
                return
            self._trackers.add(self._records)
            self._records, self._step = [], step
        self._checkpoints.save(step, states, loop)

    def finish(self, population: Population, loop: dict[str, Any]) -> None:
        """Waits until the last save is on disk; tries again while the disk is full.

        Raises:
          UserError: the disk stayed full for ten minutes.
        """
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while not distributed.broadcast(lambda: self._is_saved(loop["step"])):
            if distributed.all_reduce_max([float(time.monotonic() > deadline)])[0]:
                raise UserError("The last checkpoint could not be written; make room and repeat.")
            time.sleep(_RETRY_SECONDS)
            self.save(population, loop)

    def _is_saved(self, step: int) -> bool:
        return self._checkpoints.wait() and self._step == step

    def records(self) -> list[Record]:
        """Returns all metrics in order of steps; in process 0 only."""
        return list(self._segments.records())

    def close(self) -> None:
        """Frees the resources of the checkpoints."""
        if distributed.first():
            self._checkpoints.close()


def _sealed(arrays: Tree, loop: dict[str, Any]) -> dict[str, Any]:
    """Returns the metadata of a checkpoint: the loop state and checksums."""
    layout, checksum = _described(arrays), content(arrays)
    seal = _seal(loop, layout, checksum)
    return {"loop": loop, "layout": layout, "content": checksum, "seal": seal}


def _seal(loop: dict[str, Any], layout: dict[str, str], content: str) -> str:
    text = json.dumps([loop, layout, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def content(arrays: Tree) -> str:
    """Returns a checksum of all bits of the arrays."""
    digest = hashlib.sha256()
    for _, leaf in sorted(named_leaves(arrays).items()):
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _described(tree: Tree) -> dict[str, str]:
    """Returns type and shape of each array, for messages."""
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named_leaves(tree).items()}


def named_leaves(tree: Tree) -> dict[str, Any]:
    """Returns the leaves of a tree by path, such as "weights/params/head/bias"."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _reason(error: Exception) -> str:
    """Returns a short form of an error message."""
    text = str(error)
    for number in _DISK_ERRORS:
        if os.strerror(number) in text:
            return os.strerror(number)
    if code := re.match("[A-Z_]{4,}(?=: )", text):  # TensorStore, whose messages have many lines
        return code[0].lower().replace("_", " ")
    return (text or type(error).__name__).partition("\n")[0][:100]
