"""The package as `pip install` leaves it: a wheel in a new environment, used from elsewhere."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import gru_audio
from gru_audio.files import read_json
from tests.tones import NAME

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("gru_audio", "experiments", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, copy)
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The command of an environment with the wheel, and with the dependencies of this one."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip("--python", venv / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    (site,) = venv.glob("lib/*/site-packages")
    # Files named *.pth are not read in a folder that is added in this way: among them is the one
    # of an editable installation of this package.
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "dependencies.pth").write_text("\n".join(paths))
    return venv / "bin" / "gru-audio"


def pip(*arguments):
    ended = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments), "--disable-pip-version-check"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def run(installed, environment, tmp_path):
    """Runs the installed command in an empty folder, and expects an exit code."""
    own = {name: value for name, value in environment.items() if name != "PYTHONPATH"}

    def run(*arguments, code=0):
        ended = subprocess.run(
            [installed, *map(str, arguments)],
            cwd=tmp_path,
            env=own | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ended.returncode == code, f"{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended

    return run


def test_the_wheel_has_the_experiments_and_nothing_outside_the_package(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in files}
    assert tops == {"gru_audio", f"gru_audio-{gru_audio.__version__}.dist-info"}
    expected = {f"gru_audio/experiments/{path.name}" for path in ROOT.glob("experiments/*.py")}
    assert {name for name in files if name.startswith("gru_audio/experiments/")} == expected
    data = {path for path in (ROOT / "gru_audio").rglob("*") if path.suffix in (".jinja", ".typed")}
    assert {path.relative_to(ROOT).as_posix() for path in data} <= set(files)


def test_what_is_installed_needs_no_checkout(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            for line in archive.read(name).decode().splitlines() if name.endswith(".py") else ():
                outside = ("import experiments", "from experiments", "import benchmarks")
                assert not line.strip().startswith(outside), f"{name}: {line}"


def test_experiments_are_listed_and_copied(run, tmp_path):
    shown = run("experiments").stdout
    for path in ROOT.glob("experiments/*.py"):
        assert f"{path.stem}\n" in shown
    assert "claims:size_jsb" in shown
    run("new", "mine", "--like", "own_sounds")
    text = (tmp_path / "mine.py").read_text()
    assert "--config mine.py" in text and "experiments/" not in text
    assert "exists already" in run("new", "mine", code=2).stderr
    assert text == (tmp_path / "mine.py").read_text()
    wrong = run("new", "other", "--like", "own_sound", code=2).stderr
    assert 'Did you mean "own_sounds"?' in wrong
    assert "not a valid name" in run("new", "../other", code=2).stderr
    assert "clone the repository" in run("bench", "step", code=2).stderr


def test_a_sweep_of_an_experiment_by_its_name(run, tmp_path):
    smaller = {
        "data.name": NAME,
        "data.target": "label",
        "data.cluster": "group",
        "data.buckets": 1,
        "frontend.mels": 8,
        "model.hidden": 8,
        "train.steps": 10,
        "train.batch_size": 8,
    }
    changes = [f"--config.{name}={value}" for name, value in smaller.items()]
    shown = run("sweep", "--config", "quickstart", "--workdir", "runs/quick", *changes).stdout
    assert f"Report: {tmp_path}/runs/quick/report/index.html" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    run_folder = tmp_path / "runs" / "quick" / "runs" / "GRU-seed0"
    about = read_json(run_folder / "result.json")["environment"]
    assert about["commit"] is None and about["gru_audio"] == gru_audio.__version__
    status = run("sweep", "--status", "runs/quick").stdout
    assert "6 runs: 6 finished" in status
    assert os.sep not in read_json(tmp_path / "runs/quick/sweep.json")["experiment"]


def test_a_part_of_an_experiment_by_its_name(run):
    shown = run("sweep", "--config", "claims:size_jsb", "--help_config").stdout
    assert 'data.name = "jsb_chorales"' in shown
    wrong = run("sweep", "--config", "claims:size_jbs", "--workdir=x", code=2).stderr
    assert 'Did you mean "size_jsb"?' in wrong
