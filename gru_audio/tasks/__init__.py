"""What turns data fields and model outputs into a loss and metrics: one file per kind of task."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from gru_audio.config import UserError, nearest
from gru_audio.tasks.classification import Classification
from gru_audio.tasks.memory import Adding, CopyMemory, Counting
from gru_audio.tasks.metrics import Metric, named
from gru_audio.tasks.next_step import DISTRIBUTIONS, NextStep
from gru_audio.tasks.tagging import Tagging
from gru_audio.tasks.task import Task

_OF_LABELS: Mapping[str, Callable[[tuple[str, ...]], Task]] = {
    "classification": Classification,
    "tagging": Tagging,
}
_OF_MEMORY: Mapping[str, tuple[Task, int]] = {  # and the values of their frames
    "adding": (Adding(), 2),
    "copy_memory": (CopyMemory(), 1),
    "counting": (Counting(), 2),
}
TASKS = (*_OF_LABELS, *_OF_MEMORY, "next_step")


def make_task(config: ConfigDict, class_names: tuple[str, ...], features: int) -> Task:
    """The task that `config.name` asks for.

    Args:
      config: the `task` part of a config.
      class_names: of the target field; () if there is none.
      features: values in a frame.

    Raises:
      UserError: an unknown name, or a task that this data cannot have.
    """
    task = build_task(config, class_names, features)
    if config.name in _OF_LABELS:
        if not class_names:
            raise UserError(f"config.task.name={config.name} needs config.data.target, a field.")
        if not task.outputs:
            raise UserError(f"config.task.name={config.name}: no clip has any of its labels.")
        return task
    if config.label_smoothing:
        raise UserError(f"config.task.name={config.name} has no labels: set label_smoothing to 0.")
    _, width = _OF_MEMORY.get(config.name, (task, features))
    if features != width:
        raise UserError(
            f"config.task.name={config.name} needs frames of {width}, not of {features} values."
        )
    return task


def build_task(config: ConfigDict, class_names: tuple[str, ...], features: int = 0) -> Task:
    """The task that `config.name` asks for, as far as its data is known: enough for a report.

    Raises:
      UserError: an unknown name.
    """
    if config.name in _OF_LABELS:
        return _OF_LABELS[config.name](class_names)
    if config.name in _OF_MEMORY:
        return _OF_MEMORY[config.name][0]
    if config.name != "next_step":
        raise UserError(
            f'config.task.name="{config.name}" is unknown.{nearest(config.name, TASKS)}'
        )
    if config.distribution not in DISTRIBUTIONS:
        hint = nearest(config.distribution, DISTRIBUTIONS)
        raise UserError(f'config.task.distribution="{config.distribution}" is unknown.{hint}')
    return NextStep(features, config.distribution, config.first_frame)


def metric_called(name: str) -> Metric:
    """The metric of a name, for results whose task is not known.

    Raises:
      UserError: no task has it.
    """
    tasks: tuple[Task, ...] = (Classification(()), Tagging(("tag",)), NextStep(0))
    return named([metric for task in tasks for metric in task.metrics], name, "metric")
