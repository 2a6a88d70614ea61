"""Tasks: they turn data fields and model outputs into targets, a loss and metrics."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from gru_audio.data.fields import Field, TagsField
from gru_audio.settings import UserError, choose, make, setting
from gru_audio.tasks.classification import Classification
from gru_audio.tasks.ctc import Ctc
from gru_audio.tasks.events import SoundEvents
from gru_audio.tasks.memory import Adding, CopyMemory, Counting
from gru_audio.tasks.metrics import Metric, metrics_of, named
from gru_audio.tasks.next_step import NextStep
from gru_audio.tasks.tagging import Tagging
from gru_audio.tasks.task import Task

if TYPE_CHECKING:
    from gru_audio.data.source import Source

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "tagging": Tagging,
    "ctc": Ctc,
    "events": SoundEvents,
    "next_step": NextStep,
    "adding": Adding,
    "copy_memory": CopyMemory,
    "counting": Counting,
}


@dataclass(frozen=True)
class TaskSettings:
    """The section `task` of a config: the settings of all tasks."""

    name: str = setting("classification", choices=TASKS, doc="The task.")


def target_field(source: "Source", config: ConfigDict) -> Field | None:
    """Returns the field `config.data.target` of a data set; None if there is no target.

    Raises:
      UserError: the data set has no such field, or the task needs a field of another type.
    """
    field = source.field(config.data.target)
    task = choose("task", config.task.name, TASKS)
    needs = task.needs
    if needs is None:
        return field
    if isinstance(field, needs):
        return task.field_for(field, config.task)
    what = (
        f'"{config.data.target}" of {source.name} has {field.plural}' if field else "there is none"
    )
    raise UserError(
        f"config.task.name={config.task.name} needs config.data.target, a field of "
        f"{needs.plural}, and {what}.{source.of_kind(needs)}"
        f"{_how_to_get_tags(source, config.data.target) if needs is TagsField and field else ''}"
    )


def _how_to_get_tags(source: "Source", target: str) -> str:
    """Returns the command that prepares the data set again, with the target as a field of tags."""
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
    """Makes the task `config.name`.

    Args:
      config: the `task` section of a config.
      field: the target field; None if there is none.
      features: values per frame.

    Raises:
      UserError: the name is unknown, or the data does not suit the task.
    """
    task = build_task(config, field.output_names if field else (), features)
    needs = task.needs
    if needs is not None and not isinstance(field, needs):
        raise UserError(
            f"config.task.name={config.name} needs config.data.target, a field of {needs.plural}."
        )
    if needs is not None and not task.outputs:
        raise UserError(f"config.task.name={config.name}: no clip has any of its labels.")
    width = task.width or features
    if width != features:
        raise UserError(
            f"config.task.name={config.name} needs frames of {width}, not of {features} values."
        )
    return task


def build_task(config: ConfigDict, output_names: tuple[str, ...], features: int = 0) -> Task:
    """Makes the task `config.name` without a check of the data, which is enough for reports.

    Raises:
      UserError: the name is unknown.
    """
    return make(
        choose("task", config.name, TASKS), config, output_names=output_names, features=features
    )


def metric_called(name: str) -> Metric:
    """Returns the metric `name` of any task, for results whose task is unknown.

    Raises:
      UserError: no task has this metric.
    """
    tasks = (make(task, {}, output_names=("any",), features=1) for task in TASKS.values())
    return named([metric for task in tasks for metric in metrics_of(task)], name, "metric")
