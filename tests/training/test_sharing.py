"""A lone run shares its batch over devices where that is faster, and keeps to the choice."""

import functools
import json
import time

import jax
import numpy as np
import pytest
from etils import epath

from gru_audio.config import check, override
from gru_audio.settings import UserError
from gru_audio.sweeps.execute import execute
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.sweep import Sweep
from gru_audio.sweeps.workdir import Workdir
from gru_audio.training import sharing
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.loader import ResidentLoader
from tests.tones import make_loader, tiny

STEPS = {"train.steps": sharing.LEAST_STEPS}


class Slow(ResidentLoader):
    """Takes 50 ms for every call."""

    def train(self, *arguments):
        time.sleep(0.05)
        return super().train(*arguments)


def make(source, slow, devices):
    """Returns a loader of one run whose batch some devices share; it is slow with `slow` ones."""
    loader = make_loader(source, [tiny(STEPS | {"parallel.data": devices})])
    if devices == slow:
        loader.__class__ = Slow
    return loader


@pytest.mark.parametrize(
    ("batch", "parts", "members", "steps", "counts"),
    [
        (8, 1, 1, 200, [1, 8]),
        (8, 2, 1, 200, [1, 4]),
        (12, 1, 1, 200, [1, 6]),
        (11, 1, 1, 200, [1]),
        (8, 1, 2, 200, [1]),
        (8, 1, 1, 199, [1]),
    ],
)
def test_candidates(batch, parts, members, steps, counts):
    config = tiny(
        {"train.batch_size": batch, "train.grad_accumulation": parts, "train.steps": steps}
    )
    assert jax.device_count() == 8
    assert sharing.candidates(config, members) == counts


def test_the_faster_one_is_taken_and_kept(source, tmp_path):
    file, said = epath.Path(tmp_path) / "group" / "shared_batch.json", []
    hyper = hyperparameters([tiny(STEPS)])

    def choose(slow):
        makes = functools.partial(make, source, slow)
        return sharing.choose([1, 2], makes, hyper, file, said.append).placement.data_devices

    assert choose(slow=1) == 2
    found = json.loads(file.read_text())
    assert found["devices"] == 2 and found["step_ms"]["1"] > found["step_ms"]["2"]
    assert len(said) == 1 and "batch: 2 " in said[0]
    assert choose(slow=2) == 2  # as the run began
    assert len(said) == 1


@pytest.mark.parametrize(
    ("text", "devices"),
    [('{"devices": 2}', 2), ('{"devices": 16}', None), ("{", None), ("[]", None), (None, None)],
    ids=["kept", "too many", "torn", "other", "missing"],
)
def test_a_choice_that_is_not_possible_here_is_not_taken(tmp_path, text, devices):
    file = epath.Path(tmp_path) / "shared_batch.json"
    if text is not None:
        file.write_text(text)
    assert sharing.kept(file, [1, 2]) == devices


def test_a_run_tells_how_many_devices_shared_its_batch(data_dir, tmp_path):
    config = tiny(STEPS | {"data.dir": str(data_dir), "parallel.data": 0})
    workdir = Workdir(tmp_path)
    ready = plan(config, Sweep({"GRU": {}}), "tones", "", "")
    assert execute(ready, workdir) == []
    (run,), (group,) = ready.runs, ready.groups
    found = json.loads((workdir.run(run.name) / "result.json").read_text())
    kept = json.loads((workdir.group(group.name) / "shared_batch.json").read_text())
    assert found["batch_devices"] == kept["devices"] in (1, 8)
    assert set(kept["step_ms"]) == {"1", "8"}
    assert np.all(np.array(list(kept["step_ms"].values())) > 0)


def test_several_processes_must_say_how_many():
    config = override(tiny(), {"parallel.data": 0, "parallel.coordinator": "auto"})
    with pytest.raises(UserError, match="measures in one process only"):
        check(config)
