"""Saving and restoring: the only room that knows Orbax.

A group's checkpoint holds the stacked state of its members and what the loop remembers between
calls. A model that has been trained is written once more, on its own, with all it needs to be used.
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
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from gru_audio.data import npz
from gru_audio.data.npz import Layout
from gru_audio.files import matching, read_bytes, read_json, write_atomically
from gru_audio.settings import UserError

Tree = Any
Say = Callable[[str], None]  # what to do with a line about something that ends nothing

# Orbax's newer interface lets all processes meet at barriers; with this one the first works alone.
_ALONE = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="checkpoints"
)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def hush() -> None:
    """Keeps Orbax and the asyncio beneath it from printing stack traces of what is said here.

    Reads and writes beside one that failed would each show another; for commands.
    """
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    show = sys.unraisablehook
    sys.unraisablehook = lambda problem: (
        None if str(problem.exc_value) == "Event loop is closed" else show(problem)
    )


class Checkpoints:
    """The checkpoints of one group, by step. Saving happens in the background.

    Of several processes only the first (index 0) may have one; it waits for no other.

    A checkpoint becomes visible only when it is whole (it is renamed into place), and an older one
    goes only after that, so whatever the moment of a kill, a whole one is there. Checksums tell
    whether it still is when it is read.
    """

    def __init__(self, directory: epath.Path, keep: int, say: Say):
        self._directory, self._keep, self._say = directory, keep, say
        directory.mkdir(parents=True, exist_ok=True)
        self._manager = self._open()
        self._saving: int | None = None  # the step that is being written
        self._saved = True  # whether the newest save came to a good end

    def save(self, step: int, state: Tree, memory: dict[str, Any]) -> None:
        """Starts a save of the arrays `state` and of `memory`, which JSON can hold.

        The arrays are of the host, or of devices that this process can read. They are copied before
        this returns. A save that fails is said, and training goes on.
        """
        self.wait()
        if step in self._manager.all_steps():
            self._saved = True
            return
        arrays = jax.tree.map(np.asarray, jax.device_get(state))
        self._saving = step
        try:
            self._manager.save(
                step,
                args=ocp.args.StandardSave(arrays),
                custom_metadata=_sealed(arrays, memory),
                force=True,  # when to save is the loop's to decide
            )
        except Exception as error:  # what Orbax makes of a disk that refuses is not to be foreseen
            self._give_up(error)

    def restore(
        self, abstract: Tree, until: int | None = None
    ) -> tuple[Tree, dict[str, Any]] | None:
        """State (host arrays) and memory of the newest whole checkpoint, `None` if there is none.

        Damaged ones are put aside under another name, and it says so.

        Args:
          abstract: gives structure, shapes and dtypes.
          until: prefers the newest that is not past this step, and drops those that are.

        Raises:
          UserError: a checkpoint is whole, but of other shapes: of another config.
        """
        limit = math.inf if until is None else until
        damages: list[str] = []
        found = None
        for step in sorted(self._manager.all_steps(), key=lambda step: (step > limit, -step)):
            try:
                found = self._read(step, abstract)
            except (UserError, MemoryError, PermissionError):
                raise
            except Exception as error:  # nor what it makes of damaged files
                damages.append(f"checkpoint {step} is damaged ({_reason(error)})")
                self._put_aside(step)
                continue
            for later in self._manager.all_steps():
                if later > step:
                    self._manager.delete(later)
            break
        if damages:
            after = f"uses the one of step {step}" if found else "none is left: starts anew"
            self._say("; ".join([*damages, after]))
        return found

    def wait(self) -> bool:
        """Returns when nothing is being written; whether the newest save is on disk."""
        if self._saving is not None:
            try:
                self._manager.wait_until_finished()
            except Exception as error:
                self._give_up(error)
            else:
                self._saving, self._saved = None, True
        return self._saved

    def close(self) -> None:
        """Ends what runs in the background, after what is being written."""
        self.wait()
        self._manager.close()

    def _open(self) -> ocp.CheckpointManager:
        """Takes stock of the directory and removes what was left half-written."""
        return ocp.CheckpointManager(
            self._directory,
            item_handlers=ocp.StandardCheckpointHandler(multiprocessing_options=_ALONE),
            options=ocp.CheckpointManagerOptions(
                create=False,
                max_to_keep=self._keep,
                cleanup_tmp_directories=True,
                lightweight_initialize=True,  # opens no checkpoint that may be damaged
                multiprocessing_options=_ALONE,
            ),
        )

    def _give_up(self, error: Exception) -> None:
        """After a failed save: says so, and makes its room free for the next."""
        self._say(
            f"checkpoint at step {self._saving} could not be written ({_reason(error)}); "
            "training goes on"
        )
        self._saving, self._saved = None, False
        with contextlib.suppress(Exception):  # tells of the same error once more
            self._manager.close()
        for unfinished in matching(self._directory, "*.orbax-checkpoint-tmp*"):
            with contextlib.suppress(OSError):  # what is still there is tried again by the next
                unfinished.rmtree()
        self._manager = self._open()

    def _read(self, step: int, abstract: Tree) -> tuple[Tree, dict[str, Any]]:
        """State and memory, after everything has been checked that can be, sizes first.

        Raises:
          UserError: the checkpoint is of another config.
          Exception: of any kind if it is damaged.
        """
        sealed = self._manager.metadata(step).custom_metadata
        memory, claimed, expected = sealed["memory"], sealed["layout"], _described(abstract)
        if sealed["seal"] != _seal(memory, claimed, sealed["content"]):
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
        if sealed["content"] != _content(arrays):
            raise ValueError("the checksum of its arrays is wrong")
        return arrays, memory

    def _put_aside(self, step: int) -> None:
        aside = self._directory / f"damaged-{step}"
        if aside.exists():
            aside.rmtree()
        (self._directory / str(step)).rename(aside)
        self._manager.reload()


def _sealed(arrays: Tree, memory: dict[str, Any]) -> dict[str, Any]:
    """What lies beside the arrays of a checkpoint: the memory, and how to know damage."""
    layout, content = _described(arrays), _content(arrays)
    seal = _seal(memory, layout, content)
    return {"memory": memory, "layout": layout, "content": content, "seal": seal}


def _seal(memory: dict[str, Any], layout: dict[str, str], content: str) -> str:
    text = json.dumps([memory, layout, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(arrays: Tree) -> str:
    """Changes with any bit of the arrays."""
    digest = hashlib.sha256()
    for _, leaf in sorted(_named(arrays).items()):
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _described(tree: Tree) -> dict[str, str]:
    """Type and shape of each array, as people read them."""
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in _named(tree).items()}


def _named(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by their paths, such as "weights/params/head/bias"."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _reason(error: Exception) -> str:
    """An error in a few words."""
    text = str(error)
    for number in _DISK_ERRORS:
        if os.strerror(number) in text:
            return os.strerror(number)
    if code := re.match("[A-Z_]{4,}(?=: )", text):  # of TensorStore, whose messages run for lines
        return code[0].lower().replace("_", " ")
    return (text or type(error).__name__).partition("\n")[0][:100]


def save_model(directory: epath.Path, arrays: Tree, description: dict[str, Any]) -> None:
    """Writes a trained model: `arrays.npz`, and `model.json` last, which marks it complete."""
    named = {name: np.asarray(leaf) for name, leaf in _named(jax.device_get(arrays)).items()}
    write_atomically(directory / "arrays.npz", npz.encode(named, compressed=False))
    text = json.dumps(description, indent=1, sort_keys=True)
    write_atomically(directory / "model.json", text)


def load_model(
    directory: epath.Path, expected: Callable[[dict[str, Any]], Tree] | None = None
) -> tuple[Tree, dict[str, Any]]:
    """Arrays (host, as nested dicts) and description of a model that `save_model` wrote.

    Nothing in it is executed, and no array is read before its size has been checked.

    Args:
      directory: the model's.
      expected: gives, for a description, shapes and dtypes that the arrays must have.

    Raises:
      UserError: there is no model, or it is damaged, or not what its description says.
    """
    file = directory / "model.json"
    if not file.exists():
        raise UserError(f"No trained model in {directory}: {file.name} is missing.")
    try:
        description = read_json(file)
        data = read_bytes(directory / "arrays.npz")
        found = npz.layouts(data)
        if expected is not None:
            _compare(found, _named(expected(description)))
        return _nested(npz.decode(data)), description
    except Exception as error:  # a crafted description fails wherever it is first believed
        reason = str(error) or type(error).__name__
        raise UserError(f"The model in {directory} cannot be used: {reason}") from error


def _compare(found: Mapping[str, Layout], expected: Mapping[str, Any]) -> None:
    for name in sorted({*found, *expected}):
        its = found.get(name)
        due = expected.get(name) and Layout(expected[name].shape, expected[name].dtype)
        if its != due:
            raise ValueError(f"{name} should be {due}, and is {its}.")


def _nested(arrays: Mapping[str, np.ndarray]) -> Tree:
    """{"a/b": x} as {"a": {"b": x}}."""
    tree: dict[str, Any] = {}
    for name, leaf in arrays.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = leaf
    return tree
