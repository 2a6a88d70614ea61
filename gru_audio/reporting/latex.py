r"""The comparison as LaTeX tables, for a paper: `\input{table}` with the package booktabs."""

from collections.abc import Sequence

from gru_audio.reporting import context, wording
from gru_audio.reporting.comparison import Comparison

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\n": " ",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    wording.MINUS: "$-$",
    wording.SPACE: "~",
    wording.NOTHING: "--",
}


def escape(text: str) -> str:
    """Text for LaTeX; letters outside of ASCII stay as they are (UTF-8)."""
    # A bracket at the beginning of a row would be read as an argument of the row before it.
    return "".join(_SPECIAL.get(c, f"{{{c}}}" if c in "[]" else c) for c in text)


def comparison_tables(comparison: Comparison) -> str:
    """A table of the variants and their baselines, and one of the pairs."""
    metric, scale = comparison.results.metric.title, comparison.results.metric.scale
    seconds, clock = wording.clock(comparison.results)
    lines = [r"% Needs \usepackage{booktabs}.", f"% {wording.headline(comparison)}"]
    lines[1] = lines[1].replace("\n", " ")
    if comparison.arms:
        rows = [
            (
                arm.name,
                scale.value(arm.estimate.value),
                scale.interval(arm.estimate),
                wording.number(wording.parameters(arm.runs, "total")),
                wording.duration(wording.mean_result(arm.runs, seconds)),
                str(len(arm.runs)),
            )
            for arm in comparison.arms
        ]
        baselines = [
            (each.name.capitalize(), scale.value(each.value), "", "", "", "")
            for each in context.baselines(comparison)
        ]
        head = ("Variant", f"Test {metric}", "95 % interval", "Parameters", clock, "Replicates")
        lines += ["", *_table("lrrrrr", head, rows, baselines)]
    if comparison.pairs:
        rows_of_pairs = [
            (
                wording.pair_name(pair),
                scale.difference(pair.difference.value, sign=True),
                scale.interval(pair.difference),
                wording.bare_p(pair.p),
            )
            for pair in comparison.pairs
        ]
        head_of_pairs = ("Difference", f"Test {metric}", "95 % interval", "p (Holm)")
        lines += ["", *_table("lrrr", head_of_pairs, rows_of_pairs)]
    return "\n".join(lines) + "\n"


def _table(columns: str, head: Sequence[str], *parts: Sequence[Sequence[str]]) -> list[str]:
    """A tabular with a rule between parts; empty parts are left out."""
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(head)]
    for rows in parts:
        if rows:
            lines += [r"\midrule", *map(_row, rows)]
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _row(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(escape, cells))} \\\\"
