"""Reads CSV files from spreadsheets and programs."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from gru_audio.files import read_text
from gru_audio.settings import UserError, nearest

Row = Mapping[str, str]

DELIMITERS = ",;\t"


def read_table(
    path: Path,
    columns: Sequence[str],
    delimiters: str = DELIMITERS,
    header: Sequence[str] = (),
) -> list[Row]:
    """Reads the rows of a table that must have these columns; see `read_cells`.

    Raises:
      UserError: as for `read_cells`.
    """
    names, rows = read_cells(path, columns, delimiters, header)
    return [dict(zip(names, row, strict=True)) for row in rows]


def read_cells(
    path: Path,
    columns: Sequence[str] = (),
    delimiters: str = DELIMITERS,
    header: Sequence[str] = (),
) -> tuple[list[str], list[list[str]]]:
    """Reads the column names and the rows of a table, and strips names and values.

    Blank rows, and blank columns without a name, are left out.

    Args:
      path: a file in UTF-8.
      columns: names of required columns.
      delimiters: possible delimiters. Among those that separate all of `columns`, the one that
        splits the first line into the most cells is used.
      header: the column names of a table whose first line is a row; (): it has the names.

    Raises:
      UserError: the file or a column is missing, a column is there twice or has no name, there are
        no rows, or a row has the wrong number of values.
    """
    try:
        text = read_text(path, "utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"Cannot read the table {path}, line {line}: {error}") from error
    except OSError as error:
        raise UserError(f"Cannot read the table {path}: {error}") from error
    if "\0" in text:
        raise UserError(f"{path} is not a table of text: it has NUL bytes.")
    delimiter = _delimiter(text, columns, delimiters)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = [(0, [*header])] if header else []
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if any(row):
                lines.append((reader.line_num, row))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from error
    names = lines[0][1] if lines else []
    for column in columns:
        if column not in names:
            raise UserError(f'{path} has no column "{column}".{nearest(column, names)}')
    for column in names:
        if column and names.count(column) > 1:
            raise UserError(f'{path} has the column "{column}" twice: rename or remove one.')
    for number, row in lines[1:]:
        if len(row) != len(names):
            raise UserError(f"{path}, line {number}: not as many values as columns.")
    if not lines[1:]:
        raise UserError(f"{path} has no rows.")
    rows = [row for _, row in lines[1:]]
    unnamed = [i for i, column in enumerate(names) if not column]
    for i in unnamed:
        if any(row[i] for row in rows):
            raise UserError(f"{path}: column {i + 1} has no name. Give it one, or remove it.")
    if unnamed:
        kept = [i for i, column in enumerate(names) if column]
        names, rows = [names[i] for i in kept], [[row[i] for i in kept] for row in rows]
    return names, rows


def _delimiter(text: str, columns: Sequence[str], delimiters: str) -> str:
    """Guesses the delimiter; the first of `delimiters` if none separates anything."""
    first = text.lstrip().partition("\n")[0]
    headers = {delimiter: _header(first, delimiter) for delimiter in delimiters}
    fitting = [d for d in delimiters if set(columns) <= set(headers[d])]
    return max(fitting or delimiters, key=lambda d: (len(headers[d]), -delimiters.index(d)))


def _header(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []
