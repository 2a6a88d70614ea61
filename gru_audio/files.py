"""Reading, writing, listing and locking files in folders that users name.

The path of a user may contain any character, so it is never part of a glob pattern. A folder may
come from a stranger: a link in it could make this program overwrite a file elsewhere, a pipe could
block it, and JSON could be nested too deeply for Python's stack.
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

# Errors of disks and file systems that a user can fix.
_DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG),
)
_REMOTE = "://"  # marks an object store, which has no links and replaces files atomically


def matching(folder: epath.Path, pattern: str) -> list[epath.Path]:
    """Returns the sorted files and folders in `folder` whose names match a pattern.

    The result is empty if the folder does not exist. `epath.Path.glob` is no alternative: it treats
    the folder as a pattern, too, and finds nothing in "runs/lr[1e-3]".
    """
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir())
    return [folder / name for name in names if fnmatch.fnmatchcase(name, pattern)]


def lock(file: IO[str], *, shared: bool = False, wait: bool = False) -> bool:
    """Locks an open file until it is closed or the process ends.

    Some file systems, such as Lustre and NFS, may be mounted without locks. There the function
    prints a warning and returns True.

    Args:
      file: an open file.
      shared: allow other shared locks of the file.
      wait: wait until other processes release their locks.

    Returns:
      False if another process holds the lock.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, operation)
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
    """Returns a one-line message for a disk error that a user can fix; "" for other errors."""
    if not isinstance(error, OSError) or error.errno not in _DISK_ERRORS:
        return ""
    action = (
        f"Cannot read or write {error.filename}" if error.filename else "A file cannot be written"
    )
    return f"{action}: {error.strerror}."


def write_atomically(path: epath.PathLike, data: str | bytes, *, shared: bool = False) -> None:
    """Writes a small file. A reader sees either the old or the new content, never a part.

    Text is encoded as UTF-8. Characters without an encoding (from undecodable file names) are
    escaped.

    Args:
      path: replaced if it exists. If it is a link, the link is replaced, not its target.
      data: the content.
      shared: other processes may write the same file at the same time.

    Raises:
      OSError: the file cannot be written; the old file is unchanged.
    """
    data = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    if _REMOTE in str(path):
        epath.Path(path).write_bytes(data)
        return
    with contextlib.suppress(FileExistsError):  # writing the file gives a better error
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, shared=shared) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: epath.PathLike, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Opens a new file that replaces `path` when the block ends without an error.

    See `write_atomically`. If the process is killed, its temporary file remains. The next process
    overwrites it, unless `shared` is set.
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
        if isinstance(error, OSError):  # name the file itself, not the temporary file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def open_own(path: epath.PathLike, mode: str) -> IO[Any]:
    """Opens a file of this program for appending ("ab", "a+"); creates it if it is missing.

    Raises:
      OSError: the file cannot be opened, is a link, or is not a regular file.
    """

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        return descriptor

    try:
        return open(path, mode, opener=opener)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link: remove it", str(path)) from error
        raise


def refuse_traps(root: epath.PathLike) -> None:
    """Refuses a folder in which a write could go elsewhere, or a read could block forever.

    Raises:
      UserError: there is a link to a place outside of the folder, or a pipe, socket or device.
    """
    if _REMOTE in str(root):
        return
    home = os.path.realpath(root)
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            mode = _mode(path)
            if stat.S_ISLNK(mode):
                target = os.path.realpath(path)
                if os.path.commonpath([home, target]) != home:
                    raise UserError(
                        f"{path} is a link to {target}, outside of {root}. Nothing is written "
                        "through a link: remove it, or choose another directory."
                    )
            elif mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserError(f"{path} is neither a file nor a folder: remove it.")


def _mode(path: str) -> int:
    """Returns the mode of a file, or of a link itself; 0 if it cannot be found."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def open_regular(path: epath.PathLike) -> BinaryIO:
    """Opens a regular file for reading. Reading a pipe or a device could block forever.

    Raises:
      OSError: the file cannot be opened, or is a pipe, a device or a folder.
    """
    if _REMOTE in str(path):
        return epath.Path(path).open("rb")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: epath.PathLike) -> bytes:
    """Returns the content of a regular file.

    Raises:
      OSError: as `open_regular`, or the file is larger than memory.
    """
    with open_regular(path) as file:
        try:
            return file.read()
        except MemoryError as error:
            raise OSError(errno.ENOMEM, "it is larger than memory", str(path)) from error


def read_text(path: epath.PathLike, encoding: str = "utf-8") -> str:
    """Returns the content of a text file.

    Raises:
      OSError: as `read_bytes`.
      UnicodeDecodeError: the content has another encoding.
    """
    return read_bytes(path).decode(encoding)


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Parses JSON that may be hostile.

    Args:
      text: the JSON.
      finite: refuse NaN, infinities (JSON has neither) and numbers too large for a float.

    Raises:
      ValueError: the text is not JSON, or nested too deeply.
    """
    try:
        if not finite:
            return json.loads(text)
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def read_json(path: epath.PathLike, *, finite: bool = True) -> Any:
    """Returns the value in a JSON file.

    Raises:
      OSError: as `read_bytes`.
      ValueError: as `parse_json`.
    """
    return parse_json(read_bytes(path), finite=finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number
