"""Downloads files, and continues downloads that broke."""

import email.message
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from gru_audio.files import lock, open_own, write_atomically
from gru_audio.settings import UserError

_TIMEOUT = 60  # seconds without a byte
_CHUNK = 2**20  # bytes
_INTERVAL = 10.0  # seconds between lines of progress
_ATTEMPTS = 5  # as long as each brings bytes
_RANGE_REFUSED = 416  # status: the file has no bytes there


def download(url: str, target: Path) -> Path:
    """Downloads `url` to `target`, which appears only when it is complete; returns `target`.

    The first part of a broken download is kept, if the server says which version of the file it is
    of. The next attempt continues it.

    Raises:
      UserError: the server does not answer, or the connection breaks.
    """
    part = target.parent / f".{target.name}.part"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open_own(part, "ab") as file:  # data sets may share an archive
            lock(file, wait=True)
            if target.exists():
                part.unlink(missing_ok=True)
                return target
            for attempt in range(_ATTEMPTS):
                before = part.stat().st_size
                try:
                    _fetch(url, part, target.name)
                    break
                except OSError as error:  # also of urllib
                    if attempt == _ATTEMPTS - 1 or part.stat().st_size <= before:
                        raise error
            part.replace(target)
            _version_file(part).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot download {url}: {error}. The same command tries again; or fetch it in another "
            "way and pass it as --archive."
        ) from error
    return target


def _fetch(url: str, part: Path, name: str) -> None:
    """Appends to `part` what it lacks, or begins it again if the file has changed."""
    versions, start = _version_file(part), part.stat().st_size
    version = versions.read_text() if versions.exists() else ""
    request = urllib.request.Request(url)
    if start and version:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", version)
    try:
        reply = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_REFUSED:
            versions.unlink(missing_ok=True)  # the next attempt begins again
        raise
    with reply, part.open("r+b") as file:
        start = start if getattr(reply, "status", None) == 206 else 0
        file.seek(start)
        file.truncate()
        write_atomically(versions, _version(reply.headers))
        left = reply.headers.get("Content-Length")
        total = None if left is None else start + int(left)
        said = time.monotonic()
        while chunk := reply.read(_CHUNK):
            file.write(chunk)
            if time.monotonic() - said > _INTERVAL:
                said = time.monotonic()
                of = "" if total is None else f" of {total / 1e6:.0f}"
                print(f"{name}: {file.tell() / 1e6:.0f}{of} MB", file=sys.stderr, flush=True)
        if total is not None and file.tell() != total:
            raise OSError(f"{file.tell()} of {total} bytes came")


def _version(headers: email.message.Message) -> str:
    """Returns what identifies the version of a file; "": nothing, so it cannot be continued."""
    tag = headers.get("ETag") or ""
    return tag if tag.startswith('"') else headers.get("Last-Modified") or ""


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")
