"""The experiments that come with the package, found by name and described without being run."""

import ast
from pathlib import Path

from etils import epath

from gru_audio.files import matching, read_text
from gru_audio.settings import UserError, nearest

_SUFFIX = ".py"


def names() -> list[str]:
    """Returns the names of the experiments, in alphabetical order."""
    return sorted(path.stem for path in matching(_folder(), f"*{_SUFFIX}"))


def find(name: epath.PathLike) -> str:
    """Returns the path of an experiment file.

    Args:
      name: a path, which is returned unchanged; or the name of an experiment of the package, such
        as "quickstart". A path ends in ".py" or contains a slash.

    Raises:
      UserError: the package has no experiment of this name. The message suggests the nearest one.
    """
    name = str(name)
    if name.endswith(_SUFFIX) or "/" in name or "\\" in name:
        return name
    if name in names():
        return str(_folder() / f"{name}{_SUFFIX}")
    if Path(f"{name}{_SUFFIX}").is_file():
        raise UserError(f"For the file {name}{_SUFFIX}, type {name}{_SUFFIX}.")
    if Path(name).exists():
        raise UserError(f"{name} is no experiment: name a Python file, with its suffix {_SUFFIX}.")
    raise UserError(
        f'There is no experiment "{name}".{nearest(name, names())} `gru-audio experiments` lists '
        f"them; a file is named with its suffix, {name}{_SUFFIX}."
    )


def hint(path: epath.PathLike) -> str:
    """Returns a sentence with the experiment of the package that a missing file may mean, or ""."""
    name = Path(str(path)).stem
    if name not in names():
        return ""
    return f' "{name}" without folder and suffix is the one of the package.'


def describe(name: str) -> tuple[str, tuple[str, ...]]:
    """Returns the first line of an experiment's docstring, and the names of its parts."""
    module = ast.parse(read_text(_folder() / f"{name}{_SUFFIX}"))
    title = (ast.get_docstring(module) or name).splitlines()[0]
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            (target, *_), keys = node.targets, node.value.keys
            if isinstance(target, ast.Name) and target.id == "PARTS":
                return title, tuple(str(key.value) for key in keys if isinstance(key, ast.Constant))
    return title, ()


def _folder() -> epath.Path:
    """Returns the folder of the experiments: beside the package in a checkout, else within it."""
    package = epath.Path(__file__).parent
    installed, checkout = package / "experiments", package.parent / "experiments"
    return installed if installed.exists() else checkout
