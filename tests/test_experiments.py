"""Every experiment: documented, sound, and as recorded in tests/golden."""

import ast
import difflib
import re

import pytest

from tests.golden_configs import GOLDEN, ROOT, experiments, golden, parts, recorded

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
    assert text.splitlines()[0].endswith(".")
    command = (
        rf"python -m gru_audio\.\w+ --config experiments/{name}\.py(:\w+)?[\s\\]+--workdir \S+"
    )
    assert re.search(command, text)


@every_experiment
def test_a_config_is_made_anew_each_time(name):
    get_config = EXPERIMENTS[name].get_config
    get_config().seed = 7
    assert get_config().seed != 7
