"""`experiments/README.md`: what the experiments gave, beside papers, made of sections."""

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
_SHOWN_PAIRS = 6  # of four variants
_PRINTED = 3  # decimals of a table that is padded; losses over orders of magnitude are not


def write_readme(experiments: epath.Path, results: epath.Path) -> epath.Path:
    """Writes README.md of a folder of experiments, from a folder of kept results.

    Raises:
      UserError: there is no experiment, or a kept file is damaged.
    """
    modules = experiment_modules(experiments)
    papers = [read_paper(experiment, results) for experiment in tabled(modules, results)]
    claims = [claim for module in modules.values() for claim in getattr(module, "CLAIMS", ())]
    text = render(papers, [(claim, claim.evidence(results)) for claim in claims])
    write_atomically(experiments / "README.md", text, shared=True)
    return experiments / "README.md"


def render(papers: Sequence[Paper], claims: Sequence[tuple[Claim, Sequence[Evidence]]] = ()) -> str:
    """The whole file: an introduction, what came of papers and claims, and a section for each."""
    sections = [_introduction(), _summary(papers), *_claims(claims), *map(_paper, papers)]
    return "\n\n".join(sections) + "\n"


def _introduction() -> str:
    return f"""\
# Experiments

What the experiments gave, beside the values of papers where there are any.
`python -m experiments.tables` writes this file from `results/`; nothing in it is typed by hand.

Ours is the mean over seeds, each with its own initialisation and order of examples, of the test
metric at the trial that validation chose. In brackets stands its 95 % interval by Student's t over
the seeds: the right one beside a paper's number on the same test set. Where there are several test
sets (folds), it is over their means, each of its seeds: "5 x 3" are five test sets with three seeds
each. Differences between variants are paired by replicate and test example. Their intervals and
p-values account for chance in both, and p-values are adjusted by Holm's method.

A published value is **reproduced** if our interval contains it and lies wholly within a tolerance
around it. The tolerance is half of the smallest difference between the paper's values in that
table, or {100 * SHARE:g} % of the value if that is less. Ours is **better** or **worse** if the
whole interval lies on that side of the published value. It is **undecided** if the interval
contains the published value but reaches beyond the tolerance. With fewer than {FEWEST} replicates
(seeds, or test sets where there are several) there are **too few replicates**: the table shows the
mean and the range of the values, and there is no verdict.

Where losses span orders of magnitude there is a floor: the loss of a model that learns nothing.
There values are compared in kind: *solved* below {SOLVED:g} of the floor, *partly* up to
{LEARNT:g} of it, *at the floor* above. A value is **reproduced in kind** if every replicate is of
the published kind, and undecided if only some are. What was not run stays empty.

Trials are the hyperparameter settings that were tried. Where successive halving prunes the worse
ones early, only the others are trained to the end, and the best of these is shown. Times are of
training, on the device that is named. CPU time is processor time of the training process. Wall time
stands where that is not known. The machine may have been busy with other work, so variants are not
to be compared by wall time."""


def _summary(papers: Sequence[Paper]) -> str:
    columns = {"experiment": LEFT, "part": LEFT} | {verdict.value: RIGHT for verdict in Verdict}
    rows = []
    for paper in papers:
        name = paper.experiment.name
        for table in paper.tables:
            counts = Counter(row.verdict for row in table.rows if row.verdict)
            if not counts:
                continue
            told = [str(counts[verdict]) for verdict in Verdict]
            rows.append([f"[{name}](#{name})", table.part, *told])
    return "\n".join(["## In short", "", *markdown(columns, rows)])


def _claims(claims: Sequence[tuple[Claim, Sequence[Evidence]]]) -> list[str]:
    """What is said, what was found, and the numbers."""
    if not claims:
        return []
    found = [
        (claim.statement, str(judge(tests)), *map(str, _votes(tests)), str(len(tests)))
        for claim, tests in claims
    ]
    columns = {"claim": LEFT, "found": LEFT}
    columns |= {"for it": RIGHT, "against": RIGHT, "comparisons": RIGHT}
    lines = ["## Claims about GRUs", "", *markdown(columns, found), ""]
    lines += [
        "A comparison speaks for a claim if its difference is on the side that the claim "
        "expects, and against it if it is on the other, in both cases only if p < 0.05, "
        "adjusted by Holm's method for the comparisons of the claim. Test scores are compared "
        "by the same test as variants, all else by Student's t over paired seeds. In brackets "
        "stands the 95 % interval of each by itself, in parentheses the range of replicates "
        "that are too few for an interval. Of speeds both quartiles of rounds, which stand in "
        "brackets, have to be on one side; what is counted (parameters, bytes) is exact. A "
        "claim holds if every comparison speaks for it, in part if some do and none against it; "
        "by the same rule its opposite holds. If some speak for it and some against, the "
        "finding is mixed.",
    ]
    return ["\n".join(lines), *(_claim(claim, tests) for claim, tests in claims)]


def _votes(tests: Sequence[Evidence]) -> tuple[int, int]:
    """How many speak for a claim, and how many against it."""
    speaks = [test.speaks for test in tests]
    return speaks.count(1), speaks.count(-1)


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
    told = _short(difference.value)
    low, high = _short(difference.low), _short(difference.high)
    if not difference.is_interval:
        told += f" ({low} to {high})"
    elif test.basis is not Basis.COUNT:
        told += f" [{low}, {high}]"
    return [
        test.setting,
        *(f"{name}: {_short(value)}" for name, value in (test.first, test.second)),
        f"times {told}" if ratio else told,
        "" if test.p is None else wording.bare_p(test.p),
        {1: "for", -1: "against", 0: "shows nothing"}[test.speaks],
    ]


def _short(value: float) -> str:
    """Three significant digits, without an exponent where that reads well."""
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
    lines += _where_arms_fail(paper.tables)
    for table in paper.tables:
        lines += ["", *_table(experiment, table)]
    if published.guessed:
        lines += ["", "What had to be guessed:", "", *(f"- {guess}" for guess in published.guessed)]
    return "\n".join(lines)


def _where_arms_fail(tables: Sequence[Table]) -> list[str]:
    """How far each variant comes from the floor, over the parts that have one and were run."""
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
        "In brackets the test loss of every seed, as a share of the floor.",
        "",
        *markdown(columns, rows),
    ]


def _from_floor(variant: str, table: Table) -> str:
    for row in table.rows:
        if row.variant == variant and row.ours and table.floor is not None:
            shares = ", ".join(_short(loss / table.floor) for loss in sorted(row.ours.values))
            return f"{_kinds(row.ours, table.floor)} ({shares})"
    return ""


def _table(experiment: Experiment, table: Table) -> list[str]:
    lines = [f"### {table.part}", ""] if table.part else []
    if table.floor is not None:
        lines += [f"The floor is {_as_printed(table.floor)}.", ""]
    if table.rows:
        lines += [*_rows(table, experiment.published), ""]
    else:
        lines += ["Nobody's values are beside it, and it was not run.", ""]
    if table.kept:
        if best := _best(table, table.kept, experiment.published):
            lines += [best, ""]
        lines += [_conduct(table, table.kept), ""]
        if pairs := _shown(table.kept.conclude()):
            lines += [*(f"- {_pair(pair, table.kept)}" for pair in pairs), ""]
    return [*lines, *_commands(experiment.name, table.part)]


def _rows(table: Table, published: Published) -> list[str]:
    """The variants; without the columns in which no variant has anything."""
    rows = [_cells(row, table, published) for row in table.rows]
    columns = {name: side for name, side in _COLUMNS.items() if any(row.get(name) for row in rows)}
    return markdown(columns, [[row.get(name, "") for name in columns] for row in rows])


def _cells(row: Row, table: Table, published: Published) -> dict[str, str]:
    """What stands in a row under `_COLUMNS`, as far as it is known."""
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
            "trials": _draws(ours),
            f"{clock} time, chosen runs": wording.duration(chosen.cpu or chosen.wall),
            f"{clock} time, all runs": wording.duration(every.cpu or every.wall),
        }
    return cells


def _has_cpu_times(table: Table) -> bool:
    """Whether processor time is known of all variants, so that they can be compared by it."""
    return all(row.ours.time_of_all.cpu is not None for row in table.rows if row.ours)


def _draws(ours: Ours) -> str:
    """How many there are, and how many of them were trained to the end."""
    if ours.to_the_end == ours.trials:
        return str(ours.trials)
    told = f"{ours.to_the_end} of {ours.trials} trained to the end"
    if ours.halved_at:
        word = "update" if len(ours.halved_at) == 1 else "updates"
        told += f", halved at {word} {' and '.join(f'{step:,}' for step in ours.halved_at)}"
    return told


def _verdict(row: Row, ours: Ours, floor: float | None) -> str:
    if row.published is None:
        return ""
    told = str(row.verdict)
    if floor is not None:
        told += f": {_kinds(ours, floor)}, published {kind(row.published, floor)}"
    elif row.verdict in (Verdict.REPRODUCED, Verdict.UNDECIDED):
        told += f" (tolerance {_short(row.tolerance or 0.0)})"
    return told


def _kinds(ours: Ours, floor: float) -> str:
    """The kinds of all replicates: "solved", or "2 solved, 1 partly"."""
    kinds = Counter(kind(value, floor) for value in ours.values)
    if len(kinds) == 1:
        return str(next(iter(kinds)))
    return ", ".join(f"{count} {each}" for each, count in sorted(kinds.items(), reverse=True))


def _replicates(ours: Ours) -> str:
    """How many seeds, or test sets with how many seeds each."""
    if ours.test_sets == 1:
        return str(ours.seeds)
    return f"{ours.test_sets} x {ours.seeds / ours.test_sets:g}"


def _as_printed(value: float, others: Sequence[float] = ()) -> str:
    """With the digits a paper gives: as many decimals as the others of its table have."""
    decimals = max((len(f"{x:.6g}".partition(".")[2]) for x in others), default=0)
    exact, padded = f"{value:.6g}", f"{value:.{decimals}f}"
    text = padded if decimals <= _PRINTED and float(padded) == float(exact) else exact
    return text.replace("e-0", "e-").replace("-", MINUS)


def _count(number: int | None) -> str:
    return "" if number is None else wording.number(number)


def _best(table: Table, kept: Kept, published: Published) -> str:
    """The variant that validation prefers, its test metric, and what others have reached."""
    scale = metric_called(kept.metric).scale
    ours = {row.variant: row.ours for row in table.rows if row.ours}
    preferred = {
        variant: each.validation for variant, each in ours.items() if each.validation is not None
    }
    said = []
    if preferred and not _learnt_nothing(table):
        choose = max if kept.higher_is_better else min
        variant = choose(preferred, key=preferred.__getitem__)
        value = scale.estimate(ours[variant].metric)
        said.append(f"The best variant by validation is {variant}, with {value} on the test set.")
    if peers := published.peers:
        values = [value * scale.factor for value in peers.values()]
        printed = (f"{_as_printed(value, values)}{scale.unit}" for value in values)
        listed = (f"{name} {value}" for name, value in zip(peers, printed, strict=True))
        source = " (from memory)" if published.from_memory else ""
        said.append(f"Others for comparison{source}: {'; '.join(listed)}.")
    return " ".join(said)


def _learnt_nothing(table: Table) -> bool:
    """Whether every run shown is at the floor."""
    if table.floor is None:
        return False
    values = [value for row in table.rows if row.ours for value in row.ours.values]
    return {kind(value, table.floor) for value in values} == {Kind.AT_THE_FLOOR}


def _conduct(table: Table, kept: Kept) -> str:
    """What ran it, how much of it has run, and what ended the runs."""
    finished = sum(run.state == FINISHED for run in kept.runs)
    commit = f"commit {kept.commit}" if kept.commit else "of no known commit"
    said = [f"On {kept.device} with jax {kept.jax}, {commit}."]
    if finished < len(kept.runs):
        said.append(f"{finished} of {len(kept.runs)} runs have finished.")
    variants = [(row.variant, row.ours) for row in table.rows if row.ours]
    capped = [
        f"{ours.at_cap} of {ours.seeds} of {variant}" for variant, ours in variants if ours.at_cap
    ]
    if variants:
        said.append(f"Chosen runs that reached the cap on steps: {', '.join(capped) or 'none'}.")
    best = [
        f"{_span(ours.best_steps)} ({variant})" for variant, ours in variants if ours.best_steps
    ]
    if best:
        said.append(f"Validation was best at step {', '.join(best)}.")
    ends: dict[str, list[str]] = {}
    for variant, ours in variants:
        for end in ours.ends:
            ends.setdefault(end, []).append(variant)
    if ends:
        told = "; ".join(f"{end} ({', '.join(chosen_by)})" for end, chosen_by in ends.items())
        said.append(f"Chosen at an end of what was tried: {told}.")
    return " ".join(said)


def _span(steps: tuple[int, int]) -> str:
    first, last = steps
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _shown(pairs: Sequence[Pair]) -> list[Pair]:
    """All, or where they are many those of the best variant; the others are in the kept file."""
    if len(pairs) <= _SHOWN_PAIRS:
        return list(pairs)
    return [pair for pair in pairs if pair.first == pairs[0].first]


def _pair(pair: Pair, kept: Kept) -> str:
    """The verdict on a pair, with the numbers behind it."""
    scale = metric_called(kept.metric).scale
    names = f"{wording.quoted(pair.first)} and {wording.quoted(pair.second)}"
    said = f"{names}: {wording.pair(pair, scale)}"
    if pair.p is None:
        return said
    numbers = f"{wording.size(pair.difference, scale)}, {wording.p_value(pair.p)}"
    return f"{said} ({wording.p_value(pair.p) if pair.better else numbers})"


def _commands(name: str, part: str) -> list[str]:
    workdir = f"runs/{name_with_part(name, part)}"
    config = f"experiments/{name}.py" + (f":{part}" if part else "")
    return [
        "```sh",
        f"python -m gru_audio.sweep --config {config} --workdir {workdir}",
        f"python -m experiments.tables --keep {workdir}",
        "```",
    ]
