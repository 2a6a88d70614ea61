"""A workdir: its lock, its description, and the results of its runs."""

import contextlib
import json
import os
import pathlib
import platform
import secrets
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from typing import IO, Any

import numpy as np
from etils import epath

import gru_audio
from gru_audio.config import differences, read_config, renamed
from gru_audio.data import npz
from gru_audio.files import lock, matching, open_own, read_json, refuse_traps, write_atomically
from gru_audio.settings import UserError
from gru_audio.sweeps import status
from gru_audio.sweeps.extension import raises_steps
from gru_audio.sweeps.layout import Layout
from gru_audio.sweeps.shard import WHOLE, Shard
from gru_audio.sweeps.sweep import Run

_PROJECT = "gru-audio"  # as `pyproject.toml` names it
_PACKAGES = ("gru_audio", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Workdir(Layout):
    """One sweep's directory, with its lock and the results of its runs."""

    def digests(self) -> dict[str, str]:
        """Returns the digests of the sources of the sweep, by name; {} if it is new."""
        sources = (status.read_json(self.sweep_file) or {}).get("sources")
        return sources if isinstance(sources, dict) else {}

    def finished(self, run: Run) -> bool:
        """Whether a run has done all its steps. Its result is written last."""
        path = self.run(run.name) / "result.json"
        if not path.exists():
            return False
        result = status.read_json(path)
        if result is None or status.wrong_result(result, run.name):
            return True  # damaged: `sweep --status` tells what to do
        return status.is_finished(result, run.config.train.steps)

    def ended(self, run: Run) -> bool:
        """Whether a run needs no more training. A search goes on from its failed runs as they are.

        Otherwise a run that fails is tried again.
        """
        failed = (self.run(run.name) / "failure.json").exists()
        return self.finished(run) or (run.round > 0 and failed)

    @contextlib.contextmanager
    def lock(self, shard: Shard = WHOLE) -> Iterator[None]:
        """Locks a shard for this process. The system releases the lock when the process ends.

        Other processes may lock the other shards at the same time. They may not lock shards of
        another number of shards, since they would train the same runs.

        Raises:
          UserError: another process uses the workdir, a link in the workdir points outside it, or
            the workdir is not writable.
        """
        if "://" in str(self.root):  # object stores cannot lock
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                refuse_traps(self.root)
                file = stack.enter_context(open_own(self.root / shard.lock, "a+"))
                self._take(file)
                # Each process takes its own lock first, so that of two that start together at
                # least one sees the other.
                for path in matching(self.root, "lock*"):
                    if shard.excludes(path.name):
                        with open_own(path, "a+") as other:
                            self._take(other, shared=True)  # several processes may check at once
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
            except OSError as error:
                raise UserError(
                    f"Cannot write to workdir {self.root}: {error.strerror}."
                ) from error
            yield

    def _take(self, file: IO[str], shared: bool = False) -> None:
        if not lock(file, shared=shared):
            file.seek(0)
            raise UserError(
                f"Workdir {self.root} is in use by {file.read().strip() or 'another process'}. "
                "Wait for it, stop it, or use another --workdir."
            )

    def claim(self, description: dict[str, Any]) -> None:
        """Writes `sweep.json`, or checks that the existing one describes the same sweep.

        If all runs can continue to more steps, `sweep.json` is written again with these. Warns if
        versions, code or devices differ from those at the start: they may round differently.

        Raises:
          UserError: the workdir belongs to another sweep; the message shows the differences.
        """
        if not self.sweep_file.exists():
            _create(self.sweep_file, json.dumps(description, indent=1))
        # Another shard may have written the file in the meantime.
        there = status.current_names(read_json(self.sweep_file, finite=False))
        now = json.loads(json.dumps(description))
        before, after = identity(there), identity(now)
        difference = [line for key in before for line in _difference(key, before[key], after[key])]
        if before["search"] and not difference:
            self._claim_round(there, now)
        elif (
            difference
            and not before["search"]  # its trials follow from scores at the end
            and _but_steps(before) == _but_steps(after)
            and raises_steps(there, now)
        ):
            extended = now | {"environment": there["environment"]}
            write_atomically(self.sweep_file, json.dumps(extended, indent=1))
            steps = f"{there['config']['train.steps']} to {now['config']['train.steps']}"
            print(f"note: config.train.steps is raised from {steps}", file=sys.stderr)
        elif difference:
            raise UserError(
                f"Workdir {self.root} holds another sweep: use another --workdir, or restore its "
                "settings (there -> now):\n  " + "\n  ".join(difference)
            )
        if other := _difference("environment", there["environment"], now["environment"]):
            print(
                "warning: this sweep began in another environment, which may round differently "
                "(there -> now):\n  " + "\n  ".join(other),
                file=sys.stderr,
            )

    def _claim_round(self, there: dict[str, Any], now: dict[str, Any]) -> None:
        """Adds the runs of a new round of a search to `sweep.json`.

        Raises:
          UserError: the search now proposes other trials than in an earlier process.
        """
        before, after = ({run["run"] for run in sweep["runs"]} for sweep in (there, now))
        if not (before <= after or after <= before):
            raise UserError(
                f"The search proposes other trials than those in workdir {self.root}: use the "
                "version of Optuna it began with, or another --workdir."
            )
        if before < after:
            runs = there | {"runs": now["runs"]}
            write_atomically(self.sweep_file, json.dumps(runs, indent=1))

    def save_failure(self, run: str, failure: dict[str, Any]) -> None:
        """Writes `failure.json` of a run."""
        write_atomically(self.run(run) / "failure.json", json.dumps(failure, indent=1))

    def failure(self, run: str) -> str:
        """Returns a line on a failed run: its error, if known, and its folder."""
        path = self.run(run) / "failure.json"
        why = f"{read_json(path, finite=False)['error']} " if path.exists() else ""
        return f"failed: {run}: {why}(see {self.run(run)})"

    def save_predictions(self, run: str, role: str, arrays: dict[str, np.ndarray]) -> None:
        """Writes `predictions/ROLE.npz` of a run."""
        write_atomically(self.run(run) / "predictions" / f"{role}.npz", npz.encode(arrays))


def identity(description: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a sweep's description that determines its results.

    The other parts may change on resume.
    """
    keys = (
        "experiment",
        "config",
        "variants",
        "trials",
        "replicates",
        "halving",
        "data_fingerprint",
    )
    identity = {key: description[key] for key in keys}
    identity["sources"] = description.get("sources", {})  # older versions lack these
    identity["search"] = description.get("search") or {}
    identity["config"] = differences(read_config(description["config"]))
    identity["variants"] = {
        variant: renamed(changes) for variant, changes in identity["variants"].items()
    }
    for key in ("trials", "replicates"):
        identity[key] = [renamed(changes) for changes in identity[key]]
    return identity


def _but_steps(identity: dict[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in identity["config"].items() if key != "train.steps"}
    return identity | {"config": config}


def environment() -> dict[str, Any]:
    """Returns the versions of packages, the commit and the number of CPU cores."""
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return versions | {
        "python": platform.python_version(),
        "commit": commit(pathlib.Path(gru_audio.__file__).parent),
        "host_cores": cores,
    }


def commit(package: pathlib.Path) -> str | None:
    """Returns the commit of the package, with "+changes" if tracked files have changed.

    Args:
      package: the folder of `gru_audio`.

    Returns:
      The commit; None unless the folder is at the top of this project's own repository.
    """
    # Git hooks set these variables, which may name another repository.
    hooks = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in hooks}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment
        ).stdout.strip()

    try:
        root = pathlib.Path(git("rev-parse", "--show-toplevel")).resolve()
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"]
        if project != _PROJECT or package.resolve() != root / package.name:
            return None
        changes = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "HEAD") + changes
    except (OSError, KeyError, TypeError, ValueError, subprocess.CalledProcessError):
        return None


def _create(path: epath.Path, text: str) -> None:
    """Writes a file atomically. If several processes write it, the first version is kept."""
    if "://" in str(path):  # object stores have no links: the last version is kept
        write_atomically(path, text)
        return
    own = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        write_atomically(own, text)
        try:
            os.link(own, path)
        except OSError:
            if not path.exists():  # the file system has no hard links, such as a mounted bucket
                own.replace(path)
    except OSError as error:
        raise UserError(f"Cannot write to workdir {path.parent}: {error.strerror}.") from error
    finally:
        for part in matching(path.parent, f".{path.name}.*.part"):  # also those of killed processes
            part.unlink(missing_ok=True)


def _difference(name: str, before: Any, after: Any) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in sorted({*before, *after}):
            lines += _difference(f"{name}.{key}", before.get(key), after.get(key))
        return lines
    return [] if before == after else [f"{name}: {before} -> {after}"]
