"""The table of faults: tests add rows, and the session ends by printing them."""

import collections
from collections.abc import Callable

import pytest

ROWS = pytest.StashKey[collections.Counter[tuple[str, str]]]()


def pytest_configure(config):
    config.stash[ROWS] = collections.Counter()


@pytest.fixture
def outcome(request) -> Callable[[str, int, str], None]:
    """Adds to the table, once a test has seen it: the fault, how often, what came of it."""

    def add(fault: str, count: int, came: str) -> None:
        request.config.stash[ROWS][fault, came] += count

    return add


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[ROWS]
    if not rows or config.option.markexpr != "reliability":  # the short forms prove little
        return
    lines = ["| fault | how often | outcome |", "|---|---|---|"]
    lines += [f"| {fault} | {count} | {came} |" for (fault, came), count in rows.items()]
    terminalreporter.section("faults and what came of them")
    for line in lines:
        terminalreporter.write_line(line)
    table = config.rootpath / "runs" / "reliability.md"
    table.parent.mkdir(exist_ok=True)
    table.write_text("\n".join(lines) + "\n")
    terminalreporter.write_line(f"also in {table}")
