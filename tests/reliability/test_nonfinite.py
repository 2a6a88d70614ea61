"""A loss that turns NaN stops a run, at once or after so many updates that were left out."""

import json

import pytest

from gru_audio.data import index
from gru_audio.data.source import open_source
from tests.commands import run, write_experiment
from tests.tones import NAME

pytestmark = pytest.mark.reliability

# The first update is of a finite loss, and leaves weights under which no loss is.
DIVERGES = "'optimizer.name': 'sgd', 'optimizer.learning_rate': 1e38, 'train.steps': 50"


@pytest.mark.parametrize("skipped", [0, 3])
def test_a_loss_that_is_not_finite(skipped, environment, data_dir, tmp_path, outcome):
    changes = f"{DIVERGES}, 'train.skip_nonfinite': {skipped}"
    command = ["train", "--config", write_experiment(tmp_path / "tones.py", changes)]
    said = run(environment, *command, "--workdir", tmp_path / "workdir", code=1).stderr
    (file,) = (tmp_path / "workdir").glob("runs/*/failure.json")
    failure = json.loads(file.read_text())
    assert "not finite" in failure["error"]
    assert failure["step"] == 1 + skipped
    assert f"at step {failure['step']}" in said
    names = open_source(NAME, data_dir).columns[index.CLIP]
    assert failure["clips"] and set(failure["clips"]) <= set(names)
    assert failure["clips"][0] in said
    for step in range(1, 1 + skipped):
        assert f"update {step} left out ({step} of {skipped})" in said
    allowed = f", {skipped} updates may be skipped" if skipped else ""
    how = f"skips {skipped} updates, then stops" if skipped else "stops"
    outcome(f"loss turns NaN{allowed}", 1, f"{how}; names the step and its clips")
