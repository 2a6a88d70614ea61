"""Papers and what became of them here, in Markdown: `experiments/README.md`, made of sections."""

from collections import Counter
from collections.abc import Mapping, Sequence

from gru_audio.reporting import markdown, wording
from gru_audio.reporting.claims import Claim, Evidence, judge
from gru_audio.reporting.comparison import better_of
from gru_audio.reporting.kept import Kept, KeptPair
from gru_audio.reporting.markdown import LEFT, RIGHT
from gru_audio.reporting.papers import Experiment, Ours, Paper, Row, Table
from gru_audio.reporting.published import LEARNT, SOLVED, TOLERANCE, Verdict, kind, name_with_part
from gru_audio.reporting.statistics import Estimate
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

Tables of papers, and what their experiments give here. `python -m gru_audio.report --tables` writes
this file from `results/`; nothing in it is typed by hand.

Ours is the mean over seeds, each with its own initialisation and order of examples, of the test
metric at the draw that validation chose. In brackets stands its 95 % interval by Student's t over
the seeds: the right one beside a paper's number on the same test set. Differences between arms are
by the paired bootstrap over seeds and test examples, their p-values adjusted by Holm's method.

A published value is **reproduced** if it lies within our interval, or within {100 * TOLERANCE:g} %
of itself from our mean; else ours is **better**, or the value is **not reproduced**. Where losses
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
        "A difference with its 95 % interval (Student's t over paired replicates; of speeds, the "
        "quartiles of rounds) speaks for a claim if all of it lies on the side that the claim "
        "expects. A claim holds if every comparison speaks for it, and in part if some do. "
        "Intervals are not adjusted for the number of comparisons: by chance one in forty speaks "
        "for a claim.",
    ]
    return ["\n".join(lines), *(_claim(claim, tests) for claim, tests in claims)]


def _votes(tests: Sequence[Evidence]) -> tuple[int, int]:
    """How many speak for a claim, and how many against it."""
    speaks = [test.speaks for test in tests]
    return speaks.count(1), speaks.count(-1)


def _claim(claim: Claim, tests: Sequence[Evidence]) -> str:
    lines = [f"### {claim.statement}", "", f"**{str(judge(tests)).capitalize()}.** {claim.how}"]
    if tests:
        columns = {"where": LEFT, "first": LEFT, "second": LEFT, "difference": RIGHT, "": LEFT}
        lines += ["", *markdown.table(columns, map(_test, tests))]
    return "\n".join(lines)


def _test(test: Evidence) -> list[str]:
    difference, ratio = test.difference, test.neutral == 1
    told = f"{_short(difference.value)} [{_short(difference.low)}, {_short(difference.high)}]"
    return [
        test.setting,
        *(f"{name}: {_short(value)}" for name, value in (test.first, test.second)),
        f"times {told}" if ratio else told,
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
    for table in paper.tables:
        lines += ["", *_table(experiment, table)]
    if published.guessed:
        lines += ["", "What had to be guessed:", "", *(f"- {guess}" for guess in published.guessed)]
    return "\n".join(lines)


def _table(experiment: Experiment, table: Table) -> list[str]:
    lines = [f"### {table.part}", ""] if table.part else []
    if table.floor is not None:
        lines += [f"The floor is {_as_printed(table.floor)}.", ""]
    if table.rows:
        lines += [*markdown.table(_COLUMNS, [_cells(row, table) for row in table.rows]), ""]
    else:
        lines += ["Nobody's values are beside it, and it was not run.", ""]
    if table.kept:
        lines += [_best(table, table.kept, experiment.published.peers), ""]
        lines += [_conduct(table, table.kept), ""]
        if pairs := _shown(table.kept.pairs):
            lines += [*(f"- {_pair(pair, table.kept)}" for pair in pairs), ""]
    return [*lines, *_commands(experiment.name, table.part)]


def _cells(row: Row, table: Table) -> list[str]:
    """What stands in a row under `_COLUMNS`; nothing is empty."""
    scale = wording.scale_of(table.kept.metric if table.kept else "")
    theirs = ""
    if row.published is not None:
        others = [each.published * scale.factor for each in table.rows if each.published]
        theirs = _as_printed(row.published * scale.factor, others) + scale.unit
    ours = row.ours
    if ours is None:
        return [row.arm, theirs, *[""] * 2, str(row.verdict or ""), *[""] * 5]
    value = scale.value(ours.metric.value)
    return [
        row.arm,
        theirs,
        value if ours.seeds == 1 else f"{value} {scale.interval(ours.metric)}",
        str(ours.seeds),
        _verdict(row, ours, table.floor),
        _count(ours.total_parameters),
        _count(ours.recurrent_parameters),
        f"{ours.draws}" if ours.draws == ours.planned else f"{ours.draws} of {ours.planned}",
        wording.duration(ours.seconds),
        wording.duration(ours.seconds_of_all),
    ]


def _verdict(row: Row, ours: Ours, floor: float | None) -> str:
    if row.published is None:
        return ""
    said = str(row.verdict)
    if floor is not None:
        theirs, here = kind(row.published, floor), kind(ours.metric.value, floor)
        said += f": {here}" if here == theirs else f": {here}, published {theirs}"
    return f"{said} (1 seed)" if ours.seeds == 1 else said


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
        value = f"{scale.value(ours[arm].metric.value)} {scale.interval(ours[arm].metric)}"
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
    return " ".join(said)


def _shown(pairs: Sequence[KeptPair]) -> list[KeptPair]:
    """All, or where they are many those of the best arm; the others are in the kept file."""
    if len(pairs) <= _SHOWN_PAIRS:
        return list(pairs)
    return [pair for pair in pairs if pair.first == pairs[0].first]


def _pair(pair: KeptPair, kept: Kept) -> str:
    scale = wording.scale_of(kept.metric)
    difference = Estimate(pair.difference, pair.low, pair.high)
    better = better_of(pair.first, pair.second, pair.difference, pair.p, kept.higher_is_better)
    size = f"{wording.size(difference, scale)}, {wording.p_value(pair.p)}"
    if better is None:
        return f"{pair.first} and {pair.second}: no difference shown, {size}"
    worse = pair.second if better == pair.first else pair.first
    return f"{better} is better than {worse} by {size}"


def _commands(name: str, part: str) -> list[str]:
    workdir = f"runs/{name_with_part(name, part)}"
    config = f"experiments/{name}.py" + (f":{part}" if part else "")
    return [
        "```sh",
        f"python -m gru_audio.sweep --config {config} --workdir {workdir}",
        f"python -m gru_audio.report --workdir {workdir} --keep",
        "```",
    ]
