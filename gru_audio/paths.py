"""Interpretation of paths that users write in a shell or a spreadsheet, or copy from elsewhere."""

import os
import re
import urllib.parse
from pathlib import Path

from gru_audio.settings import UserError


def local_path(text: str | os.PathLike[str], folder: Path | None = None) -> Path:
    r"""Returns the local path that a user means.

    If a file with exactly this name exists, the result is its path. Otherwise surrounding space is
    removed, a file: URI is decoded, "~" is expanded, and backslashes become slashes (lists from
    Windows contain them). The file need not exist.

    Args:
      text: a path or a file: URI.
      folder: base of a relative path; None: the working directory.

    Raises:
      UserError: the text is empty, or does not name a local file.
    """
    written, folder = os.fspath(text), folder or Path()
    if not written.strip() or "\0" in written:
        raise UserError(f"{written!r} is not a path.")
    if os.path.lexists(folder / written):
        return folder / written
    path = _without_scheme(written.strip())
    if path.startswith("~"):
        path = os.path.expanduser(path)
        if path.startswith("~"):
            raise UserError(f"{written}: there is no such home directory.")
    if "\\" in path and not os.path.lexists(folder / path):
        path = path.replace("\\", "/")
    return folder / path


def _without_scheme(text: str) -> str:
    """Returns the path of a file: URI, and any other text unchanged."""
    uri = re.match("([A-Za-z][A-Za-z0-9+.-]+):(/.*)", text, re.DOTALL)
    if not uri:
        return text
    scheme, path = uri[1].lower(), uri[2]
    if scheme != "file":
        if path.startswith("//"):
            raise UserError(f"{text} is not a local file: copy it to a local folder first.")
        return text
    if path.startswith("//"):
        host, _, path = path[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise UserError(f"{text} is on another machine: copy it to a local folder first.")
        path = f"/{path}"
    return urllib.parse.unquote(path)
