"""What turns data fields and model outputs into a loss and metrics: one file per kind of task."""

from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from gru_audio.settings import UserError, choose, make, setting
from gru_audio.tasks.classification import Classification
from gru_audio.tasks.memory import Adding, CopyMemory, Counting
from gru_audio.tasks.next_step import NextStep
from gru_audio.tasks.tagging import Tagging
from gru_audio.tasks.task import Task

TASKS: dict[str, Any] = {
    "classification": Classification,
    "tagging": Tagging,
    "next_step": NextStep,
    "adding": Adding,
    "copy_memory": CopyMemory,
    "counting": Counting,
}


@dataclass(frozen=True)
class TaskSettings:
    """The section `task` of a config: what all tasks have."""

    name: str = setting("classification", choices=TASKS, doc="The task.")


def make_task(config: ConfigDict, class_names: tuple[str, ...], features: int) -> Task:
    """The task that `config.name` asks for.

    Args:
      config: the `task` part of a config.
      class_names: of the target field; () if there is none.
      features: values in a frame.

    Raises:
      UserError: an unknown name, or a task that this data cannot have.
    """
    chosen = choose("task", config.name, TASKS)
    task = make(chosen, config, class_names=class_names, features=features)
    if "class_names" in chosen.__dataclass_fields__:
        if not class_names:
            raise UserError(f"config.task.name={config.name} needs config.data.target, a field.")
        if not task.outputs:
            raise UserError(f"config.task.name={config.name}: no clip has any of its labels.")
    if getattr(task, "width", features) != features:
        raise UserError(
            f"config.task.name={config.name} needs frames of {task.width}, not of {features} "
            "values."
        )
    return task
