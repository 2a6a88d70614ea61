"""Scores a finished run on a split, and each of its classes or tags.

  python -m gru_audio.evaluate --workdir runs/spoken_digit --run GRU-seed0
  python -m gru_audio.evaluate --workdir runs/one --split validation --json

--split is "train", "validation" or "test" as the run's config defines them (with its hold-out), or
the name of any split of the data set. --data scores another prepared data set; the model must know
its classes or tags. --data_dir is the folder of prepared data sets. --experiment names the
experiment file if it defines components of the run, such as a cell or a model.

Each example is scored once: the whole clip, or its middle if it is longer than
config.data.crop_seconds. `predict` labels clips in the same way.
"""

import json
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags
from rich.table import Table

from gru_audio import command
from gru_audio.data.fields import Values, take
from gru_audio.data.source import Source, open_source
from gru_audio.data.split import ROLES, select
from gru_audio.inference.printer import plain_console
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError, nearest
from gru_audio.sweeps.workdir import Workdir
from gru_audio.tasks.metrics import measure, metrics_of

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run was trained.")
_RUN = flags.DEFINE_string("run", None, "The run, if the workdir has several.")
_SPLIT = flags.DEFINE_string("split", "test", "The split to score.")
_DATA = flags.DEFINE_string("data", None, "Another prepared data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets are prepared.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
command.define_experiment()
flags.mark_flag_as_required("workdir")


def main(_: Sequence[str]) -> None:
    trained = TrainedModel.load(Workdir(_WORKDIR.value).find_model(_RUN.value))
    config = trained.config
    source = open_source(_DATA.value or config.data.name, _DATA_DIR.value or config.data.dir)
    if source.signal.rate != trained.signal.rate:
        raise UserError(
            f"{source.name} has {source.signal.rate} Hz, but the model was trained on "
            f"{trained.signal.rate} Hz: prepare it with --sample_rate {trained.signal.rate}."
        )
    if source.signal != trained.signal:
        raise UserError(
            f"The steps of {source.name} are {source.signal.dtype} {source.signal.shape}, but the "
            f"model was trained on {trained.signal.dtype} {trained.signal.shape}."
        )
    if not _DATA.value and source.fingerprint != trained.about.get("data_fingerprint"):
        print(
            f"warning: {source.name} has changed since {trained.about['run']} was trained on it: "
            "the scored examples may include training examples.",
            file=sys.stderr,
        )
    ids, task = _examples(source, trained), trained.program().task
    labels = task.labels(take(_values(source, trained), ids))
    scores = trained.scores(source.signals(ids), labels)

    metrics, rows = measure(metrics_of(task), scores), task.table(scores)
    if _JSON.value:
        print(json.dumps({"split": _SPLIT.value, "metrics": metrics, "classes": rows}))
        return
    summary = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"{trained.about['run']} on {source.name}, {_SPLIT.value}: {summary}")
    if not rows:
        return
    name, count, *metric_names = rows[0]
    table = Table(name)
    for column in (count, *metric_names):
        table.add_column(column, justify="right")
    for row in rows:
        cells = ["-" if row[x] is None else f"{row[x]:.1%}" for x in metric_names]
        table.add_row(row[name], str(row[count]), *cells)
    plain_console().print(table)


def _examples(source: Source, trained: TrainedModel) -> np.ndarray:
    """Returns the example ids to score: a role of the run, or a split of the data set."""
    split = _SPLIT.value
    if _DATA.value is None and split in ROLES:
        ids = select(source, trained.config.data, trained.config.seed)[split]
    elif split in source.splits():
        known = source.known(trained.config.data.target)
        ids = np.flatnonzero((source.columns["split"] == split) & known)
    else:
        choices = {*ROLES, *source.splits()}
        raise UserError(f'{source.name} has no split "{split}".{nearest(split, choices)}')
    if not len(ids):
        raise UserError(f'There are no examples in split "{split}" of {source.name}.')
    return ids


def _values(source: Source, trained: TrainedModel) -> Values:
    """Returns every example's value of the model's field, with the model's class indices."""
    target = trained.config.data.target
    field, values = source.field(target), source.values(target)
    if trained.field is None or field is None:
        return values
    return trained.field.matched(field, values, source.name)


if __name__ == "__main__":
    command.run(main)
