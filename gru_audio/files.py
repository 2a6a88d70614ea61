"""Users' folders and disks: reading, writing, listing, locking, and disks that refuse.

A path that a user gives may hold any character. So it is never part of a pattern. And a folder may
come from a stranger: a link in it could make us overwrite a file elsewhere, a pipe could block us,
and JSON could be nested deeper than Python's stack.
"""

import contextlib
import errno
import fcntl
import fnmatch
import json
import math
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from etils import epath

from gru_audio.settings import UserError

# What makes a disk refuse, and what the user can mend without a look at the code.
_REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG),
)
_REMOTE = "://"  # in the address of an object store, which has no links and no half-written files


def matching(folder: epath.Path, pattern: str) -> list[epath.Path]:
    """The files and folders in `folder` whose names match, sorted; none if there is no folder.

    `epath.Path.glob` reads the folder itself as a pattern: it finds nothing in "runs/lr[1e-3]".
    """
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir())
    return [folder / name for name in names if fnmatch.fnmatchcase(name, pattern)]


def lock(file: IO[str], *, shared: bool = False, wait: bool = False) -> bool:
    """Locks an open file until it is closed or the process ends, whatever way it does.

    Some disks, such as Lustre and NFS, are mounted without locks. There it warns, and all go on.

    Args:
      file: open.
      shared: others may hold it too, if they share it.
      wait: until the others let go of it.

    Returns:
      Whether nothing is in the way.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        print(
            f"warning: {file.name} cannot be locked ({error.strerror}): make sure that no second "
            "process writes there.",
            file=sys.stderr,
        )
    return True


def refusal(error: BaseException) -> str:
    """What a disk refused and why, in one line; "" for any other error."""
    if not isinstance(error, OSError) or error.errno not in _REFUSALS:
        return ""
    what = (
        f"Cannot read or write {error.filename}" if error.filename else "A file cannot be written"
    )
    return f"{what}: {error.strerror}."


def write_atomically(path: epath.PathLike, data: str | bytes, *, shared: bool = False) -> None:
    """Writes a small file so that a reader sees the old or the new one, never half of it.

    Text is written as UTF-8; what it cannot hold (bytes of a file name) is written as an escape.

    Args:
      path: is replaced, also where it is a link; what the link leads to stays as it is.
      data: the content.
      shared: other processes may write the same file at the same time.

    Raises:
      OSError: it cannot be written; then nothing has changed.
    """
    data = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    if _REMOTE in str(path):
        epath.Path(path).write_bytes(data)
        return
    with contextlib.suppress(FileExistsError):  # writing says better what is in the way
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, shared=shared) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: epath.PathLike, *, shared: bool = False) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends without an error.

    See `write_atomically`. The file of a process that was killed here is overwritten by the next,
    unless it was shared.
    """
    path = Path(path)
    token = f".{secrets.token_hex(4)}" if shared else ""
    part = path.parent / f".{path.name}{token}.part"
    try:
        part.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, 0o666), "wb") as file:
            yield file
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):  # name the file that is meant, not the part
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def open_own(path: epath.PathLike, mode: str) -> IO[Any]:
    """Opens a file of ours to add to it ("ab", "a+"), and makes it where it is missing.

    Raises:
      OSError: it cannot be opened, or is a link or no plain file.
    """

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no plain file", name)
        return descriptor

    try:
        return open(path, mode, opener=opener)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link: remove it", str(path)) from error
        raise


def refuse_links(root: epath.PathLike) -> None:
    """Refuses a folder with a link in it that leads outside: what is written could go there.

    Raises:
      UserError: there is one.
    """
    if _REMOTE in str(root):
        return
    home = os.path.realpath(root)
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            if os.path.islink(path):
                target = os.path.realpath(path)
                if os.path.commonpath([home, target]) != home:
                    raise UserError(
                        f"{path} is a link to {target}, outside of {root}. Nothing is written "
                        "through it: remove it, or take another directory."
                    )


def read_bytes(path: epath.PathLike) -> bytes:
    """The content of a plain file.

    Raises:
      OSError: it cannot be read, is larger than memory, or is a pipe, a device or a folder.
    """
    if _REMOTE in str(path):
        return epath.Path(path).read_bytes()
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        try:
            return file.read()
        except MemoryError as error:
            raise OSError(errno.ENOMEM, "it is larger than memory", str(path)) from error


def read_text(path: epath.PathLike, encoding: str = "utf-8") -> str:
    """The content of a plain text file; raises `OSError` or `UnicodeDecodeError`."""
    return read_bytes(path).decode(encoding)


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """What JSON from elsewhere says.

    Args:
      text: the JSON.
      finite: refuses NaN and infinities, which are not JSON, and numbers too large for a float.

    Raises:
      ValueError: it is no JSON, or nested too deeply.
    """
    try:
        if not finite:
            return json.loads(text)
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def read_json(path: epath.PathLike, *, finite: bool = True) -> Any:
    """What a file of JSON says; raises `OSError`, or `ValueError` as `parse_json`."""
    return parse_json(read_bytes(path), finite=finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number
