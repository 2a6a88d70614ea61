"""What all commands share: reading an experiment, and showing errors that a user can act on."""

import copy
import importlib.util
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType

from absl import app, flags
from absl import logging as absl_logging
from etils import epath
from ml_collections import ConfigDict, config_flags

from gru_audio.config import UserError, default_config, flatten, nearest
from gru_audio.files import refusal
from gru_audio.reporting.published import name_with_part
from gru_audio.training import stopping


def run(main: Callable[[Sequence[str]], int | None], *, names: bool = False) -> None:
    """Runs a command's `main`; a `UserError` ends it with its message alone and exit code 2.

    Args:
      main: from the arguments, of which the first is the command, to the exit code.
      names: whether it takes arguments that are no flags, such as files.
    """
    stopping.begin()
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("jax").setLevel(logging.ERROR)

    def guarded(arguments: Sequence[str]) -> int | None:
        try:
            if len(arguments) > 1 and not names:
                raise UserError(
                    f'What is "{arguments[1]}"? This command takes flags only: --NAME=VALUE.'
                )
            return main(arguments)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
        except BrokenPipeError:  # whoever read the output wants no more of it, as `head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 128 + signal.SIGPIPE
        except Exception as error:
            if refused := refusal(error):
                again = "; the same command resumes" if stopping.resumes() else ""
                print(f"error: {refused} Put that right{again}.", file=sys.stderr)
                code = 2
            else:
                traceback.print_exc()
                code = 1
        if "jax" in sys.modules:  # importing it takes seconds, and without it there are no others
            from gru_audio.training.processes import leave

            leave(code)
        return code

    app.run(guarded, flags_parser=_parse)


def config(flag: flags.FlagHolder) -> ConfigDict:
    """The config of the experiment that a `--config` flag names.

    Raises:
      UserError: the file is not there.
    """
    try:
        return copy.deepcopy(flag.value)
    except OSError as error:
        path = config_flags.get_config_filename(flags.FLAGS[flag.name])
        raise UserError(f"The experiment file {path} cannot be read.") from error


def experiment_module() -> ModuleType:
    """The experiment file that `--config` names, as a module."""
    path, _ = _path_and_part()
    return load_experiment(path)


def load_experiment(path: epath.PathLike) -> ModuleType:
    """An experiment file as a module.

    Raises:
      UserError: it is no Python file.
    """
    spec = importlib.util.spec_from_file_location("experiment", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def experiment_name() -> str:
    """The experiment file's name without folder and ending, and the part: "bai2018-copy_500"."""
    path, part = _path_and_part()
    return name_with_part(path.rpartition("/")[2].removesuffix(".py"), part)


def _path_and_part() -> tuple[str, str]:
    """The file and the part ("" for none) in `--config FILE:PART`, as config_flags parts them."""
    path, _, part = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return path, part


def command_line() -> str:
    """How this process was started, as one would type it."""
    return " ".join(["python -m", stopping.program() or sys.argv[0], *sys.argv[1:]])


def _parse(arguments: Sequence[str]) -> list[str]:
    """Parses flags; a wrong override of the config is shown with the nearest valid name."""
    try:
        return flags.FLAGS(list(arguments))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        print(f"error: {_explain(arguments, error)}", file=sys.stderr)
        sys.exit(2)


def _explain(arguments: Sequence[str], error: Exception) -> str:
    cause: BaseException = error
    while cause.__context__ is not None:  # what get_config() raises comes wrapped
        cause = cause.__context__
    if isinstance(cause, UserError):
        return str(cause)
    if "get_config() takes 0 positional arguments" in str(cause):
        return "This experiment has no parts: name it by --config FILE alone."
    known = flatten(default_config())
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0].removeprefix("config.")
        if argument.lstrip("-").startswith("config.") and name not in known:
            return f'Unknown config key "{name}".{nearest(name, known)}'
    if "before a value for --config" in str(error):
        return "Name the experiment first: --config FILE, and after it --config.NAME=VALUE."
    return str(error)
