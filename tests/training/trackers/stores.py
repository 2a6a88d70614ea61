"""Reads what trackers have stored, by their own formats."""

import json
import struct
import time
import zlib
from pathlib import Path

_HEADER, _BLOCK, _BLOCK_HEADER = 7, 32768, 7  # of W&B's log, which is LevelDB's


def identifier(folder: Path) -> str:
    """Returns the name that trackers know a run by, from its folder in the workdir."""
    return (folder / "tracker_id").read_text()


def wandb_points(file: Path) -> tuple[list[tuple[int, str, float]], dict[str, str]]:
    """Returns the points (step, name, value) of a .wandb file, and its summary as JSON.

    Another process writes the file, so that its end may come after the run has been finished.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    points, summary, deadline = [], {}, time.monotonic() + 30
    while True:
        records = [Record.FromString(content) for content in _records(file.read_bytes())]
        if records and records[-1].HasField("exit"):
            break
        assert time.monotonic() < deadline, f"{file} has no end"
        time.sleep(0.05)
    for record in records:
        values = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
        for name, value in values.items():
            if not name.startswith("_"):
                points.append((int(values["_step"]), name, json.loads(value)))
        for item in record.summary.update:
            summary["/".join(item.nested_key) or item.key] = item.value_json
    return points, summary


def _records(data: bytes):
    position, record = _HEADER, b""
    while position + _BLOCK_HEADER < len(data):
        left = _BLOCK - position % _BLOCK
        if left < _BLOCK_HEADER:
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        position += _BLOCK_HEADER
        part = data[position : position + length]
        if zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            return  # the process was killed during a write
        position, record = position + length, record + part
        if kind in (1, 4):  # the whole record, or its last part
            yield record
            record = b""


def mlflow_points(address: str, run: str) -> list[tuple[int, str, float]]:
    """Returns the points of the one MLflow run of this name."""
    from mlflow import MlflowClient

    client = MlflowClient(address)
    experiments = [each.experiment_id for each in client.search_experiments()]
    (found,) = client.search_runs(experiments, f"attributes.run_name = '{run}'")
    return [
        (point.step, name, point.value)
        for name in found.data.metrics
        for point in client.get_metric_history(found.info.run_id, name)
    ]
