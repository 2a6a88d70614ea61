"""Unpacks untrusted archives safely."""

import hashlib
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from gru_audio.files import read_bytes
from gru_audio.paths import local_path
from gru_audio.settings import UserError

# An archive may unpack to 200 times its size, and always to 1 GiB: more than sound needs, and too
# little to fill a disk on purpose.
_MOST_TIMES, _MOST_BYTES = 200, 2**30
_BLOCK = 4096  # bytes of disk that each member takes, even an empty one
_ZIP_END = 2**16 + 22  # the most bytes of a zip's end record with its comment
_CHUNK = 2**20  # bytes


def check_place(folder: Path | str | None, archive: Path | str | None) -> None:
    """Raises `UserError` if both a folder and an archive are named."""
    if folder and archive:
        raise UserError("The sounds come from a --folder or an --archive: give one of them.")


def unpack(archive: Path | str, folder: Path, most_bytes: int = _MOST_BYTES) -> Path:
    """Unpacks a tar (also compressed) or zip archive into `folder`.

    Links become copies of their targets, which must be in the archive too. Nothing is ever written
    outside `folder`.

    Args:
      archive: the file; or a folder, which is used without unpacking.
      folder: the folder to unpack to.
      most_bytes: the archive may unpack to this many bytes, or to 200 times its size if that is
        more.

    Returns:
      `folder` (or `archive` if that is a folder); if it holds a single folder, that one.

    Raises:
      UserError: there is no such file, it is not an archive, it is damaged or unpacks to too many
        bytes, or a member is a device or would be written outside `folder`.
    """
    archive = local_path(archive)
    if archive.is_dir():
        return _only_folder(archive)
    if not archive.is_file():
        raise UserError(f"There is no archive {archive}.")
    try:
        budget = _Budget(archive, most_bytes)
        for name, content, size in _members(archive):
            target = folder / _inside(name)
            budget.spend(_BLOCK)
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as file:
                while chunk := content.read(_CHUNK):
                    budget.spend(len(chunk))
                    file.write(chunk)
                _check_size(name, file.tell(), size)
        if not any(folder.iterdir()):
            raise _Refused("there is nothing in it")
    except _Refused as error:
        raise UserError(f"Archive {archive} is refused: {error}") from error
    except Exception as error:  # damaged archives raise errors of many kinds
        raise UserError(f"Cannot unpack archive {archive}: {_reason(error)}") from error
    return _only_folder(folder)


def member(archive: Path, name: str) -> bytes:
    """Reads one file of an archive or folder, by its path below the folder of `unpack`.

    Raises:
      UserError: there is no such archive or file, or it is damaged.
    """
    try:
        if archive.is_dir():
            return read_bytes(_only_folder(archive) / name)
        budget = _Budget(archive, _MOST_BYTES)
        for path, content, size in _members(archive):
            parts = PurePosixPath(path).parts
            if content and PurePosixPath(name).parts in (parts, parts[1:]):
                with content:
                    data = content.read(budget.left + 1)
                    budget.spend(len(data))
                    _check_size(path, len(data), size)
                    return data
    except Exception as error:  # as above
        raise UserError(f"Cannot read {name} in {archive}: {_reason(error)}") from error
    raise UserError(f"{archive} has no file {name}.")


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _only_folder(folder: Path) -> Path:
    """Returns the only folder in `folder`, if any, else `folder`; ignores what macOS adds."""
    inside = [p for p in folder.iterdir() if p.name != "__MACOSX" and not p.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


class _Refused(Exception):
    """An archive that may be malicious."""


class _Member(NamedTuple):
    """A file or folder in an archive.

    Attributes:
      name: its path.
      content: the content of a file; None for a folder.
      size: the size that the content must have; None if reading already checks it.
    """

    name: str
    content: IO[bytes] | None
    size: int | None


def _check_size(name: str, found: int, size: int | None) -> None:
    """Refuses a file of another size than its archive states; zipfile does not check that."""
    if size is not None and found != size:
        raise _Refused(f"member {name!r} has {found} bytes, not {size}")


class _Budget:
    """The number of bytes to which an archive may still unpack."""

    def __init__(self, archive: Path, most_bytes: int):
        self.left = max(most_bytes, _MOST_TIMES * archive.stat().st_size)

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _Refused(
                f"it unpacks to more than {_MOST_TIMES} times its size. If you trust it, unpack it "
                "yourself and name the folder"
            )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _inside(name: str) -> PurePosixPath:
    """Returns the relative path of a member; refuses unsafe names."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise _Refused(f"member {name!r} would land outside its folder")
    if re.fullmatch("[A-Za-z]:", "".join(path.parts[:1])):
        raise _Refused(f"member {name!r} begins with a drive letter: pack it without")
    if "\0" in name:
        raise _Refused(f"member {name!r} has a NUL in its name")
    return path


def _members(archive: Path) -> Iterator[_Member]:
    """Yields all members in order."""
    return (_tar_members if tarfile.is_tarfile(archive) else _zip_members)(archive)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                yield _Member(member.name, None, 0)
                continue
            try:
                content = tar.extractfile(member)  # resolves links in the archive, not on disk
            except KeyError as error:
                raise _Refused(
                    f"member {member.name!r} links to {member.linkname!r}, which is not in it"
                ) from error
            if content is None:
                raise _Refused(f"member {member.name!r} is neither a file nor a folder")
            yield _Member(member.name, content, None)
        _check_end(tar.fileobj)


def _check_end(file: Any) -> None:
    """Reads to the end of the archive, where a compressed file has its checksum."""
    left = _MOST_BYTES
    while file and (chunk := file.read(_CHUNK)):
        left -= len(chunk)
        if left < 0:
            raise _Refused("too many bytes follow its last member")


def _check_count(archive: Path, count: int) -> None:
    """Refuses a zip whose list of members is truncated; zipfile does not notice that."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - _ZIP_END))
        end = file.read()
    stated = end[end.rfind(b"PK\5\6") + 10 :][:2]
    if stated not in (b"\xff\xff", (count % 2**16).to_bytes(2, "little")):
        raise _Refused(f"{count} of its members are found, but its end states another number")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as zipped:
        _check_count(archive, len(zipped.infolist()))
        for member in zipped.infolist():
            if "\0" in member.orig_filename:  # zipfile truncates the name there
                raise _Refused(f"member {member.orig_filename!r} has a NUL in its name")
            content = zipped.open(member)  # also checks that both copies of the name agree
            if member.is_dir():
                content.close()
            yield _Member(member.filename, None if member.is_dir() else content, member.file_size)
