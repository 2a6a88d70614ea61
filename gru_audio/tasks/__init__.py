"""What turns data fields and model outputs into a loss and metrics: one file per task."""

from ml_collections import ConfigDict

from gru_audio.config import UserError, nearest
from gru_audio.tasks.classification import Classification

Task = Classification  # a union, once there are more
TASKS: dict[str, type[Task]] = {"classification": Classification}


def make_task(config: ConfigDict, class_names: tuple[str, ...]) -> Task:
    """The task that `config.task.name` names, for the classes of the target field."""
    if config.name not in TASKS:
        raise UserError(
            f'config.task.name="{config.name}" is unknown.{nearest(config.name, TASKS)}'
        )
    return TASKS[config.name](class_names)
