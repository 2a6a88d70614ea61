"""Merges what pip installed under several versions of Python into one constraints file.

  python .ci/constraints.py 3.11=FILE 3.12=FILE 3.13=FILE > constraints.txt

Each FILE is the output of `pip list --format=freeze` in a virtual environment of that Python, in
which `pip install '.[demo,test,dev,docs]'` was run (and `[bench,live,tf]` in one of them).
"""

import sys
from collections import defaultdict
from pathlib import Path

NOT_PINNED = {"pip", "gru-audio"}

HEADER = """\
# The versions that gru_audio is tested with: pip install -c constraints.txt -e '.[demo]'
# Written by .ci/constraints.py, which says how.
"""


def merge(freezes: dict[str, str]) -> str:
    """The constraints file for freezes by Python version; markers only where versions differ."""
    versions: dict[str, dict[str, str]] = defaultdict(dict)
    for python, freeze in freezes.items():
        for line in freeze.split():
            name, version = line.lower().replace("_", "-").split("==")
            if name not in NOT_PINNED:
                # "2.13.0+cpu" would refuse every other build of the same version.
                versions[name][python] = version.partition("+")[0]
    lines = []
    for name, by_python in sorted(versions.items()):
        if len(set(by_python.values())) == 1:
            lines.append(f"{name}=={next(iter(by_python.values()))}")
        else:
            lines += [f'{name}=={v} ; python_version == "{p}"' for p, v in by_python.items()]
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    arguments = dict(argument.split("=", 1) for argument in sys.argv[1:])
    sys.stdout.write(merge({python: Path(file).read_text() for python, file in arguments.items()}))
