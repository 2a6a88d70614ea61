"""Functions that all commands share: loading an experiment, and printing errors for users."""

import functools
import importlib.util
import inspect
import io
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from absl import app, flags
from absl import logging as absl_logging
from etils import epath

from gru_audio.experiment_files import find, hint
from gru_audio.files import refusal
from gru_audio.settings import UserError
from gru_audio.training import stopping

if TYPE_CHECKING:
    from gru_audio.config import Config

T = TypeVar("T")

_NO_CONFIG = (
    "get_config() must return a config: start from gru_audio.config.default_config(), change its "
    "values, and return it."
)
_LONGEST = 300  # characters of an error message in one line
# Messages of absl about flags, and what replaces them.
_CLEARER = (
    (r"^flags .*: ", ""),  # the values of all flags of a check
    (r"^flag (--.*): invalid literal for int\(\).*", r"\1 must be a whole number."),
    (r"^flag (--.*): could not convert string to float.*", r"\1 must be a number."),
)

# Tables that may be extended.
_TABLES = {"CELLS", "FRONTENDS", "METRICS", "MODELS", "POOLINGS", "TASKS", "TRACKERS"}
_added: dict[tuple[str, str], str] = {}  # (table, name) -> the file that defines the component
_overrides: dict[str, str] = {}  # dotted name -> the text on the command line


def run(main: Callable[[Sequence[str]], int | None], *, names: bool = False) -> None:
    """Runs a command's `main`. A `UserError` prints only its message; the exit code is then 2.

    Args:
      main: takes the arguments, the command first, and returns the exit code.
      names: whether the command takes arguments that are not flags, such as files.
    """
    stopping.begin(cleans_up=not stopping.resumes())  # training has `stopping.catch_signals`
    print_anywhere()
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("jax").setLevel(logging.ERROR)

    def guarded(arguments: Sequence[str]) -> int | None:
        try:
            if len(arguments) > 1 and not names:
                raise UserError(
                    f'Unknown argument "{arguments[1]}": this command takes flags only, '
                    "--NAME=VALUE."
                )
            if "experiment" in flags.FLAGS and flags.FLAGS["experiment"].value:
                load_experiment(str(flags.FLAGS["experiment"].value))
            return main(arguments)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
        except BrokenPipeError:  # the reader of the output, such as `head`, has ended
            code = _reader_has_ended()
        except Exception as error:
            if refused := refusal(error):
                again = "; the same command resumes" if stopping.resumes() else ""
                print(f"error: {refused} Correct this{again}.", file=sys.stderr)
                code = 2
            else:
                traceback.print_exc()
                code = 1
        if "jax" in sys.modules:  # without JAX there are no other processes
            from gru_audio.training.distributed import leave

            leave(code)
        return code

    app.run(guarded, flags_parser=_parse)


def _reader_has_ended() -> int:
    """Discards the rest of the output. Returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def print_anywhere() -> None:
    """Makes the standard streams escape characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def define_config(default: str | None = None, about: str = "The experiment.") -> None:
    """Defines the flags --config, which names an experiment, and --help_config."""
    usage = "FILE or NAME, or with :PART. --config.NAME=VALUE sets a value of its config"
    flags.DEFINE_string("config", default, f"{about} {usage}.")
    flags.DEFINE_bool("help_config", False, "Show every key of the config, and stop.")


def define_experiment() -> None:
    """Defines the flag --experiment, which names the file that defines a run's components."""
    flags.DEFINE_string(
        "experiment",
        None,
        "FILE or NAME of the experiment that defines cells, models ... of the run.",
    )


def config() -> "Config":
    """Returns the config of the experiment that --config names, with the command line's values.

    With --help_config it prints the config, and the process ends.

    Raises:
      UserError: the file is missing, its `get_config()` fails or does not return a config, or a
        value is invalid.
    """
    path, part = _path_and_part()
    get_config = getattr(experiment_module(), "get_config", None)
    if not callable(get_config):
        raise UserError(f"{path} has no get_config() that returns the config of the experiment.")
    if part is not None and not inspect.signature(get_config).parameters:
        whole = str(flags.FLAGS["config"].value).partition(":")[0]
        raise UserError(f"This experiment has no parts: pass --config {whole}.")

    # This import takes a second: --help and unknown experiments do not wait for it.
    from gru_audio.config import Config, check, describe, override

    result = call_experiment(path, get_config, *([] if part is None else [part]))
    if not isinstance(result, Config):
        raise UserError(f"{path}: {_NO_CONFIG}")
    result = override(result, _overrides, typed=True)
    if flags.FLAGS["help_config"].value:
        print(describe(result))
        sys.exit(0)
    check(result)
    return result


def check_data(config: "Config") -> None:
    """Checks the data set of a config, before imports that take seconds.

    Raises:
      UserError: the data set is not prepared, or has no field of the name `data.target`.
    """
    from gru_audio.data.source import open_source

    open_source(config.data.name, config.data.dir).field(config.data.target)


def output_folder(flag: str, path: str) -> epath.Path:
    """Returns the folder that a flag names, which need not exist.

    Raises:
      UserError: it is a file, or lies in a file.
    """
    folder = epath.Path(path).expanduser()
    for place in (folder, *folder.parents):
        if "://" not in str(path) and place.exists() and not place.is_dir():
            raise UserError(f"--{flag}={path}: {place} is a file. Name a folder.")
    return folder


def experiment_module() -> ModuleType:
    """Returns the experiment file that `--config` names as a module."""
    return _loaded(_path_and_part()[0])


def load_experiment(path: epath.PathLike, *, extend: bool = True) -> ModuleType:
    """Loads an experiment file as a module.

    Args:
      path: of the file, or the name of an experiment of the package.
      extend: whether the components that it defines are added to the tables of the package.

    Raises:
      UserError: the file is unreadable, is not Python, or fails; the message gives the line.
    """
    path = find(path)
    try:
        epath.Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"The experiment file {path} cannot be read: {error.strerror or error}.{hint(path)}"
        ) from error
    spec = importlib.util.spec_from_file_location("experiment", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    call_experiment(path, spec.loader.exec_module, module)
    if extend:
        add_components(path, module)
    return module


def add_components(path: epath.PathLike, module: ModuleType) -> None:
    """Adds the cells, models ... that an experiment file defines to the tables of the package.

    Raises:
      UserError: a name is already taken, or a component has the wrong type.
    """
    if not _TABLES & vars(module).keys():
        return  # before the imports, which take a second
    from gru_audio.audio.frontends import FRONTENDS
    from gru_audio.nn.cells import CELLS
    from gru_audio.nn.equations import Cell
    from gru_audio.nn.models import MODELS
    from gru_audio.nn.pooling import POOLINGS
    from gru_audio.tasks import TASKS
    from gru_audio.tasks.metrics import METRICS, Metric
    from gru_audio.training.trackers import TRACKERS

    tables: dict[str, dict[str, Any]] = {
        "CELLS": CELLS,
        "FRONTENDS": FRONTENDS,
        "METRICS": METRICS,
        "MODELS": MODELS,
        "POOLINGS": POOLINGS,
        "TASKS": TASKS,
        "TRACKERS": TRACKERS,
    }
    own = os.path.realpath(path)
    for kind in sorted(_TABLES & vars(module).keys()):
        for name, component in getattr(module, kind).items():
            expected = {"CELLS": Cell, "METRICS": Metric}.get(kind)
            if not (isinstance(component, expected) if expected else callable(component)):
                needed = f"a {expected.__name__}" if expected else "callable"
                raise UserError(f'{path}: {kind}["{name}"] is not {needed}.')
            if name in tables[kind] and _added.get((kind, name)) != own:
                raise UserError(f'{path}: {kind} already has "{name}": use another name.')
            tables[kind][name], _added[kind, name] = component, own


_loaded = functools.cache(load_experiment)


def call_experiment(path: epath.PathLike, function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function of an experiment file.

    Raises:
      UserError: the function fails; the message gives the error and its line in the file.
    """
    try:
        return function(*arguments)
    except Exception as error:
        message = _experiment_error(error, path) or f"{path}: {_one_line(error)}"
        raise UserError(message) from error


def experiment_sweep(module: ModuleType, config: "Config") -> Any:
    """Returns the result of the experiment's `get_sweep(config)` or `get_sweep(config, part)`.

    Raises:
      UserError: the experiment has no `get_sweep`, or it fails.
    """
    path, _ = _path_and_part()
    if not callable(getattr(module, "get_sweep", None)):
        raise UserError("The experiment has no get_sweep(config); `train` runs a single config.")
    return call_experiment(path, sweep_of, module, config, _part())


def experiment_name() -> str:
    """Returns the file name without folder and suffix, and the part: "bai2018-copy_500"."""
    path, _ = _path_and_part()
    return name_with_part(path.rpartition("/")[2].removesuffix(".py"), _part())


def sweep_of(module: ModuleType, config: "Config", part: str = "") -> Any:
    """Returns the sweep of a part; `get_sweep` gets the part if it has a second parameter."""
    takes_part = part and len(inspect.signature(module.get_sweep).parameters) > 1
    return module.get_sweep(config, part) if takes_part else module.get_sweep(config)


def name_with_part(experiment: str, part: str | None) -> str:
    """Returns the name of a part of an experiment and of its results: "bai2018-copy_500"."""
    return f"{experiment}-{part}" if part else experiment


def _part() -> str:
    """Returns the part of the experiment that runs; "" if it has none.

    It is the default of `get_config` if `--config` names none.
    """
    _, part = _path_and_part()
    module = experiment_module()
    if part is not None or not hasattr(module, "PARTS"):
        return part or ""
    (first, *_) = inspect.signature(module.get_config).parameters.values()
    return str(first.default)


def _path_and_part() -> tuple[str, str | None]:
    """Returns the file and the part of `--config FILE:PART`; the part is None if not given."""
    path, colon, part = str(flags.FLAGS["config"].value).partition(":")
    return find(path), part if colon else None


def command_line() -> str:
    """Returns the command line of this process, as a user would type it."""
    return " ".join(["python -m", stopping.program() or sys.argv[0], *sys.argv[1:]])


def _parse(arguments: Sequence[str]) -> list[str]:
    """Parses the flags, and stores the overrides of the config for `config()`."""
    try:
        return flags.FLAGS(_without_overrides(list(arguments)))
    except BrokenPipeError:  # --help | head
        sys.exit(_reader_has_ended())
    except (flags.Error, UserError) as error:
        print(f"error: {_flag_error(error)}", file=sys.stderr)
        sys.exit(2)


def _flag_error(error: Exception) -> str:
    """Returns an error of the flags in one line that says what to type."""
    if isinstance(error, flags.UnrecognizedFlagError):
        name, close = error.flagname, re.search(r"Did you mean: (\S+)", str(error))
        if "." in name and "config" in flags.FLAGS:
            return f"Unknown flag --{name}. A key of the config is set by --config.{name}=VALUE."
        hint = f" Did you mean --{close[1]}?" if close else ""
        return f"Unknown flag --{name}.{hint} --help lists the flags."
    if missing := re.findall(r"Flag (--\S+) must have a value", str(error)):
        return f"Pass {' and '.join(missing)}; --help explains the flags."
    lines = str(error).splitlines()
    for pattern, clearer in _CLEARER:
        lines = [re.sub(pattern, clearer, line) for line in lines]
    return _shortened(" ".join(lines))


def _without_overrides(arguments: list[str]) -> list[str]:
    """Returns the arguments without --config.NAME=VALUE and --config.NAME VALUE."""
    left = []
    while arguments:
        argument = arguments.pop(0)
        found = re.fullmatch(r"--?config\.([^=]*)(?:=(.*))?", argument, re.DOTALL)
        if "config" not in flags.FLAGS or not found:
            left.append(argument)
            continue
        name, value = found.groups()
        if value is None:
            if not arguments or re.match(r"-(?![\d.])", arguments[0]):
                raise UserError(f"Give a value: --config.{name}=VALUE.")
            value = arguments.pop(0)
        _overrides[name] = value
    return left


def _experiment_error(error: BaseException, path: epath.PathLike) -> str:
    """Returns an error in an experiment file with its line; "" if it is not from that file."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, SyntaxError) and _same_file(cause.filename, path):
            return f"{path}, line {cause.lineno or 1}: {type(cause).__name__}: {cause.msg}"
        frames = traceback.extract_tb(cause.__traceback__)
        lines = [frame.lineno for frame in frames if _same_file(frame.filename, path)]
        if lines:
            return f"{path}, line {lines[-1]}: {type(cause).__name__}: {_one_line(cause)}"
        if any(frame.name == "exec_module" for frame in frames):  # no line has run yet
            return f"{path} is not Python: {_one_line(cause)}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _same_file(name: str | None, path: epath.PathLike) -> bool:
    return name is not None and os.path.realpath(name) == os.path.realpath(path)


def _one_line(error: BaseException) -> str:
    """Returns an error's message without line breaks, shortened to `_LONGEST` characters."""
    return _shortened(str(error) or type(error).__name__)


def _shortened(text: str) -> str:
    """Returns a text without line breaks, shortened to `_LONGEST` characters."""
    text, half = " ".join(text.split()), _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"
