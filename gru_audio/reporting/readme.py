"""`experiments/README.md`: what the experiments gave, beside papers, made of sections."""

from collections import Counter
from collections.abc import Mapping, Sequence

from gru_audio.reporting import markdown, wording
from gru_audio.reporting.claims import Claim, Evidence, judge
from gru_audio.reporting.kept import Kept
from gru_audio.reporting.markdown import LEFT, RIGHT
from gru_audio.reporting.papers import Experiment, Ours, Paper, Row, Table
from gru_audio.reporting.published import (
    FEWEST,
    LEARNT,
    SOLVED,
    TOLERANCE,
    Verdict,
    kind,
    name_with_part,
    within,
)
from gru_audio.reporting.verdicts import Pair
from gru_audio.sweeping.status import FINISHED

_COLUMNS = {
    "arm": LEFT,
    "published": RIGHT,
    "ours": RIGHT,
    "seeds": RIGHT,
    "verdict": LEFT,
    "parameters": RIGHT,
    "of them recurrent": RIGHT,
    "draws": RIGHT,
    "time, chosen runs": RIGHT,
    "time, all runs": RIGHT,
}
_SHOWN_PAIRS = 6  # of four arms
_PRINTED = 3  # decimals of a table that is padded; losses over orders of magnitude are not


def render(papers: Sequence[Paper], claims: Sequence[tuple[Claim, Sequence[Evidence]]] = ()) -> str:
    """The whole file: an introduction, what came of papers and claims, and a section for each."""
    sections = [_introduction(), _summary(papers), *_claims(claims), *map(_paper, papers)]
    return "\n\n".join(sections) + "\n"


def _introduction() -> str:
    return f"""\
# Experiments

What the experiments gave, beside the values of papers where there are any.
`python -m gru_audio.report --tables` writes this file from `results/`; nothing in it is typed by
hand.

Ours is the mean over seeds, each with its own initialisation and order of examples, of the test
metric at the draw that validation chose. In brackets stands its 95 % interval by Student's t over
the seeds: the right one beside a paper's number on the same test set. Where there are several test
sets (folds), it is over their means, each of its seeds: "5 x 3" are five test sets with three seeds
each. Differences between arms are by the paired bootstrap over seeds and test examples, their
p-values adjusted by Holm's method.

A published value is **reproduced** if it lies within our interval, that of {FEWEST} seeds or test
sets at least, or else within {100 * TOLERANCE:g} % of itself from our mean: the weaker finding,
which is told apart. Otherwise ours is **better**, or the value is **not reproduced**. Where losses
span orders of magnitude there is a floor, what a model reaches that learns nothing, and values are
compared in kind: *solved* below {SOLVED:g} of the floor, *partly* up to {LEARNT:g} of it, *at the
floor* above. A value of the same kind is reproduced. What was not run stays empty. Times are of
training, on the device that is named."""


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
    return "\n".join(["## In short", "", *markdown.table(columns, rows)])


def _claims(claims: Sequence[tuple[Claim, Sequence[Evidence]]]) -> list[str]:
    """What is said, what was found, and the numbers."""
    if not claims:
        return []
    found = [
        (claim.statement, str(judge(tests)), *map(str, _votes(tests)), str(len(tests)))
        for claim, tests in claims
    ]
    columns = {"what is said": LEFT, "found": LEFT}
    columns |= {"for it": RIGHT, "against": RIGHT, "comparisons": RIGHT}
    lines = ["## What is said of GRUs", "", *markdown.table(columns, found), ""]
    lines += [
        "A difference speaks for a claim if it is on the side that the claim expects and p < 0.05, "
        "adjusted by Holm's method for the comparisons of the claim. Test scores are compared by "
        "the paired bootstrap over seeds and test examples, all else by Student's t over paired "
        "seeds; of speeds, both quartiles of rounds have to be on that side. In brackets stands "
        "the 95 % interval of each by itself. A claim holds if every comparison speaks for it, in "
        "part if some do and none against it; if some do either, the finding is mixed.",
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
        lines += ["", *markdown.table(columns, map(_test, tests))]
    return "\n".join(lines)


def _test(test: Evidence) -> list[str]:
    difference, ratio = test.difference, test.neutral == 1
    told = f"{_short(difference.value)} [{_short(difference.low)}, {_short(difference.high)}]"
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
    return text.replace("e-0", "e-").replace("-", wording.MINUS)


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
    """How far each arm comes from the floor, over the parts that have one and were run."""
    run = [table for table in tables if table.floor is not None and table.kept]
    if len(run) < 2:
        return []
    arms = dict.fromkeys(row.arm for table in run for row in table.rows)
    rows = [[arm, *(_from_floor(arm, table) for table in run)] for arm in arms]
    columns = {"arm": LEFT} | {table.part: LEFT for table in run}
    return [
        "",
        "### Where each arm fails",
        "",
        "In brackets the test loss of every seed, as a share of the floor.",
        "",
        *markdown.table(columns, rows),
    ]


def _from_floor(arm: str, table: Table) -> str:
    for row in table.rows:
        if row.arm == arm and row.ours and table.floor is not None:
            shares = ", ".join(_short(loss / table.floor) for loss in sorted(row.ours.values))
            return f"{kind(row.ours.metric.value, table.floor)} ({shares})"
    return ""


def _table(experiment: Experiment, table: Table) -> list[str]:
    lines = [f"### {table.part}", ""] if table.part else []
    if table.floor is not None:
        lines += [f"The floor is {_as_printed(table.floor)}.", ""]
    if table.rows:
        lines += [*_rows(table), ""]
    else:
        lines += ["Nobody's values are beside it, and it was not run.", ""]
    if table.kept:
        lines += [_best(table, table.kept, experiment.published.peers), ""]
        lines += [_conduct(table, table.kept), ""]
        if pairs := _shown(table.kept.conclude()):
            lines += [*(f"- {_pair(pair, table.kept)}" for pair in pairs), ""]
    return [*lines, *_commands(experiment.name, table.part)]


def _rows(table: Table) -> list[str]:
    """The arms; without the columns of a paper where none stands beside them."""
    columns, rows = dict(_COLUMNS), [_cells(row, table) for row in table.rows]
    if all(row.published is None for row in table.rows):
        del columns["published"], columns["verdict"]
    return markdown.table(columns, [[row.get(name, "") for name in columns] for row in rows])


def _cells(row: Row, table: Table) -> dict[str, str]:
    """What stands in a row under `_COLUMNS`, as far as it is known."""
    scale = wording.scale_of(table.kept.metric if table.kept else "")
    cells = {"arm": row.arm}
    if row.published is not None:
        others = [each.published * scale.factor for each in table.rows if each.published]
        cells["published"] = _as_printed(row.published * scale.factor, others) + scale.unit
        cells["verdict"] = str(row.verdict)
    if ours := row.ours:
        some = f"{ours.draws}" if ours.draws == ours.planned else f"{ours.draws} of {ours.planned}"
        cells |= {
            "ours": scale.estimate(ours.metric),
            "seeds": _replicates(ours),
            "verdict": _verdict(row, ours, table.floor),
            "parameters": _count(ours.total_parameters),
            "of them recurrent": _count(ours.recurrent_parameters),
            "draws": some,
            "time, chosen runs": wording.duration(ours.seconds),
            "time, all runs": wording.duration(ours.seconds_of_all),
        }
    return cells


def _verdict(row: Row, ours: Ours, floor: float | None) -> str:
    if row.published is None:
        return ""
    said = str(row.verdict)
    if floor is not None:
        theirs, here = kind(row.published, floor), kind(ours.metric.value, floor)
        said += f": {here}" if here == theirs else f": {here}, published {theirs}"
        kinds = Counter(kind(value, floor) for value in ours.values)
        if len(kinds) > 1:
            said += f" (seeds: {', '.join(f'{count} {each}' for each, count in kinds.items())})"
    elif row.verdict is Verdict.REPRODUCED and not within(ours.interval, row.published):
        side = "above" if ours.metric.value > row.published else "below"
        said += f": to {100 * TOLERANCE:g}{wording.SPACE}%, ours is {side}"
    return f"{said} (1 seed)" if ours.seeds == 1 else said


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
    return text.replace("e-0", "e-").replace("-", wording.MINUS)


def _count(number: int | None) -> str:
    return "" if number is None else wording.number(number)


def _best(table: Table, kept: Kept, peers: Mapping[str, float]) -> str:
    """The arm that validation prefers, with its test metric, beside what others published."""
    scale = wording.scale_of(kept.metric)
    ours = {row.arm: row.ours for row in table.rows if row.ours}
    preferred = {arm: each.validation for arm, each in ours.items() if each.validation is not None}
    said = []
    if preferred:
        choose = max if kept.higher_is_better else min
        arm = choose(preferred, key=preferred.__getitem__)
        value = scale.estimate(ours[arm].metric)
        said.append(f"The best arm by validation is {arm}, with {value} on the test set.")
    if peers:
        values = [value * scale.factor for value in peers.values()]
        printed = (f"{_as_printed(value, values)}{scale.unit}" for value in values)
        listed = (f"{name} {value}" for name, value in zip(peers, printed, strict=True))
        said.append(f"Others published: {'; '.join(listed)}.")
    return " ".join(said)


def _conduct(table: Table, kept: Kept) -> str:
    """What ran it, how much of it has run, and what ended the runs."""
    finished = sum(run.state == FINISHED for run in kept.runs)
    said = [f"On {kept.device} with jax {kept.jax}, commit {kept.commit}."]
    if finished < len(kept.runs):
        said.append(f"{finished} of {len(kept.runs)} runs have finished.")
    arms = [(row.arm, row.ours) for row in table.rows if row.ours]
    capped = [f"{ours.at_cap} of {ours.seeds} of {arm}" for arm, ours in arms if ours.at_cap]
    if arms:
        said.append(f"Chosen runs that reached the cap on steps: {', '.join(capped) or 'none'}.")
    best = [f"{_span(ours.best_steps)} ({arm})" for arm, ours in arms if ours.best_steps]
    if best:
        said.append(f"Validation was best at step {', '.join(best)}.")
    ends: dict[str, list[str]] = {}
    for arm, ours in arms:
        for end in ours.ends:
            ends.setdefault(end, []).append(arm)
    if ends:
        told = "; ".join(f"{end} ({', '.join(chosen_by)})" for end, chosen_by in ends.items())
        said.append(f"Chosen at an end of what was tried: {told}.")
    return " ".join(said)


def _span(steps: tuple[int, int]) -> str:
    first, last = steps
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _shown(pairs: Sequence[Pair]) -> list[Pair]:
    """All, or where they are many those of the best arm; the others are in the kept file."""
    if len(pairs) <= _SHOWN_PAIRS:
        return list(pairs)
    return [pair for pair in pairs if pair.first == pairs[0].first]


def _pair(pair: Pair, kept: Kept) -> str:
    """The verdict on a pair, with the numbers behind it."""
    scale = wording.scale_of(kept.metric)
    said = f"{pair.first} and {pair.second}: {wording.pair(pair, scale)}"
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
        f"python -m gru_audio.report --workdir {workdir} --keep",
        "```",
    ]
