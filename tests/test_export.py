"""The command `export`."""

import json

import pytest
from etils import epath

from gru_audio.exports import FORMATS
from gru_audio.sweeps.workdir import Workdir
from tests.commands import run
from tests.tones import tiny
from tests.trained import train

pytest.importorskip("flatbuffers", reason="needs the extra [export]")


@pytest.fixture(scope="module")
def workdir(source, tmp_path_factory):
    """Two runs, of which one reads in both directions."""
    folder = tmp_path_factory.mktemp("workdir")
    for name, changes in (("one", {}), ("both", {"model.bidirectional": True})):
        trained = train(source, tiny(changes), 20)
        trained.about["run"] = name
        trained.save(Workdir(epath.Path(folder)).model(name))
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_formats(environment, workdir, tmp_path, name):
    for package in FORMATS[name].packages:
        module = package.replace("-", "_")
        pytest.importorskip(module, reason=f"needs the extra [{FORMATS[name].extra}]")
    flags = [] if FORMATS[name].weights else ["--from=sound"]
    flags = ["--stream"] if FORMATS[name].step else flags
    flags += ["--workdir", workdir, "--run=one", "--format", name, "--out", tmp_path / "a b"]
    done = run(environment, "export", *flags)
    assert "largest difference" in done.stdout
    files = {path.name for path in (tmp_path / "a b").iterdir()}
    file = f"model{FORMATS[name].suffix}"
    assert files == {file, "model.json", "check.npz", "model_card.md"}
    assert json.loads((tmp_path / "a b" / "model.json").read_text())["run"] == "one"


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--format=onxn", "--run=one"], 'Unknown --format "onxn". Did you mean "onnx"'),
        (["--format=stablehlo"], "Several runs"),
        (["--format=stablehlo", "--run=one", "--tolerance=nan"], "--tolerance=nan must be above"),
        (["--format=litert", "--run=one"], "pass --stream"),
        (["--format=stablehlo", "--run=both", "--stream"], "config.model.bidirectional=False"),
        (["--format=safetensors", "--run=one", "--stream"], "omit --from and --stream"),
        (["--run=one"], "format"),
    ],
)
def test_what_is_refused(environment, workdir, tmp_path, flags, why):
    done = run(environment, "export", "--workdir", workdir, "--out", tmp_path, *flags, code=2)
    assert why in done.stderr
    assert len(done.stderr.splitlines()) < 5
    assert not list(tmp_path.iterdir())


def test_an_inexact_file_is_not_delivered(environment, workdir, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra [export]")
    flags = ["--workdir", workdir, "--run=one", "--format=onnx", "--tolerance=1e-12"]
    done = run(environment, "export", *flags, "--out", tmp_path, code=1)
    assert "more than --tolerance 1e-12" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx.failed"]


def test_a_file_in_the_place_of_the_folder(environment, workdir, tmp_path):
    (tmp_path / "file").write_text("")
    flags = ["--workdir", workdir, "--run=one", "--format=stablehlo", "--out", tmp_path / "file"]
    assert "is a file. Name a folder." in run(environment, "export", *flags, code=2).stderr


def test_a_damaged_model(environment, workdir, tmp_path):
    model = Workdir(epath.Path(tmp_path / "workdir")).model("one")
    model.mkdir(parents=True)
    (model / "model.json").write_text("{}")
    flags = ["--workdir", tmp_path / "workdir", "--format=stablehlo", "--out", tmp_path / "out"]
    assert "cannot be used" in run(environment, "export", *flags, code=2).stderr
    assert not (tmp_path / "out").exists()
