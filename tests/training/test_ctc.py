"""Training on texts: resumed, streamed and with other members, a run has the same numbers."""

import shutil

import numpy as np
import pytest

from experiments import yesno
from gru_audio.data.fields import take
from gru_audio.tasks.transcripts import WordErrorRate
from tests import sounds
from tests.prepared import prepared
from tests.spelled import CHANGES
from tests.trained import train
from tests.training.outcome import Outcome, same_member

OWN = {
    **CHANGES,
    "frontend.stack": 2,
    "model.dropout": 0.2,
    "augment.speed": 0.1,
    "checkpoint.every_steps": 5,
}
SECOND = {"seed": 1, "model.dropout": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(spelled_source, folder):
    """Two members of a group, with different seeds and rates of dropout."""
    return Outcome(spelled_source, folder, {}, SECOND, **OWN)


def test_a_resumed_run_has_the_same_bits(spelled_source, two, folder):
    for path in (folder / "checkpoints").iterdir():
        if int(path.name) > 5:
            shutil.rmtree(path)
    resumed = Outcome(spelled_source, folder, {}, SECOND, **OWN)
    for m in range(2):
        same_member(resumed, two, m)


def test_streamed_data_gives_the_same_bits(spelled_source, two, tmp_path):
    streamed = Outcome(spelled_source, tmp_path, {}, SECOND, **OWN, **{"data.loader": "streamed"})
    for m in range(2):
        same_member(streamed, two, m)


def test_members_of_one_program_are_like_single_runs(spelled_source, two, tmp_path):
    together = Outcome(
        spelled_source, tmp_path, {}, SECOND, **OWN, **{"parallel.vmap_members": 0}
    ).lost(1)
    assert together == pytest.approx(two.lost(1), rel=1e-3)
    assert np.isfinite(list(together.values())).all()


@pytest.mark.reliability  # for its length
def test_words_are_learnt_from_real_recordings(tmp_path):
    source = prepared("yesno", tmp_path, archive=sounds.archive("yesno/*.tar.gz"))
    config = yesno.get_config()
    model = train(source, config, config.train.steps)
    ids, task = np.flatnonzero(source.columns["split"] == "test"), model.program().task
    assert task.output_names == ("NO", "YES")
    labels = task.labels(take(source.values("text"), ids))
    scores = model.scores(source.signals(ids), labels)
    assert WordErrorRate(task.token_set).value(scores) < 0.05
