"""The results of `accelerator` as one page of HTML, without other files."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jinja2

OURS = ("auto", "loop", "associative", "pallas_gpu", "pallas_tpu")
_BARS = {"linen": 3.0, "PyTorch": 0.9}  # smallest speeds of a GRU of up to 256 units
_MOST_TIMES = 6.0  # of one run, for 64 runs together
_HIDDEN = ("table", "case", "speed", "q1", "q3")

_TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gru_audio on {{ host.device }}</title>
<style>
:root { color-scheme: light dark; --line: #8885; --good: light-dark(#176b2c, #7fd493);
  --bad: light-dark(#a3261b, #ff9d93); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem;
  background: light-dark(#fff, #16181b); color: light-dark(#1b1d20, #e4e6e9); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.met { color: var(--good); } .missed { color: var(--bad); }
ul { padding-left: 1.2rem; } small { opacity: .75; }
</style>
<h1>gru_audio on {{ host.devices }} x {{ host.device }}</h1>
<p><small>{{ host.processor }}, {{ host.cores }} cores; Python {{ host.python }}
{%- for name, version in host.versions.items() %}, {{ name }} {{ version }}{% endfor %}</small></p>
<h2>Targets</h2>
<ul>
{% for target in targets %}
<li>{{ target.text }}: <b class="{{ target.verdict }}">{{ target.verdict }}</b>
{%- if target.found %} ({{ target.found }}){% endif %}</li>
{% endfor %}
</ul>
{% for table in tables %}
<h2>{{ table.title }}</h2>
<div class="wide"><table>
<tr>{% for name in table.columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}
<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
<h2>Parts</h2>
<ul>
{% for name, part in parts %}
<li>{{ name }}: {{ part.state }}
{%- if part.seconds %}, {{ "%.0f" | format(part.seconds) }} s{% endif %}</li>
{% endfor %}
</ul>
</html>
"""
)


def page(result: dict[str, Any], names: Sequence[str]) -> str:
    """Returns the page.

    Args:
      result: of `accelerator.run`.
      names: all parts in order. Those without a result are shown as missing.
    """
    unknown = dict.fromkeys(("device", "devices", "processor", "cores", "python"), "?")
    parts = [(name, result["parts"].get(name, {"state": "missing"})) for name in names]
    rows = [row for _, part in parts for row in part.get("rows", [])]
    return _TEMPLATE.render(
        host=result["host"] or {**unknown, "versions": {}},
        targets=list(targets(rows)),
        tables=[_table(title, rows) for title in dict.fromkeys(row["table"] for row in rows)],
        parts=parts,
    )


def targets(rows: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Yields each target with its verdict: "met", "missed" or "not measured"."""
    for peer, least in _BARS.items():
        name = "cuDNN (PyTorch)" if peer == "PyTorch" else peer
        best = _fastest([row for row in rows if row["table"] == "gru"], peer)
        text = f"GRU of up to 256 units at least {least:g} times as fast as {name}"
        found = [f"{speed:.2f} at {case}" for case, speed in best.items()]
        if best:
            mean = math.exp(sum(map(math.log, best.values())) / len(best))
            found.insert(0, f"geometric mean {mean:.2f}")
        yield _target(text, mean >= least if best else None, "; ".join(found))
    together = [r for r in rows if r.get("contestant") == "64 runs" and "times_of_one" in r]
    times = together[-1]["times_of_one"] if together else None
    text = f"64 runs in one program take at most {_MOST_TIMES:g} times as long as one"
    found_times = f"{times:.2f} times" if times else ""
    yield _target(text, times <= _MOST_TIMES if times else None, found_times)
    checks = [row["passed"] for row in rows if "passed" in row]
    text = "All implementations agree with float64"
    count = f"{sum(checks)} of {len(checks)}" if checks else ""
    yield _target(text, all(checks) if checks else None, count)


def _fastest(rows: list[dict[str, Any]], peer: str) -> dict[str, float]:
    """Returns the largest speed of ours by case."""
    best: dict[str, float] = {}
    for row in rows:
        if row["contestant"] in OURS and peer in row.get("speed", {}):
            speed = row["speed"][peer]["median"]
            best[row["case"]] = max(speed, best.get(row["case"], 0.0))
    return best


def _target(text: str, met: bool | None, found: str) -> dict[str, str]:
    verdict = "not measured" if met is None else "met" if met else "missed"
    return {"text": text, "verdict": verdict, "found": found}


def _table(title: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the title, the columns and the rows, as text."""
    shown = [_flat(row) for row in rows if row["table"] == title]
    columns = list(dict.fromkeys(name for row in shown for name in row))
    return {
        "title": title,
        "columns": [name.replace("_", " ") for name in columns],
        "rows": [[row.get(name, "") for name in columns] for row in shown],
    }


def _flat(row: dict[str, Any]) -> dict[str, str]:
    """Returns the values of a row as text, with the contestant first."""
    first = {name: row[name] for name in ("contestant", "case") if name in row}
    rest = {name: value for name, value in row.items() if name not in (*first, *_HIDDEN)}
    speeds = {f"speed / {peer}": found for peer, found in row.get("speed", {}).items()}
    return {name: _text(name, value) for name, value in (first | rest | speeds).items()}


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("median")
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes"):
        return f"{value / 1e6:,.1f} MB"
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
