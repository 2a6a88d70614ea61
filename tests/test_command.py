"""How an experiment and its part are named on the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gru_audio import command
from gru_audio.settings import UserError

ROOT = Path(__file__).resolve().parents[1]
WITH_PARTS = """
from gru_audio.config import default_config
from gru_audio.settings import choose

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
from gru_audio import command

command.define_config()


def main(_):
    data = command.config().data.name
    print(command.experiment_name(), data, hasattr(command.experiment_module(), "PARTS"))


command.run(main)
"""


def show(folder, config, *others):
    (folder / "music.py").write_text(WITH_PARTS)
    (folder / "speech.py").write_text(WITHOUT_PARTS)
    shown = [sys.executable, "-c", SHOW, f"--config={folder / config}", *others]
    return subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ("music.py", "music-jsb_chorales jsb_chorales True"),
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
    assert 'Unknown argument "config.model.hidden=7"' in done.stderr
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


IMPORT = "from gru_audio.settings import UserError"
BROKEN = {
    "syntax": (
        "def get_config():\n    return (\n",
        r"music.py, line 2: SyntaxError: '\(' was never",
    ),
    "import": ("import absent_module\n", "music.py, line 1: ModuleNotFoundError: No module"),
    "error": (
        "def get_config():\n    return 1 / 0\n",
        "line 2: ZeroDivisionError: division by zero",
    ),
    "deep": ("def get_config():\n    return get_config()\n", "line 2: RecursionError"),
    "name": ("get_config = lambda: oops\n", "line 1: NameError: name 'oops' is not defined"),
    "file": ("def get_config():\n    open('absent')\n", "line 2: FileNotFoundError: .*absent"),
    "nothing": ("x = 1\n", r"music.py has no get_config\(\)"),
    "none": ("def get_config():\n    pass\n", r"music.py: get_config\(\) must return a config"),
    "dict": ("def get_config():\n    return {}\n", r"get_config\(\) must return a config"),
    "bytes": ("\0", "music.py is not Python: source code string cannot contain null bytes"),
    "own": (
        f"{IMPORT}\ndef get_config():\n    raise UserError('mine')\n",
        "error: mine$",
    ),
    "key": (
        WITHOUT_PARTS.replace("return default_config()", "default_config().model.hiden = 3"),
        'line 6: AttributeError: Unknown config key "model.hiden". Did you mean "model.hidden"',
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_experiment_is_told_in_one_line(tmp_path, kind):
    text, message = BROKEN[kind]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "music.py").write_text(text)
    done = show(tmp_path, "broken/music.py")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--config.model.hidden=1e3",
            'config.model.hidden: "1e3" is not of type int. The ',
        ),
        ("--config.model.hidden=" + "9" * 5000, "is not of type int"),
        ("--config.model.bidirectional=perhaps", '"perhaps" is not of type bool'),
        ("--config.model.hidden", "Give a value: --config.model.hidden=VALUE"),
        ("--config.model.kernel=5", "config.model.kernel belongs to model.name=tcn"),
        ("--config.model.name=tnc", 'config.model.name="tnc" is unknown. Did you mean "tcn"'),
        ("--config.model=3", 'Unknown config key "model"'),
        ("--config.seed=\nnan", 'config.seed: "nan" is not of type int'),
    ],
    ids=lambda value: value[:40],
)
def test_an_odd_override_is_told_in_one_line(tmp_path, flag, message):
    done = show(tmp_path, "speech.py", flag)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert message in line
    assert len(line) < 500


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", r"speech.py, line 3: ZeroDivisionError: division by zero"),
        ("raise UserError('mine')", "^mine$"),
        ("return absent.module", r"speech.py, line 3: NameError"),
    ],
)
def test_what_get_sweep_raises_is_told_by_its_line(tmp_path, body, message):
    path = tmp_path / "speech.py"
    path.write_text(f"{IMPORT}\ndef get_sweep(config):\n    {body}\n")
    module = command.load_experiment(path)
    with pytest.raises(UserError, match=message):
        command.call_experiment(path, module.get_sweep, None)


def test_an_experiment_that_cannot_be_loaded_is_told_by_its_line(tmp_path):
    path = tmp_path / "speech.py"
    for text, message in (("1 +\n", "line 1: SyntaxError"), ("\n1 / 0\n", "line 2: ZeroDivision")):
        path.write_text(text)
        with pytest.raises(UserError, match=f"speech.py, {message}"):
            command.load_experiment(path)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_does_not_have_is_escaped(encoding):
    """A class called "für 日本", and a file whose name is not written in UTF-8."""
    code = (
        "import os, sys; from gru_audio import command;"
        "from gru_audio.inference.printer import plain_console;"
        "from rich.table import Table;"
        "name = 'für 日本 ' + os.fsdecode(b'caf\\xe9');"
        "command.print_anywhere();"
        "print(name); print(name, file=sys.stderr);"
        "table = Table(name); table.add_row(name); plain_console().print(table)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding).splitlines()[0]
    expected = {
        "ascii": r"f\xfcr \u65e5\u672c caf\udce9",
        "latin-1": r"für \u65e5\u672c caf\udce9",
        "utf-8": r"für 日本 caf\udce9",
    }
    assert shown == expected[encoding]
