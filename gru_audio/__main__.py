"""Trains recurrent networks on audio, and compares them.

gru-audio COMMAND --help     explains a command
gru-audio COMMAND ...        is the same as python -m gru_audio.COMMAND ...
"""

import ast
import runpy
import sys
from pathlib import Path

import gru_audio
from gru_audio.settings import nearest
from gru_audio.training import stopping

COMMANDS = {  # name on the command line -> the module that runs
    "prepare": "prepare",
    "train": "train",
    "sweep": "sweep",
    "report": "report",
    "evaluate": "evaluate",
    "predict": "predict",
    "export": "export",
    "experiments": "list_experiments",
    "new": "new",
    "bench": "bench",
}


def main() -> int:
    """Runs the command that the first argument names. Without one, lists the commands."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "--helpfull", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(gru_audio.__version__)
        return 0
    if name not in COMMANDS:
        print(f'error: Unknown command "{name}".{nearest(name, COMMANDS)}', file=sys.stderr)
        return 2
    stopping.begin()  # before the imports of the command, which may take seconds
    del sys.argv[1]
    runpy.run_module(f"gru_audio.{COMMANDS[name]}", run_name="__main__", alter_sys=True)
    return 0


def overview() -> str:
    """Returns the list of commands, each with the first line of its help."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {_first_line(module)}" for name, module in COMMANDS.items()]
    return "\n".join([(__doc__ or "").rstrip(), "", *lines])


def _first_line(module: str) -> str:
    """Returns the first line of a module's docstring, without importing the module."""
    text = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
