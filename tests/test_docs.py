"""The documentation: links, commands with their flags and config keys, and Python."""

import ast
import functools
import importlib
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from gru_audio.__main__ import COMMANDS
from gru_audio.config import default_config
from gru_audio.data.datasets import BUILDERS
from gru_audio.settings import Setting, settings_of
from tests.golden_configs import ROOT
from tests.nn.reference import sigmoid

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "launch/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TUTORIALS = ROOT / "docs" / "tutorials"
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "experiments" / "README.md"]
SETTINGS: dict[str, Setting] = {
    section._path + key: spec
    for section in default_config().sections()
    for key, spec in settings_of(section._component).items()
}
SECTIONS = "|".join(sorted({key.partition(".")[0] for key in SETTINGS if "." in key}))
ALWAYS = {"help", "helpfull"}
COMMON = {"define_config": {"config", "help_config"}, "define_experiment": {"experiment"}}

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def split_code(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """The prose of a page, and its code blocks with their languages ("" if indented)."""
    prose, blocks, fence = [], [], None
    for line in path.read_text().splitlines():
        if line.lstrip().startswith("```"):
            fence = None if fence is not None else line.strip("` ")
            blocks += [(fence, [])] if fence is not None else []
        elif fence is not None:
            blocks[-1][1].append(line)
        elif line.startswith("    "):
            if not blocks or blocks[-1][0] != "" or prose[-1:] != [None]:
                blocks.append(("", []))
            blocks[-1][1].append(line[4:])
            prose.append(None)
        else:
            prose.append(line)
    text = "\n".join(line for line in prose if line is not None)
    return text, [(language, "\n".join(lines)) for language, lines in blocks]


def commands(path: Path) -> Iterator[list[str]]:
    """The words of each command in code blocks and in code within sentences."""
    prose, blocks = split_code(path)
    lines = re.findall(r"`([^`\n]+)`", prose)
    for language, block in blocks:
        if language in ("", "bash", "text"):
            lines += block.replace("\\\n", " ").splitlines()
    for line in lines:
        for part in re.split(r"\s(?:&&|\||--|>)\s", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # not a command
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words:
                yield words


def script(words: list[str]) -> Path | None:
    """The file of this repository that a command runs."""
    program, *rest = words
    if program.rpartition("/")[2] == "gru-audio":
        if not rest or not re.fullmatch("[a-z]+", rest[0]):
            return None
        assert rest[0] in COMMANDS, words
        if rest[0] == "bench":
            return ROOT / "benchmarks" / "__main__.py"
        return ROOT / "gru_audio" / f"{COMMANDS[rest[0]]}.py"
    if re.fullmatch(r"(.*/)?python3?", program) and rest:
        if re.match("-[^m]", rest[0]):
            return None
        if rest[0] == "-m" and rest[1].isidentifier() and not (ROOT / rest[1]).is_dir():
            return None  # another project's
        name = rest[1].replace(".", "/") if rest[0] == "-m" else rest[0].removesuffix(".py")
        if "COMMAND" in name:
            return None
        folder = ROOT / name
        return folder / "__main__.py" if folder.is_dir() else folder.with_suffix(".py")
    return ROOT / program if program.startswith(("launch/", "benchmarks/")) else None


@functools.cache
def flags_of(file: Path) -> set[str]:
    """The flags that a Python file defines."""
    names = set(ALWAYS)
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        names |= COMMON.get(node.func.attr, set())
        if node.func.attr.startswith("DEFINE_") or node.func.attr == "add_argument":
            texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
            names |= {text.lstrip("-") for text in texts[:1] if isinstance(text, str)}
    return names


@functools.cache
def parts_of(experiment: Path) -> set[str]:
    """The parts of an experiment file, without running it."""
    for node in ast.parse(experiment.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARTS":
            return {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
    return set()


def check_experiment(text: str) -> None:
    name, _, part = text.partition(":")
    if re.match("[A-Z]|my_", name):
        return  # the reader's
    file = ROOT / (name if name.endswith(".py") else f"experiments/{name}.py")
    assert file.exists(), text
    assert not part or part in parts_of(file) or part.isupper(), text


def check_flags(words: list[str], known: set[str]) -> None:
    for i, word in enumerate(words):
        if not re.match(r"--[a-z]", word):
            continue
        name, equals, value = word[2:].partition("=")
        if name.startswith("config."):
            key = name.removeprefix("config.")
            assert key in SETTINGS, word
            if not value.isupper():
                SETTINGS[key].read(value)
            continue
        assert name in known or name.removeprefix("no") in known, f"{word} of {words}"
        if name == "config":
            check_experiment(value if equals else words[i + 1])


@every_page
def test_commands_and_their_flags_exist(path):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(path):
        if words[0] == "make":
            assert all(w in targets or re.match(r"[A-Z-]|\.venv/", w) for w in words[1:]), words
        elif (file := script(words)) is not None:
            assert file.exists(), words
            folder = file.relative_to(ROOT).parts[0]
            if file.suffix == ".py" and folder not in ("docs", "tests"):  # they use no absl
                check_flags(words, flags_of(file))
            if file.name == "prepare.py" and len(words) > 2:
                names = [word for word in words[1:] if word.partition(":")[0] in BUILDERS]
                assert names or re.search("--help|NAME", str(words)), words


@every_page
def test_config_keys_exist(path):
    text = path.read_text()
    for section, key in re.findall(rf"\bconfig\.({SECTIONS})\.([a-z]\w*)", text):
        assert f"{section}.{key}" in SETTINGS
    for section, key in re.findall(rf'["`]({SECTIONS})\.([a-z]\w*)(?:":|=)', text):
        assert f"{section}.{key}" in SETTINGS


@every_page
def test_extras_exist(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for names in re.findall(r"(?:\.|gru[-_]audio|`)\[([a-z][a-z0-9,]*)\]", path.read_text()):
        assert set(names.split(",")) <= set(project["optional-dependencies"])


@every_page
def test_python_is_valid_and_its_imports_exist(path):
    for language, block in split_code(path)[1]:
        if language != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("gru_audio"):
                module = importlib.import_module(node.module)
                for name in (alias.name for alias in node.names):
                    submodule = f"{node.module}.{name}"
                    assert hasattr(module, name) or importlib.util.find_spec(submodule), submodule


def anchors(path: Path) -> set[str]:
    """The anchors of a page, as they are on GitHub."""
    found = re.findall(r"^#+ (.*)", split_code(path)[0], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", split_code(path)[0]):
        if re.match("[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_the_reference_has_every_key_and_is_current():
    path = ROOT / "docs" / "config_reference.py"
    spec = importlib.util.spec_from_file_location("config_reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert all(f"**`{key}`**" in reference.page() for key in SETTINGS)
    written = reference.PAGE.read_text()
    assert written == reference.page(), "python docs/config_reference.py --write"


def test_the_cell_of_the_tutorial_is_the_one_it_describes():
    (code,) = (
        block
        for language, block in split_code(TUTORIALS / "own_cell.md")[1]
        if "CELLS = {" in block
    )
    names: dict = {}
    exec(code, names)
    rng = np.random.default_rng(0)
    h, x_z, x_n = rng.normal(size=(3, 2, 4))
    kernel = rng.normal(size=(4, 8))
    step = names["CELLS"]["ugrnn"].step
    (found,) = step({"recurrent_kernel": jnp.array(kernel)}, (jnp.array(h),), (x_z, x_n))
    z, n = sigmoid(x_z + h @ kernel[:, :4]), np.tanh(x_n + h @ kernel[:, 4:])
    np.testing.assert_allclose(found, (1 - z) * n + z * h, atol=1e-5)
