"""Writes docs/reference/config.md: every key of a config, from the settings of the components.

  python docs/config_reference.py           prints the page
  python docs/config_reference.py --write   writes it

The site always has the current page; the written one is for readers of the repository.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also in a checkout alone

from gru_audio.config import default_config
from gru_audio.settings import Setting, is_component, settings_of

PAGE = Path(__file__).resolve().parent / "reference" / "config.md"

INTRODUCTION = """\
# Config keys

A run has a config. An experiment file starts from the defaults and changes some keys
([experiment files](../experiments.md)). `--config.KEY=VALUE` on the command line changes a key:

    gru-audio train --config spoken_digit --workdir runs/one --config.model.hidden=64
    gru-audio train --config spoken_digit --help_config

`--help_config` lists the keys of one experiment with their values. This page lists all keys with
their defaults and bounds. `python docs/config_reference.py --write` makes it from the settings of
the components. Some keys exist only with certain values of another key. Headings name these values.

- *Number of a run*: runs that differ only in such keys share one compiled program.
- *Machine*: the key changes where and how fast a run computes, or how often it saves. It does not
  change what the run learns, and a resumed run may have another value.
"""


class Row(NamedTuple):
    """A key, its setting, and the values of other keys that it needs."""

    key: str
    spec: Setting
    needs: tuple[str, ...]


def rows(component: type, needs: tuple[str, ...] = ()) -> Iterator[Row]:
    """Yields the settings of a component and of the components that it may choose."""
    known = settings_of(component)
    for field in dataclasses.fields(component):
        if (part := field.metadata.get("part")) is not None:
            yield from rows(part, needs)
        spec = field.metadata.get("setting")
        if spec is None:
            continue
        key, condition = spec.key or field.name, ()
        if spec.when is not None:
            other, test = spec.when
            condition = (f"{other}={' or '.join(str(v) for v in known[other].options if test(v))}",)
        yield Row(key, spec, (*needs, *condition))
        if isinstance(spec.choices, Mapping):
            for choice, chosen in spec.choices.items():
                if is_component(chosen):
                    yield from rows(chosen, (*needs, f"{key}={choice}"))


def page() -> str:
    """Returns the page as Markdown."""
    parts = [INTRODUCTION]
    for section in default_config().sections():
        prefix = section._path
        parts.append(f"## {prefix.rstrip('.') or 'Without a section'}\n")
        merged: dict[str, list[Row]] = {}
        for row in rows(section._component):
            merged.setdefault(_line(prefix, row), []).append(row)
        groups: dict[str, list[str]] = {}
        for line, found in merged.items():
            groups.setdefault(_heading(prefix, [row.needs for row in found]), []).append(line)
        for heading, lines in groups.items():
            parts += [*([f"### {heading}\n"] if heading else []), "\n".join(lines) + "\n"]
    return "\n".join(parts)


def _heading(prefix: str, needs: list[tuple[str, ...]]) -> str:
    """Returns what a group of keys needs: "With `model.name` = cnn or crnn"; "" for nothing."""
    if () in needs:
        return ""
    columns = [list(dict.fromkeys(column)) for column in zip(*needs, strict=False)]
    same_length = len(set(map(len, needs))) == 1
    if not same_length or math.prod(map(len, columns)) != len(set(needs)):
        return "With " + ", or with ".join(_heading(prefix, [need])[5:] for need in needs)
    texts = []
    for column in columns:
        keys, values = zip(*(each.split("=", 1) for each in column), strict=True)
        texts.append(f"`{prefix}{keys[0]}` = {' or '.join(values)}")
    return "With " + " and ".join(texts)


def _line(prefix: str, row: Row) -> str:
    """Returns a list item: key, default, unit, bounds, meaning."""
    spec = row.spec
    facts = [f"default `{json.dumps(spec.default)}`", spec.unit, spec.bounds]
    marks = {"Number of a run": spec.traced, "Machine": spec.machine}
    notes = "".join(f" *{mark}.*" for mark, holds in marks.items() if holds)
    about = "; ".join(filter(None, facts)).replace("|", "\\|")
    return f"- **`{prefix}{row.key}`** ({about}): {_escaped(spec.doc)}{notes}"


def _escaped(text: str) -> str:
    """Returns plain text as Markdown."""
    for character in "\\*_<[":
        text = text.replace(character, f"\\{character}")
    return text


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")
