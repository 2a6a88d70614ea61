"""How an experiment and its part are named on the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WITH_PARTS = """
from gru_audio.config import choose, default_config

PARTS = ("jsb_chorales", "nottingham")


def get_config(part=PARTS[0]):
    config = default_config()
    config.data.name = choose("part", part, {name: name for name in PARTS})
    return config
"""
WITHOUT_PARTS = """
from gru_audio.config import default_config


def get_config():
    return default_config()
"""
SHOW = """
from ml_collections import config_flags
from gru_audio import command

CONFIG = config_flags.DEFINE_config_file("config", None, "")


def main(_):
    data = command.config(CONFIG).data.name
    print(command.experiment_name(), data, hasattr(command.experiment_module(), "PARTS"))


command.run(main)
"""


def show(folder, config, *others):
    (folder / "music.py").write_text(WITH_PARTS)
    (folder / "speech.py").write_text(WITHOUT_PARTS)
    command = [sys.executable, "-c", SHOW, f"--config={folder / config}", *others]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ("music.py", "music jsb_chorales True"),
        ("music.py:nottingham", "music-nottingham nottingham True"),
        ("speech.py", "speech spoken_digit False"),
    ],
)
def test_a_part_is_in_the_name_of_its_experiment(tmp_path, config, shown):
    done = show(tmp_path, config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == shown


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("music.py:notingham", 'Unknown part "notingham". Did you mean "nottingham"?'),
        ("music.py:", 'Unknown part "". Valid: jsb_chorales, nottingham.'),
        ("speech.py:nottingham", "This experiment has no parts"),
    ],
)
def test_a_wrong_part_is_told_in_one_line(tmp_path, config, message):
    done = show(tmp_path, config)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert message in line


def test_what_is_no_flag_is_refused(tmp_path):
    """A dash forgotten before --config.model.hidden=7 must not train the default."""
    done = show(tmp_path, "speech.py", "config.model.hidden=7")
    assert done.returncode == 2
    assert 'What is "config.model.hidden=7"?' in done.stderr
    assert not done.stdout


def test_a_signal_before_training_counts_as_preemption():
    code = (
        "import time; from gru_audio import command;"
        "command.run(lambda _: (print('ready', flush=True), time.sleep(60)))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(timeout=30) == 75
