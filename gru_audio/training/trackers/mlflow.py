"""MLflow: a run of an MLflow experiment, in the store that `MLFLOW_TRACKING_URI` names.

Without that variable the store is `mlflow.db` in the working directory.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from gru_audio.training.logging import Record
from gru_audio.training.trackers.tracker import TrackedRun, Tracker, scalars, timestamp

_TAG = "gru_audio.run"
_METRICS, _PARAMS, _CHARACTERS = 1000, 100, 6000  # limits of a request to MLflow


class Mlflow(Tracker):
    """Sends the points that the store lacks."""

    def __init__(self, run: TrackedRun):
        super().__init__(run)
        self._client = MlflowClient()
        experiment = self._experiment()
        tag = f"tags.`{_TAG}` = '{run.identifier()}'"
        found = self._client.search_runs([experiment], tag)
        tags = {_TAG: run.identifier(), "variant": run.variant}
        there = found[0] if found else self._client.create_run(experiment, None, tags, run.name)
        self._id = there.info.run_id
        self._client.update_run(self._id, status="RUNNING")
        self._shown = {
            (name, point.step)
            for name in there.data.metrics
            for point in self._client.get_metric_history(self._id, name)
        }
        params = [
            Param(name, str(value)[:_CHARACTERS])
            for name, value in run.settings.items()
            if name not in there.data.params  # MLflow does not replace them
        ]
        for part in _parts(params, _PARAMS):
            self._client.log_batch(self._id, params=part)

    def update(self, records: Sequence[Record]) -> None:
        self._send(
            [
                Metric(name, value, round(1000 * timestamp(record)), record["step"])
                for record in records
                for name, value in scalars(record).items()
            ]
        )

    def finish(self, records: Sequence[Record], final: Mapping[str, float] | None) -> None:
        self.update(records)
        if records and final:
            last, time = records[-1]["step"], round(1000 * timestamp(records[-1]))
            self._send([Metric(name, v, time, last) for name, v in scalars(dict(final)).items()])
        self._client.set_terminated(self._id, "FAILED" if final is None else "FINISHED")

    def close(self) -> None:
        self._client.set_terminated(self._id, "KILLED")

    def _send(self, metrics: Sequence[Metric]) -> None:
        new = [metric for metric in metrics if (metric.key, metric.step) not in self._shown]
        for part in _parts(new, _METRICS):
            self._client.log_batch(self._id, metrics=part)
            self._shown |= {(metric.key, metric.step) for metric in part}

    def _experiment(self) -> str:
        """Returns the id of the experiment, which is created if it is new."""
        name = self.run.project
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:  # another shard has created it in the meantime
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
