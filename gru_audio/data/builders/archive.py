"""Archives from elsewhere: fetched whole, and unpacked only inside their own folder."""

import hashlib
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from gru_audio.config import UserError
from gru_audio.files import read_bytes, replacing
from gru_audio.paths import local_path

_TIMEOUT = 60  # seconds without a byte
# An archive may unpack to so many times its size, and to this many bytes in any case: far more
# than sound ever does, and less than what fills a disk on purpose.
_MOST_TIMES, _MOST_BYTES = 200, 2**30
_BLOCK = 4096  # bytes that even an empty member takes of a disk
_CHUNK = 2**20  # bytes


def download(url: str, target: Path) -> Path:
    """Fetches `url` to `target`, which appears only when it is complete.

    Raises:
      UserError: the address does not answer, or the connection breaks.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as reply, replacing(target) as file:
            promised = reply.headers.get("Content-Length")
            shutil.copyfileobj(reply, file)
            if promised and file.tell() != int(promised):
                raise OSError(f"{file.tell()} of {promised} bytes came")
    except (OSError, urllib.error.URLError) as error:
        raise UserError(
            f"Cannot download {url}: {error}. Fetch it in another way and pass it as --archive."
        ) from error
    return target


def check_place(folder: Path | str | None, archive: Path | str | None) -> None:
    """Refuses two places where the sounds would lie."""
    if folder and archive:
        raise UserError("Sounds lie in a --folder or in an --archive: give one of them.")


def unpack(archive: Path | str, folder: Path, most_bytes: int = _MOST_BYTES) -> Path:
    """Unpacks a tar (also compressed) or zip archive into `folder`; leaves a folder as it is.

    Links become copies of what they link to, which has to be in the archive too.

    Args:
      archive: the file; or a folder, which is left as it is.
      folder: where it is unpacked to.
      most_bytes: that it may unpack to, or else 200 times the size of the archive.

    Returns:
      `folder` (or `archive` where that is a folder), or the only folder in it where one holds
      everything.

    Raises:
      UserError: there is no such file, it is no archive, it is damaged or unpacks to too much, or a
        member would land or reach outside `folder` or is a device. Nothing is ever written outside.
    """
    archive = local_path(archive)
    if archive.is_dir():
        return _only_folder(archive)
    if not archive.is_file():
        raise UserError(f"There is no archive {archive}.")
    try:
        room = _Room(archive, most_bytes)
        for name, content in _members(archive):
            target = folder / _inside(name)
            room.take(_BLOCK)
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as file:
                while chunk := content.read(_CHUNK):
                    room.take(len(chunk))
                    file.write(chunk)
    except _Refused as error:
        raise UserError(f"Archive {archive} is refused: {error}") from error
    except Exception as error:  # tarfile and zipfile raise what comes on broken input
        raise UserError(f"Cannot unpack archive {archive}: {_reason(error)}") from error
    return _only_folder(folder)


def member(archive: Path, name: str) -> bytes:
    """A file of an archive, or of a folder, by its path below what `unpack` returns.

    Raises:
      UserError: there is no such archive or file, or it is damaged.
    """
    try:
        if archive.is_dir():
            return read_bytes(_only_folder(archive) / name)
        room = _Room(archive, _MOST_BYTES)
        for path, content in _members(archive):
            parts = PurePosixPath(path).parts
            if content and PurePosixPath(name).parts in (parts, parts[1:]):
                with content:
                    data = content.read(room.left + 1)
                    room.take(len(data))
                    return data
    except Exception as error:  # as above
        raise UserError(f"Cannot read {name} in {archive}: {_reason(error)}") from error
    raise UserError(f"{archive} has no file {name}.")


def sha256(path: Path) -> str:
    """The checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _only_folder(folder: Path) -> Path:
    """What holds everything in `folder`, leaving aside what a Mac puts into archives."""
    inside = [p for p in folder.iterdir() if p.name != "__MACOSX" and not p.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


class _Refused(Exception):
    """A member that no well-meant archive of sounds has."""


class _Room:
    """How many bytes an archive may still unpack to."""

    def __init__(self, archive: Path, most_bytes: int):
        self.left = max(most_bytes, _MOST_TIMES * archive.stat().st_size)

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _Refused(
                f"it unpacks to more than {_MOST_TIMES} times its size. If you trust it, unpack it "
                "yourself and name the folder"
            )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _inside(name: str) -> PurePosixPath:
    """The path of a member below its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise _Refused(f"member {name!r} would land outside its folder")
    if re.fullmatch("[A-Za-z]:", "".join(path.parts[:1])):
        raise _Refused(f"member {name!r} begins with a drive letter: pack it without")
    if "\0" in name:
        raise _Refused(f"member {name!r} has a NUL in its name")
    return path


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of every member; None for a folder."""
    return (_tar_members if tarfile.is_tarfile(archive) else _zip_members)(archive)


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of every member; None for a folder."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                yield member.name, None
                continue
            try:
                content = tar.extractfile(member)  # looks links up in the archive, not on disk
            except KeyError as error:
                raise _Refused(
                    f"member {member.name!r} links to {member.linkname!r}, which is not in it"
                ) from error
            if content is None:
                raise _Refused(f"member {member.name!r} is neither a file nor a folder")
            yield member.name, content


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of every member; None for a folder."""
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            yield member.filename, None if member.is_dir() else zipped.open(member)
