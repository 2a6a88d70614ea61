"""The package as a whole: its version, its commands, and the rules of the package."""

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gru_audio
from gru_audio.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gru_audio"
FILES = sorted(PACKAGE.rglob("*.py"))

# Modules that take long to import, or are large. No --help and no error in flags waits for them.
HEAVY = {
    *("flax", "grain", "jax", "jaxlib", "matplotlib", "optax", "orbax", "scipy", "sklearn"),
    *("tensorboard", "tensorflow_datasets", "torch"),
}
# What else a command imports at once: it has no other purpose.
AT_ONCE = {"prepare": {"tensorflow_datasets"}}
# A config has the settings of models and optimizers, so it imports these.
OF_CONFIG = {"flax", "jax", "jaxlib", "optax"}

# From the bottom up: a package imports only from itself and from those before it.
LAYERS = (
    ("settings",),
    ("files",),
    ("paths", "platforms"),
    ("nn",),
    ("audio",),
    ("data",),
    ("events",),
    ("text",),
    ("tasks",),
    ("training", "config"),
    ("inference",),
    ("exports",),
    ("sweeps",),
    ("reports",),
    ("experiment_files",),
    ("command",),
    ("loading",),
    tuple(COMMANDS.values()),
    ("__main__",),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}

OF_PACKAGE = {  # what `import gru_audio` names; `load` only when it is used
    "sys",
    "typing.TYPE_CHECKING",
    "typing.Any",
    "gru_audio.training.stopping",
    "gru_audio.loading.load",
}

# The only files and folders (with a slash) of gru_audio that may import a dependency.
OWNERS = {
    "orbax": ("training/checkpoint.py",),
    "tensorflow_datasets": ("data/datasets/", "data/source.py"),
    "grain": ("data/stream.py",),
    "torch": (),
    "tensorboard": ("training/trackers/tensorboard.py",),
    "wandb": ("training/trackers/wandb.py",),
    "mlflow": ("training/trackers/mlflow.py",),
    "optuna": ("sweeps/optuna.py",),
    "datasets": ("data/datasets/hugging_face.py",),
    "sounddevice": ("audio/live.py",),
    "safetensors": ("exports/safetensors.py", "exports/torch.py"),
    "onnx": ("exports/onnx/",),
    "onnxruntime": ("exports/onnx/",),
    "litert_converter": ("exports/litert.py",),
    "ai_edge_litert": ("exports/litert.py",),
}
USED_EXTRAS = ("demo", "live", "export", "litert", "wandb", "mlflow", "optuna", "hf")
# Names of meshes and of processes, and the only file that may use them.
SCALE_WORDS = {
    "training/placement.py": {"make_mesh", "Mesh", "shard_map", "pmap"},
    "training/distributed.py": {"multihost_utils", "jax.distributed"},
}

# Where `glob` is pathlib's, which takes the folder as it is; epath's reads it as a pattern.
GLOBBERS = ("predict.py", "data/datasets/")

DISTRIBUTIONS = importlib.metadata.packages_distributions()


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


@functools.cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text())))


@functools.cache
def imports(file: Path) -> frozenset[str]:
    """Dotted names of all modules that a file imports, at its top or within a function."""
    found: set[str] = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def third_party(file: Path) -> set[str]:
    tops = {module.partition(".")[0] for module in imports(file)}
    return tops - sys.stdlib_module_names - {"gru_audio"}


def normalised(requirement: str) -> str:
    """The name in a requirement as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_a_package_imports_only_from_packages_below_it():
    for file in FILES:
        if file == PACKAGE / "__init__.py":
            assert imports(file) <= OF_PACKAGE
            continue
        level = LEVELS[file.relative_to(PACKAGE).parts[0].removesuffix(".py")]
        for module in imports(file):
            top, _, rest = module.partition(".")
            assert top not in ("experiments", "benchmarks"), f"{name_of(file)} imports {top}"
            if top == "gru_audio" and rest:  # the package itself knows its version alone
                package = rest.partition(".")[0]
                assert LEVELS[package] <= level, f"{name_of(file)}: {module} lies above"


def test_a_dependency_is_imported_by_its_owner_alone():
    for file in FILES:
        for package in third_party(file) & OWNERS.keys():
            assert name_of(file).startswith(OWNERS[package])


def test_only_one_file_uses_meshes_and_one_uses_processes():
    for file in FILES:
        attributes = [node for node in nodes(file) if isinstance(node, ast.Attribute)]
        words = {name for node in attributes for name in (node.attr, ast.unparse(node))}
        words |= {module.rpartition(".")[2] for module in imports(file)}
        for package in SCALE_WORDS.keys() - {name_of(file)}:
            assert not words & SCALE_WORDS[package], name_of(file)


def test_no_path_of_a_user_is_part_of_a_pattern():
    """`files.matching` lists folders of any name, on any file system."""
    for file in FILES:
        called = {node.attr for node in nodes(file) if isinstance(node, ast.Attribute)}
        if not name_of(file).startswith(GLOBBERS):
            assert not called & {"glob", "rglob", "iglob"}, name_of(file)
            assert "glob" not in imports(file), name_of(file)
        else:
            names = {node.id for node in nodes(file) if isinstance(node, ast.Name)}
            assert "epath" not in names, name_of(file)


def test_imported_packages_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    users = [extras[name] for name in USED_EXTRAS]
    declared = {normalised(r) for r in sum(users, project["dependencies"])}
    for package in set().union(*map(third_party, FILES)):
        # sounddevice may be missing here; all else that is imported is installed.
        owners = {normalised(owner) for owner in DISTRIBUTIONS.get(package, [package])}
        assert owners & declared, f"{package} is not in pyproject.toml"


def test_version_is_that_of_the_installed_package():
    assert importlib.metadata.version("gru-audio") == gru_audio.__version__
    assert f"\nversion: {gru_audio.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def show(*arguments: object) -> tuple[subprocess.CompletedProcess, set[str]]:
    """Runs Python; returns what it printed, and the packages that it imported."""
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    times, errors = [], []
    for line in shown.stderr.splitlines():
        (times if line.startswith("import time:") else errors).append(line)
    shown.stderr = "\n".join(errors)
    return shown, {line.rpartition("|")[2].strip().partition(".")[0] for line in times}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_and_imports_nothing_heavy(command):
    shown, imported = show("-m", "gru_audio", command, "--help")
    file = PACKAGE / f"{COMMANDS[command]}.py"
    if command == "bench":
        file = ROOT / "benchmarks" / "__main__.py"
    first_line, *others = ast.get_docstring(ast.parse(file.read_text())).splitlines()
    assert first_line in shown.stdout
    assert any("python -m" in line and line.strip() in shown.stdout for line in others)
    assert not shown.stderr
    assert not (imported - AT_ONCE.get(command, set())) & HEAVY


@pytest.mark.parametrize("command", ["train", "sweep", "evaluate", "predict", "report", "prepare"])
def test_an_unknown_flag_is_told_without_heavy_imports(command):
    shown, imported = show("-m", f"gru_audio.{command}", "--wrkdir=x")
    assert shown.returncode == 2
    assert "Unknown flag --wrkdir." in shown.stderr
    assert not (imported - AT_ONCE.get(command, set())) & HEAVY


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ("quickstrat", 'There is no experiment "quickstrat". Did you mean "quickstart"?'),
        ("absent.py", "The experiment file absent.py cannot be read: No such file or directory."),
        ("runs/esc10.py", '"esc10" without folder and suffix is the one of the package.'),
        ("setup", "For the file setup.py, type setup.py."),
    ],
)
def test_an_unknown_experiment_is_told_without_heavy_imports(experiment, message):
    command = ("-m", "gru_audio", "sweep", "--workdir=x", "--config", experiment)
    shown, imported = show(*command)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert not imported & HEAVY


WRONG = {  # a command -> a part of its message
    "sweep": "Name an experiment by --config and a directory by --workdir, or use --status.",
    "sweep --config quickstart --workdir x --train.steps=3": "set by --config.train.steps=VALUE",
    "sweep --config quickstart --workdir {file}": "is a file. Name a folder.",
    "sweep --config quickstart --workdir {file}/x": "is a file. Name a folder.",
    "sweep --config README.md --workdir x": "README.md is no experiment: name a Python file",
    "sweep --json --config quickstart --workdir x": "error: --json needs --status.",
    "sweep --status {empty}": "name the workdir of a sweep or of a training run",
    "train --config quickstart --workdir x --profile=a": "--profile=a must be a whole number.",
    "train --config quickstart --workdir {file}": "is a file. Name a folder.",
    "report --workdir {empty}": "name the workdir of a sweep or of a training run",
    "report --all {file}": "name one that contains workdirs",
    "evaluate": "Pass --workdir; --help explains the flags.",
    "evaluate --workdir {empty}": "name the workdir of a sweep or of a training run",
    "evaluate --workdir {file}": "which is no folder",
    "predict --workdir {empty} {file}": "name the workdir of a sweep or of a training run",
    "predict --workdir x {empty}": "No files in",
    "export": "Pass --format and --out and --workdir; --help explains the flags.",
    "export --workdir {empty} --format stablehlo --out x": "name the workdir of a sweep",
    "export --workdir {empty} --format stablehlo --out {file}": "is a file. Name a folder.",
    "generate --workdir {empty} --out x": "name the workdir of a sweep or of a training run",
    "generate --workdir x --out {file}": "is a file. Name a folder.",
    "generate --workdir x --out x --seconds=0": "must be above 0",
    "generate --workdir x --out x --condition=a": "must be FIELD=CLASS, such as digit=7",
    "generate --workdir x --out x --prefix absent.wav": "absent.wav does not exist",
    "prepare manifest --name x --manifest absent.csv": "absent.csv does not exist",
    "prepare manifest x": 'Unknown argument "x"',
    "prepare folder --name x --folder {empty}": "no directory per class",
    "prepare folder --name x --folder . --sample_rate=a": "--sample_rate=a must be a number.",
}


@pytest.mark.parametrize("command", WRONG)
def test_an_error_is_told_in_one_line_before_heavy_imports(command, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    words = command.format(file=tmp_path / "file", empty=tmp_path / "empty").split()
    if words[0] == "prepare":
        words.append(f"--data_dir={tmp_path / 'data'}")
    shown, imported = show("-m", "gru_audio", *words)
    assert shown.returncode == 2
    (line,) = shown.stderr.splitlines()
    assert line.startswith("error: ")
    assert WRONG[command] in line
    assert not imported & HEAVY - AT_ONCE.get(words[0], set())


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.model.hiden=3", 'Did you mean "model.hidden"?'),
        ("--config.model.hidden=a", 'config.model.hidden: "a" is not of type int. The default is'),
        ("--config.model.hidden=0", "config.model.hidden=0 must be at least 1."),
        ("--config.data.name=absent", 'There is no data set "absent"'),
    ],
)
def test_a_wrong_config_is_told_without_what_reads_data_and_writes_reports(flag, message):
    command = ("-m", "gru_audio", "sweep", "--config=quickstart", "--workdir=x")
    shown, imported = show(*command, flag)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert not imported & HEAVY - OF_CONFIG


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("inference.trained_model", {"grain", "matplotlib", "sklearn", "tensorboard"}),
        ("sweeps.execute", {"grain", "matplotlib", "sklearn", "tensorflow_datasets"}),
        ("reports.write", {"grain", "sklearn", "tensorboard", "tensorflow_datasets"}),
    ],
)
def test_what_a_command_does_not_use_is_not_imported(module, unused):
    shown, imported = show("-c", f"import gru_audio.{module}")
    assert shown.returncode == 0
    assert not imported & unused


def test_the_commands_are_listed():
    for arguments in ((), ("--help",)):
        shown, imported = show("-m", "gru_audio", *arguments)
        assert shown.returncode == 0
        listed = [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ")]
        assert listed[-len(COMMANDS) :] == list(COMMANDS)
        assert not imported & HEAVY


def test_the_nearest_command_is_named():
    shown, _ = show("-m", "gru_audio", "evalute")
    assert shown.returncode == 2
    assert 'Unknown command "evalute". Did you mean "evaluate"?' in shown.stderr
    shown, _ = show("-m", "gru_audio", "--version")
    assert shown.stdout.strip() == gru_audio.__version__
