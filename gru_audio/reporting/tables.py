"""The comparison as Markdown tables, for a README."""

from gru_audio.reporting import context, markdown, wording
from gru_audio.reporting.comparison import Comparison
from gru_audio.reporting.markdown import LEFT, RIGHT, escaped
from gru_audio.tasks.scale import Scale


def comparison_tables(comparison: Comparison) -> str:
    """Headline, a table of variants and a table of pairs."""
    metric, scale = comparison.results.metric.title, comparison.results.metric.scale
    headline, evidence = wording.headline(comparison), wording.evidence(comparison)
    lines = [f"**{escaped(headline)}.** {escaped(evidence)}", ""]
    cautions = [wording.progress(comparison.results), *wording.cautions(comparison)]
    for caution in filter(None, cautions):
        lines += [escaped(caution), ""]
    for sentence in context.sentences(comparison):
        lines += [escaped(sentence), ""]
    if comparison.arms:
        lines += _arms(comparison, metric, scale)
    if comparison.pairs:
        lines += ["", *_pairs(comparison, metric, scale)]
    return "\n".join(lines) + "\n"


def _arms(comparison: Comparison, metric: str, scale: Scale) -> list[str]:
    seconds, clock = wording.clock(comparison.results)
    columns = {
        "variant": LEFT,
        f"test {metric}": RIGHT,
        "95 % interval": RIGHT,
        "parameters": RIGHT,
        f"{clock} a run": RIGHT,
        "replicates": RIGHT,
    }
    rows = [
        (
            escaped(arm.name),
            scale.value(arm.estimate.value),
            scale.interval(arm.estimate),
            wording.number(wording.parameters(arm.runs, "total")),
            wording.duration(wording.mean_result(arm.runs, seconds)),
            str(len(arm.runs)),
        )
        for arm in comparison.arms
    ]
    for each in context.baselines(comparison):
        rows.append((each.name, scale.value(each.value), "", "", "", ""))
    return markdown.table(columns, rows)


def _pairs(comparison: Comparison, metric: str, scale: Scale) -> list[str]:
    columns = {
        "difference": LEFT,
        f"test {metric}": RIGHT,
        "95 % interval": RIGHT,
        "p (Holm)": RIGHT,
        "verdict": LEFT,
    }
    rows = [
        (
            escaped(wording.pair_name(pair)),
            scale.difference(pair.difference.value, sign=True),
            scale.interval(pair.difference),
            wording.bare_p(pair.p),
            escaped(wording.pair(pair, scale)),
        )
        for pair in comparison.pairs
    ]
    return markdown.table(columns, rows)
