"""Saving and restoring: the only room that knows Orbax.

A group's checkpoint holds the stacked state of its members and what the loop remembers between
calls. A model that has been trained is written once more, on its own, with all it needs to be used.
"""

import json
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from gru_audio.config import UserError

Tree = Any


class Checkpoints:
    """The checkpoints of one group, by step. Saving happens in the background.

    A checkpoint becomes visible only when it is whole (it is renamed into place), so whatever the
    moment of a kill, the one before is there.
    """

    def __init__(self, directory: epath.Path, keep: int):
        training = ocp.training
        self._checkpointer = training.Checkpointer(
            directory,
            save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def save(self, step: int, state: Tree, memory: dict[str, Any]) -> None:
        """Starts a save of device arrays `state` and of `memory`, which JSON can hold."""
        self._checkpointer.save_async(step, state, custom_metadata=memory, overwrite=True)

    def restore(self, abstract: Tree) -> tuple[Tree, dict[str, Any]] | None:
        """State and memory of the latest checkpoint; `abstract` gives shapes and shardings."""
        latest = self._checkpointer.latest
        if latest is None:
            return None
        state = self._checkpointer.load(latest.step, abstract)
        return state, self._checkpointer.metadata(latest.step).custom_metadata

    def wait(self) -> None:
        """Returns when every save is on disk."""
        self._checkpointer.wait()

    def close(self) -> None:
        self._checkpointer.close()


def save_model(directory: epath.Path, arrays: Tree, description: dict[str, Any]) -> None:
    """Writes a trained model: `arrays` by Orbax, and `model.json` last, which marks it complete."""
    ocp.save(directory / "arrays", arrays, overwrite=True)
    text = json.dumps(description, indent=1, sort_keys=True)
    write_atomically(directory / "model.json", text)


def load_model(directory: epath.Path) -> tuple[Tree, dict[str, Any]]:
    """Arrays (host, as nested dicts) and description of a model that `save_model` wrote."""
    file = directory / "model.json"
    if not file.exists():
        raise UserError(f"No trained model in {directory}: {file.name} is missing.")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = ocp.metadata(directory / "arrays").metadata
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes
    )
    return ocp.load(directory / "arrays", abstract), json.loads(file.read_text())


def write_atomically(path: epath.Path, text: str) -> None:
    """Writes a small file so that a reader sees the old or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.part"
    temporary.write_text(text)
    temporary.replace(path)
