"""Users' folders and disks: listing, locking, and disks that refuse.

A path that a user gives may hold any character. So it is never part of a pattern.
"""

import errno
import fcntl
import fnmatch
import sys
from typing import IO

from etils import epath

# What makes a disk refuse, and what the user can mend without a look at the code.
_REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG),
)


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
