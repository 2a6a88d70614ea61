"""What all commands share: reading an experiment, and showing errors that a user can act on."""

import copy
import importlib.util
import io
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

from absl import app, flags
from absl import logging as absl_logging
from etils import epath
from ml_collections import ConfigDict, config_flags

from gru_audio.config import UserError, check, default_config, flatten, nearest
from gru_audio.files import refusal
from gru_audio.training import stopping

T = TypeVar("T")

_NO_CONFIG = (
    "get_config() must return a config: start from gru_audio.config.default_config(), change what "
    "differs, and return it."
)
_WRAPPED = "Error whilst parsing config file"  # how config_flags wraps what get_config() raises
_LONGEST = 300  # characters of an error in a line


def run(main: Callable[[Sequence[str]], int | None], *, names: bool = False) -> None:
    """Runs a command's `main`; a `UserError` ends it with its message alone and exit code 2.

    Args:
      main: from the arguments, of which the first is the command, to the exit code.
      names: whether it takes arguments that are no flags, such as files.
    """
    stopping.begin(cleans_up=not stopping.resumes())  # training has `stopping.heed`
    print_anywhere()
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
            from gru_audio.training.distributed import leave

            leave(code)
        return code

    app.run(guarded, flags_parser=_parse)


def print_anywhere() -> None:
    """Makes the standard streams print an escape for what their encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def config(flag: flags.FlagHolder) -> ConfigDict:
    """The config of the experiment that a `--config` flag names.

    Raises:
      UserError: the file is not there, its `get_config()` fails or returns something else, or the
        config has values that no run could use.
    """
    path, _ = _path_and_part()
    try:
        given = copy.deepcopy(flag.value)
    except OSError as error:
        told = _of_experiment(error, path) or f"The experiment file {path} cannot be read."
        raise UserError(told) from error
    if (
        not isinstance(given, ConfigDict)
        or flatten(given).keys() != flatten(default_config()).keys()
    ):
        raise UserError(f"{path}: {_NO_CONFIG}")
    check(given)
    return given


def experiment_module() -> ModuleType:
    """The experiment file that `--config` names, as a module."""
    path, _ = _path_and_part()
    return load_experiment(path)


def load_experiment(path: epath.PathLike) -> ModuleType:
    """An experiment file as a module.

    Raises:
      UserError: it is no Python file, or fails; says where.
    """
    spec = importlib.util.spec_from_file_location("experiment", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    call_experiment(path, spec.loader.exec_module, module)
    return module


def call_experiment(path: epath.PathLike, function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function of an experiment file.

    Raises:
      UserError: it fails; says in which line of the file, and how.
    """
    try:
        return function(*arguments)
    except Exception as error:
        told = _of_experiment(error, path) or f"{path}: {_in_a_line(error)}"
        raise UserError(told) from error


def experiment_sweep(module: ModuleType, config: ConfigDict) -> Any:
    """What `get_sweep(config)` of an experiment returns.

    Raises:
      UserError: there is none, or it fails.
    """
    path, _ = _path_and_part()
    if not callable(getattr(module, "get_sweep", None)):
        raise UserError("The experiment has no get_sweep(config); `train` runs a single config.")
    return call_experiment(path, module.get_sweep, config)


def experiment_name() -> str:
    """The experiment file's name without folder and ending, and the part: "bai2018-copy_500"."""
    path, part = _path_and_part()
    return name_with_part(path.rpartition("/")[2].removesuffix(".py"), part)


def name_with_part(experiment: str, part: str) -> str:
    """What a part of an experiment, and all its results, are called: "bai2018-copy_500"."""
    return f"{experiment}-{part}" if part else experiment


def _path_and_part() -> tuple[str, str]:
    """The file and the part ("" for none) in `--config FILE:PART`, as config_flags parts them."""
    path, _, part = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return path, part


def command_line() -> str:
    """How this process was started, as one would type it."""
    return " ".join(["python -m", stopping.program() or sys.argv[0], *sys.argv[1:]])


def _parse(arguments: Sequence[str]) -> list[str]:
    """Parses flags; a wrong override of the config is shown with the nearest valid name."""
    absl_logging.set_verbosity(absl_logging.ERROR)  # what config_flags warns of is told below
    try:
        return flags.FLAGS(list(arguments))
    except Exception as error:  # get_config() of the experiment runs in here
        print(f"error: {_explain(arguments, error)}", file=sys.stderr)
        sys.exit(2)
    finally:
        absl_logging.set_verbosity(absl_logging.WARNING)


def _explain(arguments: Sequence[str], error: Exception) -> str:
    """What is wrong with the command line, or with the experiment that it names."""
    if path := _experiment_in(arguments):
        if told := _of_experiment(error, path):
            return told
        if "get_config() takes 0 positional arguments" in str(error):
            return "This experiment has no parts: name it by --config FILE alone."
        if "has no attribute 'get_config'" in str(error):
            return f"{path} has no get_config(), which returns the config of an experiment."
        if isinstance(error, flags.IllegalFlagValueError) and flags.FLAGS["config"].value is None:
            return f"{path}: {_NO_CONFIG}"
    known = flatten(default_config())
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0].removeprefix("config.")
        if argument.lstrip("-").startswith("config.") and name not in known:
            return f'Unknown config key "{name}".{nearest(name, known)}'
        if isinstance(known.get(name), list) and name in str(error):
            parts = re.split("[;,]", argument.partition("=")[2].strip("()[] "))
            parts = [part.strip(" \"'") for part in parts if part.strip(" \"'")]
            return f'Write a list as --config.{name}="{tuple(parts)}".'
    if "before a value for --config" in str(error):
        return "Name the experiment first: --config FILE, and after it --config.NAME=VALUE."
    return _in_a_line(error)


def _experiment_in(arguments: Sequence[str]) -> str:
    """The file that --config names, though the flags could not be parsed; "" if there is none."""
    given = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, is_value, value = argument.partition("=")
        if flag in ("-config", "--config"):
            given = value if is_value else following
    return given.partition(":")[0]


def _of_experiment(error: BaseException, path: epath.PathLike) -> str:
    """What went wrong in an experiment file and where; "" if it was not there."""
    cause: BaseException | None = error
    while cause is not None:  # what get_config() raises comes wrapped
        if isinstance(cause, UserError) and _WRAPPED not in str(cause):
            return str(cause)
        if isinstance(cause, SyntaxError) and _same_file(cause.filename, path):
            return f"{path}, line {cause.lineno or 1}: {type(cause).__name__}: {cause.msg}"
        frames = traceback.extract_tb(cause.__traceback__)
        lines = [frame.lineno for frame in frames if _same_file(frame.filename, path)]
        if lines:
            return f"{path}, line {lines[-1]}: {type(cause).__name__}: {_in_a_line(cause)}"
        if any(frame.name == "exec_module" for frame in frames):  # before there is any line
            return f"{path} is not Python: {_in_a_line(cause)}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _same_file(name: str | None, path: epath.PathLike) -> bool:
    return name is not None and os.path.realpath(name) == os.path.realpath(path)


def _in_a_line(error: BaseException) -> str:
    """An error's message without line breaks; of an unknown config key, with the nearest one."""
    if unknown := re.search(r'Key "(.+?)" does not exist', str(error)):
        keys = {part for name in flatten(default_config()) for part in name.split(".")}
        return f'unknown config key "{unknown[1]}".{nearest(unknown[1], keys)}'
    text = " ".join(str(error).split()) or type(error).__name__
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"
