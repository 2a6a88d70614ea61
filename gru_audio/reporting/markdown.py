"""Tables in Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence

LEFT, RIGHT = "---", "---:"


def table(columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table.

    Args:
        columns: heading -> `LEFT` or `RIGHT`, where its cells stand.
        rows: a cell for each column.
    """
    return [_line(columns), _line(columns.values()), *map(_line, rows)]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: for names, which may hold any character."""
    return re.sub(r"[\\`*_\[\]<>~#$]", r"\\\g<0>", _in_a_line(text))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_in_a_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _in_a_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text)
