"""JAX's persistent cache of compiled programs, kept in the user's cache directory.

A resumed, requeued or repeated command finds its programs there. Results are bit-identical with and
without the cache. These settings of JAX win over ours if they are set in the environment:
JAX_COMPILATION_CACHE_DIR names another directory, and JAX_ENABLE_COMPILATION_CACHE=false switches
the cache off.
"""

import contextlib
import hashlib
import os
import platform
import re
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import jax

_LIMIT = 4 * 2**30  # bytes; beyond it the oldest programs are deleted
_LEAST_SECONDS = 0.2  # compilation time of a program that is worth storing
_ERROR = re.compile("Error (read|writ)ing persistent compilation cache entry for '(.+?)':")


def use_compilation_cache(enabled: bool = True) -> None:
    """Makes JAX store compiled programs and look for them first. Call it before compiling.

    The cache never stops a command. A directory that cannot be written stays unused. An entry that
    cannot be read, because a process was killed while it wrote it, is deleted and compiled again.
    """
    if not enabled:
        jax.config.update("jax_enable_compilation_cache", False)
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    if not jax.config.values["jax_compilation_cache_dir"]:
        folder = directory()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shrink(folder.parent, _LIMIT)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    _mend(Path(jax.config.values["jax_compilation_cache_dir"]))


def folder() -> str | None:
    """Returns the directory of the cache; None if it is not used."""
    used = jax.config.values["jax_enable_compilation_cache"]
    return jax.config.values["jax_compilation_cache_dir"] if used else None


def directory() -> Path:
    """Returns the default directory for programs of this machine's kind of processor.

    A program for a CPU may use instructions that another processor lacks, and home directories are
    shared between machines.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    processor = hashlib.sha256(_processor().encode()).hexdigest()[:16]
    return cache / "gru_audio" / "compiled" / processor


def _processor() -> str:
    """Returns a text that differs between processors with different instructions."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        lines = [s for s in text.splitlines() if s.startswith(("model name", "flags", "Features"))]
    return "\n".join([platform.machine(), *lines]) if lines else platform.platform()


def shrink(folder: Path, limit: int) -> None:
    """Deletes the oldest files under a folder until the others have at most `limit` bytes."""
    files = []
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(OSError):  # another process deletes files, too
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def _mend(folder: Path) -> None:
    """Makes entries that JAX cannot read be replaced, instead of a warning every time.

    JAX warns before it compiles, and does not write an entry that exists.
    """
    show: Callable[..., None] = warnings.showwarning

    def handle(message, category, filename, lineno, file=None, line=None):
        failed = _ERROR.match(str(message))
        if not failed:
            return show(message, category, filename, lineno, file, line)
        if failed[1] == "read":
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    if name.startswith(f"{failed[2]}-") and not _whole(folder / name):
                        (folder / name).unlink()

    warnings.showwarning = handle
    warnings.filterwarnings("always", _ERROR.pattern)


def _whole(entry: Path) -> bool:
    """Returns whether an entry is whole. Those of JAX with Zstandard count as damaged."""
    try:
        zlib.decompress(entry.read_bytes())
    except (OSError, zlib.error):
        return False
    return True
