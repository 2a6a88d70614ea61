"""Shows the size of an installation, and how much would go with each dependency.

  python -m venv /tmp/base && /tmp/base/bin/pip install . && /tmp/base/bin/python .ci/weight.py
  .venv/bin/python .ci/weight.py live export     with these extras

Sizes are those of the installed files in MB (10^6 bytes), without caches of byte code. "alone" is
what would not be installed without that dependency: packages that others need, too, are not
counted.
"""

import functools
import importlib.metadata
import sys
from collections.abc import Iterable

from packaging.requirements import Requirement

PROJECT = "gru-audio"
LARGEST = 15


@functools.cache
def requirements(name: str, extras: frozenset[str]) -> tuple[Requirement, ...]:
    """The requirements of an installed package that apply here."""
    found = map(Requirement, importlib.metadata.requires(name) or ())
    named = [{"extra": extra} for extra in extras or {""}]
    return tuple(
        each for each in found if each.marker is None or any(map(each.marker.evaluate, named))
    )


def needed(first: Iterable[Requirement]) -> set[str]:
    """The names of all installed packages that requirements need."""
    waiting, seen = list(first), set()
    while waiting:
        requirement = waiting.pop()
        key = (requirement.name.lower().replace("_", "-"), frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            waiting += requirements(*key)
    return {name for name, _ in seen}


@functools.cache
def megabytes(name: str) -> float:
    """The size of a package's files."""
    files = importlib.metadata.files(name) or ()
    paths = [file.locate() for file in files if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.exists()) / 1e6


def main(extras: Iterable[str]) -> None:
    """Prints the table."""
    direct = requirements(PROJECT, frozenset(extras))
    every = needed(direct)
    print(f"{sum(map(megabytes, every)):7.0f} MB in {len(every)} packages")
    print("  alone  itself")
    rows = []
    for one in direct:
        alone = every - needed(other for other in direct if other.name != one.name)
        rows.append((sum(map(megabytes, alone)), megabytes(one.name), one.name))
    for alone_size, own, name in sorted(rows, reverse=True):
        print(f"{alone_size:7.1f} {own:7.1f}  {name}")
    print(f"The {LARGEST} largest packages, with those that others need")
    for name in sorted(every, key=megabytes, reverse=True)[:LARGEST]:
        print(f"{megabytes(name):15.1f}  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
