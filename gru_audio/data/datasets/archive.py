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
from typing import IO, Any, NamedTuple

from gru_audio.files import read_bytes, replacing
from gru_audio.paths import local_path
from gru_audio.settings import UserError

_TIMEOUT = 60  # seconds without a byte
# An archive may unpack to so many times its size, and to this many bytes in any case: far more
# than sound ever does, and less than what fills a disk on purpose.
_MOST_TIMES, _MOST_BYTES = 200, 2**30
_BLOCK = 4096  # bytes that even an empty member takes of a disk
_ZIP_END = 2**16 + 22  # bytes in which the end of a zip lies: its record and a comment
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
        for name, content, size in _members(archive):
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
                _check_size(name, file.tell(), size)
        if not any(folder.iterdir()):
            raise _Refused("there is nothing in it")
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
        for path, content, size in _members(archive):
            parts = PurePosixPath(path).parts
            if content and PurePosixPath(name).parts in (parts, parts[1:]):
                with content:
                    data = content.read(room.left + 1)
                    room.take(len(data))
                    _check_size(path, len(data), size)
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


class _Member(NamedTuple):
    """What an archive holds: a file, or a folder where there is no content.

    `size` is what the content must have, where reading it does not check that.
    """

    name: str
    content: IO[bytes] | None
    size: int | None


def _check_size(name: str, found: int, size: int | None) -> None:
    """Refuses a file that is not as long as its archive says; zipfile ends a short one early."""
    if size is not None and found != size:
        raise _Refused(f"member {name!r} has {found} bytes, not {size}")


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


def _members(archive: Path) -> Iterator[_Member]:
    """All members, in their order."""
    return (_tar_members if tarfile.is_tarfile(archive) else _zip_members)(archive)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                yield _Member(member.name, None, 0)
                continue
            try:
                content = tar.extractfile(member)  # looks links up in the archive, not on disk
            except KeyError as error:
                raise _Refused(
                    f"member {member.name!r} links to {member.linkname!r}, which is not in it"
                ) from error
            if content is None:
                raise _Refused(f"member {member.name!r} is neither a file nor a folder")
            yield _Member(member.name, content, None)
        _check_end(tar.fileobj)


def _check_end(file: Any) -> None:
    """Reads to the end of the archive: the checksum of a compressed file is there."""
    left = _MOST_BYTES
    while file and (chunk := file.read(_CHUNK)):
        left -= len(chunk)
        if left < 0:
            raise _Refused("more follows its last member than is ever packed there")


def _check_count(archive: Path, count: int) -> None:
    """Refuses a zip whose list of members is cut short, which zipfile takes for a shorter list."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - _ZIP_END))
        end = file.read()
    told = end[end.rfind(b"PK\5\6") + 10 :][:2]
    if told not in (b"\xff\xff", (count % 2**16).to_bytes(2, "little")):
        raise _Refused(f"{count} of its members are found, but its end states another number")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as zipped:
        _check_count(archive, len(zipped.infolist()))
        for member in zipped.infolist():
            if "\0" in member.orig_filename:  # zipfile would end the name there
                raise _Refused(f"member {member.orig_filename!r} has a NUL in its name")
            content = zipped.open(member)  # of a folder, too: its name stands in two places
            if member.is_dir():
                content.close()
            yield _Member(member.filename, None if member.is_dir() else content, member.file_size)
