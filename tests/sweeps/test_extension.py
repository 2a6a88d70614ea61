"""The number of steps of an existing sweep is raised."""

import copy
import json

import pytest

from gru_audio.settings import UserError
from gru_audio.sweeps.workdir import Workdir

CONFIG = {
    "data.validation": "validation",
    "model.hidden": 8,
    "optimizer.schedule": "constant",
    "train.eval_every": 10,
    "train.steps": 20,
}


def sweep(variants=({},), halving=None, **changes):
    names = [f"variant{i}" for i, _ in enumerate(variants)]
    return {
        "experiment": "tones",
        "command": "the command",
        "config": CONFIG | changes,
        "variants": dict(zip(names, map(dict, variants), strict=True)),
        "trials": [{}],
        "replicates": [{"seed": 0}],
        "halving": halving,
        "data_fingerprint": "abc",
        "environment": {"jax": "0.10.2"},
        "runs": [
            {"run": name, "variant": name, "trial": {}, "replicate": {"seed": 0}, "group": "one"}
            for name in names
        ],
    }


def more(description, steps=40):
    longer = copy.deepcopy(description)
    longer["config"]["train.steps"] = steps
    return longer


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (sweep(), ""),
        (sweep(**{"train.steps": 3000}), "holds another sweep.*\n.*config.train.steps: "),  # fewer
        (sweep(**{"optimizer.schedule": "cosine"}), "schedule=cosine spreads .* another --workdir"),
        (sweep([{}, {"optimizer.schedule": "linear"}]), "variant1 of 20 .* 40: .*schedule=linear"),
        (sweep(**{"train.steps": 25}), "no multiple of config.train.eval_every=10"),
        (sweep(**{"train.steps": 25, "data.validation": ""}), ""),
        (sweep([{}, {"train.steps": 10}]), ""),
        (sweep([{}, {"train.steps": 30}]), "variant0 of 20 steps .* gone on to step 30 without it"),
    ],
)
def test_what_may_go_on(tmp_path, capsys, description, message):
    workdir = Workdir(tmp_path)
    workdir.claim(description)
    longer = more(description) | {"command": "another", "environment": {"jax": "0.12.0"}}
    before = json.loads(workdir.sweep_file.read_text())
    if message:
        with pytest.raises(UserError, match=message):
            workdir.claim(longer)
        assert json.loads(workdir.sweep_file.read_text()) == before
    else:
        workdir.claim(longer)
        expected = longer | {"environment": before["environment"]}
        assert json.loads(workdir.sweep_file.read_text()) == expected
        assert "config.train.steps is raised from" in capsys.readouterr().err


def test_nothing_else_may_change_with_them(tmp_path):
    Workdir(tmp_path).claim(sweep())
    with pytest.raises(UserError, match=r"hidden: 8 -> 16\n.*train.steps: 20 -> 40"):
        Workdir(tmp_path).claim(more(sweep(**{"model.hidden": 16})))
