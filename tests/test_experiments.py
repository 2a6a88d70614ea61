"""Every experiment: documented, sound, and as recorded in tests/golden."""

import ast
import difflib
import re

import numpy as np
import pytest
import scipy.special

from experiments.tables.about_grus import _loss_without_counting
from gru_audio import experiment_files
from gru_audio.command import sweep_of
from gru_audio.config import override
from gru_audio.data.datasets.polyphonic_music import KEYS
from gru_audio.data.datasets.synthetic import Counting
from gru_audio.nn.size import model_size
from tests.golden_configs import GOLDEN, ROOT, empty_data_sets, experiments, golden, parts, recorded

RENEW = "If that is meant: python -m tests.golden_configs --write"
EXPERIMENTS = experiments()
PARTS = parts()

every_experiment = pytest.mark.parametrize("name", EXPERIMENTS)


@pytest.mark.parametrize("name", PARTS)
def test_config_and_runs_are_as_recorded(name):
    now, then = golden(*PARTS[name]), recorded(name)
    lines = (then.splitlines(), now.splitlines(), "recorded", "now")
    difference = "\n".join(difflib.unified_diff(*lines, lineterm="", n=0))
    assert now == then, f"{difference}\n{RENEW}"


def test_nothing_else_is_recorded():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == PARTS.keys(), RENEW


@every_experiment
def test_the_docstring_says_what_it_is_and_how_to_run_it(name):
    text = ast.get_docstring(ast.parse((ROOT / "experiments" / f"{name}.py").read_text()))
    assert text.splitlines()[0].endswith((".", "?"))
    command = (
        rf"python -m gru_audio\.\w+ --config experiments/{name}\.py(:\w+)?[\s\\]+--workdir \S+"
    )
    assert re.search(command, text)


def test_experiments_are_listed_with_their_parts():
    assert experiment_files.names() == sorted(EXPERIMENTS)
    for name, module in EXPERIMENTS.items():
        title, parts = experiment_files.describe(name)
        assert title == module.__doc__.splitlines()[0]
        assert parts == tuple(getattr(module, "PARTS", ())), "PARTS must be a dict, written out"


@every_experiment
def test_a_config_is_made_anew_each_time(name):
    get_config = EXPERIMENTS[name].get_config
    get_config().seed = 7
    assert get_config().seed != 7


def sizes(name, part, features, outputs, counting):
    """Parameters of every variant of a part."""
    experiment = EXPERIMENTS[name]
    config = experiment.get_config(part)
    config.data.dir = empty_data_sets()
    return {
        variant: model_size(override(config, changes).model, features, outputs, counting)
        for variant, changes in sweep_of(experiment, config, part).variants.items()
    }


@pytest.mark.parametrize("part", EXPERIMENTS["chung2014"].PARTS)
def test_chung_2014_has_the_sizes_of_its_table_at_88_keys(part):
    """Table 1 has 20.2, 19.8 and 20.1 thousand at the 93 to 108 keys of the paper."""
    found = sizes("chung2014", part, KEYS, KEYS, "recurrent")
    assert found == {"GRU": 18_630, "LSTM": 18_108, "tanh RNN": 18_900}


@pytest.mark.parametrize("part", EXPERIMENTS["bai2018"].PARTS)
def test_bai_2018_compares_models_of_one_size(part):
    kind = part.split("_")[0]
    features, outputs = {"adding": (2, 1), "copy": (1, 10)}.get(kind, (KEYS, KEYS))
    found = sizes("bai2018", part, features, outputs, "total")
    begun_twice = part in ("jsb_chorales", "copy_memory_500")
    as_told = {"TCN begun with N(0, 0.01)"} if begun_twice else set()
    assert found.keys() == {"GRU", "LSTM", "tanh RNN", "TCN"} | as_told
    for variant, size in found.items():
        assert abs(size / found["TCN"] - 1) < 0.01, variant


def test_the_least_loss_without_counting_is_that_of_the_data():
    """Of sequences drawn as the data set's: at each step the entropy of "all are closed"."""
    steps, rng = 40, np.random.default_rng(0)
    drawn = [Counting.draw(rng, steps).astype(int) for _ in range(20_000)]
    depth = np.cumsum([sequence[:, 0] - sequence[:, 1] for sequence in drawn], axis=1)
    closed = (depth == 0).mean(axis=0)
    expected = scipy.special.entr([closed, 1 - closed]).sum(axis=0).mean()
    found = _loss_without_counting(steps)
    assert found == pytest.approx(expected, rel=0.02)
