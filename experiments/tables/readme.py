"""Renders `experiments/README.md`: the results of the experiments beside published values."""

import importlib
from collections import Counter
from collections.abc import Sequence

from etils import epath

from experiments.tables.claims import Basis, Claim, Evidence, judge
from experiments.tables.kept import Kept
from experiments.tables.papers import (
    Experiment,
    Ours,
    Paper,
    Row,
    Table,
    experiment_modules,
    read_paper,
    tabled,
)
from experiments.tables.published import (
    FEWEST,
    LEARNT,
    SHARE,
    SOLVED,
    Kind,
    Published,
    Verdict,
    kind,
)
from gru_audio.command import name_with_part
from gru_audio.files import write_atomically
from gru_audio.reports import wording
from gru_audio.reports.tables import LEFT, RIGHT, markdown
from gru_audio.reports.verdicts import Pair
from gru_audio.sweeps.status import FINISHED
from gru_audio.tasks import metric_called
from gru_audio.tasks.scale import MINUS, PLAIN

_COLUMNS = {
    "variant": LEFT,
    "published": RIGHT,
    "ours": RIGHT,
    "seeds": RIGHT,
    "verdict": LEFT,
    "parameters": RIGHT,
    "of them recurrent": RIGHT,
    "trials": RIGHT,
    "CPU time, chosen runs": RIGHT,
    "CPU time, all runs": RIGHT,
    "wall time, chosen runs": RIGHT,
    "wall time, all runs": RIGHT,
}
_SHOWN_PAIRS = 6  # all pairs of four variants
_PADDED_DECIMALS = 3  # values with more decimals are not padded, such as very small losses


def write_readme(experiments: epath.Path, results: epath.Path) -> epath.Path:
    """Writes README.md into a folder of experiments. Returns its path.

    Args:
      experiments: folder of the experiments.
      results: folder of the kept results.

    Raises:
      UserError: the folder has no experiment, or a kept file is damaged.
    """
    modules = experiment_modules(experiments)
    papers = [read_paper(experiment, results) for experiment in tabled(modules, results)]
    about = [module.CLAIMS for module in modules.values() if hasattr(module, "CLAIMS")]
    claims = [claim for name in about for claim in importlib.import_module(name).CLAIMS]
    text = render(papers, [(claim, claim.evidence(results)) for claim in claims])
    write_atomically(experiments / "README.md", text, shared=True)
    return experiments / "README.md"


def render(papers: Sequence[Paper], claims: Sequence[tuple[Claim, Sequence[Evidence]]] = ()) -> str:
    """Returns the file: an introduction, summaries, and a section for each claim and paper."""
    sections = [_introduction(), _summary(papers), *_claims(claims), *map(_paper, papers)]
    return "\n\n".join(sections) + "\n"


def _introduction() -> str:
    return f"""\
# Experiments

Results of the experiments, beside published values if there are any. `python -m experiments.tables`
writes this file from `results/`; no number is entered by hand.

"Ours" is the mean test metric over seeds, at the trial that validation chose. Each seed has its own
initialisation and order of examples. The brackets show the 95 % interval by Student's t over the
seeds, which suits a comparison with a published value on the same test set. With several test sets
(folds), the interval is over the means of the test sets: "5 x 3" means five test sets with three
seeds each. Differences between variants are paired by replicate and test example. Their intervals
and p-values account for chance in both, and p-values are adjusted by Holm's method.

A published value is **reproduced** if our interval contains it and lies within a tolerance around
it. The tolerance is half of the smallest difference between the paper's values in that table, or
{100 * SHARE:g} % of the value if that is less. Ours is **better** or **worse** if the whole
interval lies on that side of the published value. It is **undecided** if the interval contains the
published value but reaches beyond the tolerance. With fewer than {FEWEST} replicates (seeds, or
test sets if there are several) there are **too few replicates**: the table shows the mean and the
range of the values, and there is no verdict.

Some losses span orders of magnitude. Their tables have a floor: the loss of a model that learns
nothing. Such values are compared in kind: *solved* below {SOLVED:g} of the floor, *partly* up to
{LEARNT:g} of it, *at the floor* above. A value is **reproduced in kind** if every replicate is of
the published kind, and undecided if only some are. Empty cells were not run.

Trials are the hyperparameter settings that were tried. Successive halving stops the worse trials
early in training; the table shows the best of those that were trained to the end. Times are
training times on the stated device. CPU time is the processor time of the training process. The
tables show wall time if CPU time is not known. Wall time includes other work on the machine, so it
does not compare variants."""


def _summary(papers: Sequence[Paper]) -> str:
    columns = {"experiment": LEFT, "part": LEFT} | {verdict.value: RIGHT for verdict in Verdict}
    rows = []
    for paper in papers:
        name = paper.experiment.name
        for table in paper.tables:
            counts = Counter(row.verdict for row in table.rows if row.verdict)
            if not counts:
                continue
            cells = [str(counts[verdict]) for verdict in Verdict]
            rows.append([f"[{name}](#{name})", table.part, *cells])
    return "\n".join(["## Summary", "", *markdown(columns, rows)])


def _claims(claims: Sequence[tuple[Claim, Sequence[Evidence]]]) -> list[str]:
    """Returns the table of claims and findings, and a section for each claim."""
    if not claims:
        return []
    found = [
        (claim.statement, str(judge(tests)), *map(str, _votes(tests)), str(len(tests)))
        for claim, tests in claims
    ]
    columns = {"claim": LEFT, "finding": LEFT}
    columns |= {"for": RIGHT, "against": RIGHT, "comparisons": RIGHT}
    lines = ["## Claims about GRUs", "", *markdown(columns, found), ""]
    lines += [
        "A comparison supports a claim if its difference has the sign that the claim expects, and "
        "contradicts it if the difference has the other sign. Both need p < 0.05, adjusted by "
        "Holm's method for the comparisons of the claim. Test scores are compared by the same test "
        "as variants, other values by Student's t over paired seeds. Brackets show the 95 % "
        "interval of each comparison, not adjusted. Parentheses show the range, if the replicates "
        "are too few for an interval. For speeds, brackets show the quartiles over rounds, and "
        "both must have the same sign. Counts (parameters, bytes) are exact. A claim holds if "
        "every comparison supports it, and in part if some do and none contradicts it. The same "
        "rule applies to its opposite. If some support and some contradict it, the finding is "
        "mixed.",
    ]
    return ["\n".join(lines), *(_claim(claim, tests) for claim, tests in claims)]


def _votes(tests: Sequence[Evidence]) -> tuple[int, int]:
    """Returns how many comparisons support a claim, and how many contradict it."""
    votes = [test.speaks for test in tests]
    return votes.count(1), votes.count(-1)


def _claim(claim: Claim, tests: Sequence[Evidence]) -> str:
    lines = [f"### {claim.statement}", "", f"**{str(judge(tests)).capitalize()}.** {claim.how}"]
    if tests:
        columns = {"where": LEFT, "first": LEFT, "second": LEFT, "difference": RIGHT}
        columns |= {"p (Holm)": RIGHT, "": LEFT}
        rows = [_test(test) for test in tests]
        if all(test.p is None for test in tests):
            del columns["p (Holm)"]
            rows = [[*before, last] for *before, _, last in rows]
        lines += ["", *markdown(columns, rows)]
    return "\n".join(lines)


def _test(test: Evidence) -> list[str]:
    difference, ratio = test.difference, test.neutral == 1
    text = _short(difference.value)
    low, high = _short(difference.low), _short(difference.high)
    if not difference.is_interval:
        text += f" ({low} to {high})"
    elif test.basis is not Basis.COUNT:
        text += f" [{low}, {high}]"
    return [
        test.setting,
        *(f"{name}: {_short(value)}" for name, value in (test.first, test.second)),
        f"ratio {text}" if ratio else text,
        "" if test.p is None else wording.bare_p(test.p),
        {1: "for", -1: "against", 0: "not shown"}[test.speaks],
    ]


def _short(value: float) -> str:
    """Returns a number with three significant digits; thousands without an exponent."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("e-0", "e-").replace("-", MINUS)


def _paper(paper: Paper) -> str:
    experiment, published = paper.experiment, paper.experiment.published
    lines = [
        f"## {experiment.name}",
        "",
        f"[{experiment.name}.py]({experiment.name}.py): {experiment.title}",
        "",
        f"{published.source}. Values are {published.measure}.",
    ]
    lines += _from_floor_by_part(paper.tables)
    for table in paper.tables:
        lines += ["", *_table(experiment, table)]
    if published.guessed:
        lines += ["", "Assumptions:", "", *(f"- {guess}" for guess in published.guessed)]
    return "\n".join(lines)


def _from_floor_by_part(tables: Sequence[Table]) -> list[str]:
    """Returns a table of each variant's distance from the floor in each part that was run."""
    run = [table for table in tables if table.floor is not None and table.kept]
    if len(run) < 2:
        return []
    variants = dict.fromkeys(row.variant for table in run for row in table.rows)
    rows = [[variant, *(_from_floor(variant, table) for table in run)] for variant in variants]
    columns = {"variant": LEFT} | {table.part: LEFT for table in run}
    return [
        "",
        "### Where each variant fails",
        "",
        "Parentheses show the test loss of every seed as a fraction of the floor.",
        "",
        *markdown(columns, rows),
    ]


def _from_floor(variant: str, table: Table) -> str:
    for row in table.rows:
        if row.variant == variant and row.ours and table.floor is not None:
            fractions = ", ".join(_short(loss / table.floor) for loss in sorted(row.ours.values))
            return f"{_kinds(row.ours, table.floor)} ({fractions})"
    return ""


def _table(experiment: Experiment, table: Table) -> list[str]:
    lines = [f"### {table.part}", ""] if table.part else []
    if table.floor is not None:
        lines += [f"The floor is {_as_printed(table.floor)}.", ""]
    if table.rows:
        lines += [*_rows(table, experiment.published), ""]
    else:
        lines += ["It has no published values and was not run.", ""]
    if table.kept:
        if best := _best(table, table.kept, experiment.published):
            lines += [best, ""]
        lines += [_provenance(table, table.kept), ""]
        if pairs := _shown(table.kept.conclude()):
            lines += [*(f"- {_pair(pair, table.kept)}" for pair in pairs), ""]
    return [*lines, *_commands(experiment.name, table.part)]


def _rows(table: Table, published: Published) -> list[str]:
    """Returns the table of variants, without empty columns."""
    rows = [_cells(row, table, published) for row in table.rows]
    columns = {name: side for name, side in _COLUMNS.items() if any(row.get(name) for row in rows)}
    return markdown(columns, [[row.get(name, "") for name in columns] for row in rows])


def _cells(row: Row, table: Table, published: Published) -> dict[str, str]:
    """Returns the known cells of a row, by the names of `_COLUMNS`."""
    scale = metric_called(table.kept.metric).scale if table.kept else PLAIN
    cells = {"variant": row.variant}
    if row.published is not None:
        others = [each.published * scale.factor for each in table.rows if each.published]
        cells["published"] = _as_printed(row.published * scale.factor, others) + scale.unit
        cells["published"] += " (from memory)" if published.from_memory else ""
        cells["verdict"] = str(row.verdict)
    if ours := row.ours:
        clock = "CPU" if _has_cpu_times(table) else "wall"
        chosen, every = ours.time, ours.time_of_all
        cells |= {
            "ours": scale.estimate(ours.metric),
            "seeds": _replicates(ours),
            "verdict": _verdict(row, ours, table.floor),
            "parameters": _count(ours.total_parameters),
            "of them recurrent": _count(ours.recurrent_parameters),
            "trials": _trials(ours),
            f"{clock} time, chosen runs": wording.duration(chosen.cpu or chosen.wall),
            f"{clock} time, all runs": wording.duration(every.cpu or every.wall),
        }
    return cells


def _has_cpu_times(table: Table) -> bool:
    """Whether the CPU time of all variants is known."""
    return all(row.ours.time_of_all.cpu is not None for row in table.rows if row.ours)


def _trials(ours: Ours) -> str:
    """Returns the number of trials, and how many were trained to the end."""
    if ours.to_the_end == ours.trials:
        return str(ours.trials)
    text = f"{ours.to_the_end} of {ours.trials} trained to the end"
    if ours.halved_at:
        word = "update" if len(ours.halved_at) == 1 else "updates"
        text += f", halved at {word} {' and '.join(f'{step:,}' for step in ours.halved_at)}"
    return text


def _verdict(row: Row, ours: Ours, floor: float | None) -> str:
    if row.published is None:
        return ""
    text = str(row.verdict)
    if floor is not None:
        text += f": {_kinds(ours, floor)}, published {kind(row.published, floor)}"
    elif row.verdict in (Verdict.REPRODUCED, Verdict.UNDECIDED):
        text += f" (tolerance {_short(row.tolerance or 0.0)})"
    return text


def _kinds(ours: Ours, floor: float) -> str:
    """Returns the kinds of all replicates: "solved", or "2 solved, 1 partly"."""
    kinds = Counter(kind(value, floor) for value in ours.values)
    if len(kinds) == 1:
        return str(next(iter(kinds)))
    return ", ".join(f"{count} {each}" for each, count in sorted(kinds.items(), reverse=True))


def _replicates(ours: Ours) -> str:
    """Returns the number of seeds; with several test sets, "test sets x seeds"."""
    if ours.test_sets == 1:
        return str(ours.seeds)
    return f"{ours.test_sets} x {ours.seeds / ours.test_sets:g}"


def _as_printed(value: float, others: Sequence[float] = ()) -> str:
    """Formats a published value with as many decimals as the others of its table."""
    decimals = max((len(f"{x:.6g}".partition(".")[2]) for x in others), default=0)
    exact, padded = f"{value:.6g}", f"{value:.{decimals}f}"
    text = padded if decimals <= _PADDED_DECIMALS and float(padded) == float(exact) else exact
    return text.replace("e-0", "e-").replace("-", MINUS)


def _count(number: int | None) -> str:
    return "" if number is None else wording.number(number)


def _best(table: Table, kept: Kept, published: Published) -> str:
    """Returns a sentence on the best variant by validation, and one on values of others."""
    scale = metric_called(kept.metric).scale
    ours = {row.variant: row.ours for row in table.rows if row.ours}
    preferred = {
        variant: each.validation for variant, each in ours.items() if each.validation is not None
    }
    texts = []
    if preferred and not _learnt_nothing(table):
        choose = max if kept.higher_is_better else min
        variant = choose(preferred, key=preferred.__getitem__)
        value = scale.estimate(ours[variant].metric)
        texts.append(f"The best variant by validation is {variant}, with {value} on the test set.")
    if peers := published.peers:
        values = [value * scale.factor for value in peers.values()]
        printed = (f"{_as_printed(value, values)}{scale.unit}" for value in values)
        listed = (f"{name} {value}" for name, value in zip(peers, printed, strict=True))
        source = " (from memory)" if published.from_memory else ""
        texts.append(f"Others for comparison{source}: {'; '.join(listed)}.")
    return " ".join(texts)


def _learnt_nothing(table: Table) -> bool:
    """Whether every run shown is at the floor."""
    if table.floor is None:
        return False
    values = [value for row in table.rows if row.ours for value in row.ours.values]
    return {kind(value, table.floor) for value in values} == {Kind.AT_THE_FLOOR}


def _provenance(table: Table, kept: Kept) -> str:
    """Returns device, versions and progress of a sweep, and how its chosen runs ended."""
    finished = sum(run.state == FINISHED for run in kept.runs)
    commit = f"commit {kept.commit}" if kept.commit else "unknown commit"
    texts = [f"On {kept.device} with jax {kept.jax}, {commit}."]
    if finished < len(kept.runs):
        texts.append(f"{finished} of {len(kept.runs)} runs have finished.")
    variants = [(row.variant, row.ours) for row in table.rows if row.ours]
    capped = [
        f"{variant} {ours.at_cap} of {ours.seeds}" for variant, ours in variants if ours.at_cap
    ]
    if variants:
        texts.append(f"Chosen runs that took all steps: {', '.join(capped) or 'none'}.")
    best = [
        f"{_span(ours.best_steps)} ({variant})" for variant, ours in variants if ours.best_steps
    ]
    if best:
        texts.append(f"Validation was best at step {', '.join(best)}.")
    ends: dict[str, list[str]] = {}
    for variant, ours in variants:
        for end in ours.ends:
            ends.setdefault(end, []).append(variant)
    if ends:
        listed = "; ".join(f"{end} ({', '.join(chosen_by)})" for end, chosen_by in ends.items())
        texts.append(f"Chosen at an end of the range of trials: {listed}.")
    return " ".join(texts)


def _span(steps: tuple[int, int]) -> str:
    first, last = steps
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _shown(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns all pairs; if there are many, those of the best variant."""
    if len(pairs) <= _SHOWN_PAIRS:
        return list(pairs)
    return [pair for pair in pairs if pair.first == pairs[0].first]


def _pair(pair: Pair, kept: Kept) -> str:
    """Returns the verdict on a pair, with its numbers."""
    scale = metric_called(kept.metric).scale
    names = f"{wording.quoted(pair.first)} and {wording.quoted(pair.second)}"
    text = f"{names}: {wording.pair(pair, scale)}"
    if pair.p is None:
        return text
    numbers = f"{wording.size(pair.difference, scale)}, {wording.p_value(pair.p)}"
    return f"{text} ({wording.p_value(pair.p) if pair.better else numbers})"


def _commands(name: str, part: str) -> list[str]:
    workdir = f"runs/{name_with_part(name, part)}"
    config = f"experiments/{name}.py" + (f":{part}" if part else "")
    return [
        "```sh",
        f"python -m gru_audio.sweep --config {config} --workdir {workdir}",
        f"python -m experiments.tables --keep {workdir}",
        "```",
    ]
