r"""The comparison as tables: Markdown for a README, LaTeX for a paper.

`\input{table}` includes the LaTeX file, which needs the package booktabs.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gru_audio.reports import context, wording
from gru_audio.reports.comparison import Comparison
from gru_audio.tasks.scale import MINUS, SPACE

LEFT, RIGHT = "---", "---:"

_IN_LATEX = {
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
    MINUS: "$-$",
    SPACE: "~",
    wording.NOTHING: "--",
    # LaTeX reads a bracket at the start of a row as an argument of the row before.
    "[": "{[}",
    "]": "{]}",
}


class _Table(NamedTuple):
    """Headings, and rows in parts that a rule separates. The first column is text."""

    headings: tuple[str, ...]
    parts: tuple[list[tuple[str, ...]], ...]


def markdown_tables(comparison: Comparison) -> str:
    """Returns the headline, a table of variants and a table of pairs with verdicts."""
    headline, evidence = wording.headline(comparison), wording.evidence(comparison)
    lines = [f"**{escaped(headline)}.** {escaped(evidence)}", ""]
    cautions = [wording.progress(comparison.results), *wording.cautions(comparison)]
    for sentence in [*filter(None, cautions), *context.sentences(comparison)]:
        lines += [escaped(sentence), ""]
    blocks = []
    if comparison.variants:
        headings, parts = _variants(comparison)
        rows = [(escaped(name), *cells) for part in parts for name, *cells in part]
        blocks.append(markdown(dict(zip(headings, _alignments(headings), strict=True)), rows))
    if comparison.pairs:
        headings, (differences,) = _pairs(comparison)
        columns = dict(zip(headings, _alignments(headings), strict=True)) | {"Verdict": LEFT}
        verdicts = [wording.pair(p, comparison.results.metric.scale) for p in comparison.pairs]
        rows = [
            (escaped(name), *cells, escaped(verdict))
            for (name, *cells), verdict in zip(differences, verdicts, strict=True)
        ]
        blocks.append(markdown(columns, rows))
    return "\n".join(lines) + "\n" + "\n\n".join("\n".join(block) for block in blocks) + "\n"


def latex_tables(comparison: Comparison) -> str:
    """Returns a table of variants and baselines, and a table of pairs."""
    headline = wording.headline(comparison).replace("\n", " ")
    lines = [r"% Needs \usepackage{booktabs}.", f"% {headline}"]
    tables = [_variants(comparison)] if comparison.variants else []
    tables += [_pairs(comparison)] if comparison.pairs else []
    for headings, parts in tables:
        lines += ["", *latex(headings, parts)]
    return "\n".join(lines) + "\n"


def latex(headings: Sequence[str], parts: Iterable[Sequence[Sequence[str]]]) -> list[str]:
    """Returns the lines of a table in LaTeX with booktabs. The first column is text.

    Args:
        headings: of the columns.
        parts: rows in parts that a rule separates.
    """
    columns = "l" + "r" * (len(headings) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _in_latex(headings)]
    for part in filter(None, parts):
        lines += [r"\midrule", *map(_in_latex, part)]
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def markdown(columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a table in Markdown.

    Args:
        columns: heading -> alignment of its cells, `LEFT` or `RIGHT`.
        rows: a cell for each column.
    """
    return [_in_markdown(columns), _in_markdown(columns.values()), *map(_in_markdown, rows)]


def escaped(text: str) -> str:
    """Escapes text, such as names, so that Markdown shows it unchanged."""
    return re.sub(r"[\\`*_\[\]<>~#$]", r"\\\g<0>", _one_line(text))


def escaped_in_latex(text: str) -> str:
    """Escapes text for LaTeX. Letters outside ASCII are not changed (UTF-8)."""
    return "".join(_IN_LATEX.get(character, character) for character in text)


def _variants(comparison: Comparison) -> _Table:
    """Returns the table of variants and baselines."""
    metric, scale = comparison.results.metric.title, comparison.results.metric.scale
    seconds, clock = wording.clock(comparison.results)
    variants: list[tuple[str, ...]] = [
        (
            variant.name,
            scale.value(variant.estimate.value),
            scale.interval(variant.estimate),
            wording.number(wording.parameters(variant.runs, "total")),
            wording.duration(wording.mean_result(variant.runs, seconds)),
            str(len(variant.runs)),
        )
        for variant in comparison.variants
    ]
    baselines: list[tuple[str, ...]] = [
        (each.name.capitalize(), scale.value(each.value), "", "", "", "")
        for each in context.baselines(comparison)
    ]
    time = f"{clock} per run"
    headings = ("Variant", f"Test {metric}", "95 % interval", "Parameters", time, "Replicates")
    return _Table(headings, (variants, baselines))


def _pairs(comparison: Comparison) -> _Table:
    metric, scale = comparison.results.metric.title, comparison.results.metric.scale
    rows: list[tuple[str, ...]] = [
        (
            wording.pair_name(pair),
            scale.difference(pair.difference.value, sign=True),
            scale.interval(pair.difference),
            wording.bare_p(pair.p),
        )
        for pair in comparison.pairs
    ]
    return _Table(("Difference", f"Test {metric}", "95 % interval", "p (Holm)"), (rows,))


def _alignments(headings: Sequence[str]) -> list[str]:
    return [LEFT, *[RIGHT] * (len(headings) - 1)]


def _in_latex(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(escaped_in_latex, cells))} \\\\"


def _in_markdown(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text)
