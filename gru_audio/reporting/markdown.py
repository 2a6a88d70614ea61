"""Tables in Markdown."""

from collections.abc import Iterable, Mapping, Sequence

LEFT, RIGHT = "---", "---:"


def table(columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table.

    Args:
        columns: heading -> `LEFT` or `RIGHT`, where its cells stand.
        rows: a cell for each column.
    """
    return [_line(columns), _line(columns.values()), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
