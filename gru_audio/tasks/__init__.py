"""What turns data fields and model outputs into a loss and metrics: one file per kind of task."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from gru_audio.config import UserError, nearest
from gru_audio.data.fields import ClassesField, Field
from gru_audio.data.source import Source
from gru_audio.tasks.classification import Classification
from gru_audio.tasks.memory import Adding, CopyMemory, Counting
from gru_audio.tasks.metrics import Metric, named
from gru_audio.tasks.next_step import DISTRIBUTIONS, NextStep
from gru_audio.tasks.tagging import Tagging
from gru_audio.tasks.task import Task

_OF_LABELS: Mapping[str, type[Classification | Tagging]] = {
    "classification": Classification,
    "tagging": Tagging,
}
_OF_MEMORY: Mapping[str, tuple[Task, int]] = {  # and the values of their frames
    "adding": (Adding(), 2),
    "copy_memory": (CopyMemory(), 1),
    "counting": (Counting(), 2),
}
TASKS = (*_OF_LABELS, *_OF_MEMORY, "next_step")


def target_field(source: Source, config: ConfigDict) -> Field | None:
    """The field of `config.data.target`; None if there is none.

    Raises:
      UserError: the data set has no such field, or the task needs one of another type.
    """
    field, task = source.field(config.data.target), _OF_LABELS.get(config.task.name)
    needs = task.needs if task else None
    if needs is None or isinstance(field, needs):
        return field
    what = (
        f'"{config.data.target}" of {source.name} has {field.plural}' if field else "there is none"
    )
    raise UserError(
        f"config.task.name={config.task.name} needs config.data.target, a field of "
        f"{needs.plural}, and {what}.{source.of_kind(needs)}"
        f"{_how_to_get_tags(source, config.data.target) if task is Tagging and field else ''}"
    )


def _how_to_get_tags(source: Source, target: str) -> str:
    """How to prepare a data set so that a field of classes becomes one of tags."""
    sounds = {
        "Manifest": "--manifest LIST.csv",
        "Features": "--archive FILE",
        "Folder": "--folder DIR",
    }
    if source.builder not in sounds:
        return ""
    return (
        f" If its classes are sets of tags: python -m gru_audio.prepare {source.builder.lower()} "
        f"--name {source.name} {sounds[source.builder]} --tags {target} --overwrite, with the "
        "other options as before."
    )


def make_task(config: ConfigDict, field: Field | None, features: int) -> Task:
    """The task that `config.name` asks for.

    Args:
      config: the `task` part of a config.
      field: that it learns from; None if there is none.
      features: values in a frame.

    Raises:
      UserError: an unknown name, or a task that this data cannot have.
    """
    task = build_task(config, field.names if isinstance(field, ClassesField) else (), features)
    if kind := _OF_LABELS.get(config.name):
        needs = kind.needs or Field
        if not isinstance(field, ClassesField) or not isinstance(field, needs):
            raise UserError(
                f"config.task.name={config.name} needs config.data.target, a field of "
                f"{needs.plural}."
            )
        if not field.names:
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


def build_task(config: ConfigDict, answers: tuple[str, ...], features: int = 0) -> Task:
    """The task that `config.name` asks for, as far as its data is known: enough for a report.

    Raises:
      UserError: an unknown name.
    """
    if config.name in _OF_LABELS:
        return _OF_LABELS[config.name](answers)
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
