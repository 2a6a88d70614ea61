"""A model card (Mitchell et al. 2019, arXiv 1810.03993) with what the run knows about itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from gru_audio.config import differences, read_config
from gru_audio.data.index import UNKNOWN_LICENCE
from gru_audio.exports.function import Function
from gru_audio.nn.size import count_parameters
from gru_audio.tasks.scale import Interval

_MOST_LABELS = 50
_USES = {
    "softmax": "The softmax of the last axis gives probabilities; they sum to 1.",
    "sigmoid": "The sigmoid gives the probability of each label by itself.",
    None: "The outputs have no labels.",
}


def model_card(
    function: Function,
    description: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    intervals: Mapping[str, Interval],
) -> str:
    """Returns the card as Markdown.

    Args:
      function: what is exported.
      description: the content of `model.json`.
      result: the run's `result.json`; None: unknown.
      intervals: the test metrics by name, with their intervals; {}: unknown.
    """
    sections = (
        _use(function, description),
        _data(function, result or {}),
        _scores(result or {}, intervals),
        _config(description),
        _made(description),
    )
    parts = ("\n".join(section) for section in sections)
    return f"# {_text(description['run'])}\n\n" + "\n\n".join(parts) + "\n"


def _use(function: Function, description: Mapping[str, Any]) -> Iterator[str]:
    parameters = count_parameters(function.program.model, function.trained.weights.params)
    yield f"A model of {parameters:,} parameters in the file `{description['file']}`."
    if function.source == "sound":
        yield f"It reads sound of one channel at {description['rate']} Hz, in [-1, 1)."
    elif function.trained.signal.is_sound:
        yield (
            f"It reads features of sound at {description['rate']} Hz, one frame every "
            f"{description['hop']} samples, as the frontend of the config computes them, before "
            "normalisation."
        )
    else:
        yield "It reads frames, as the data set contains them."
    yield _USES[description["probabilities"]]
    yield "\n| | name | shape | type |\n|---|---|---|---|"
    for kind in ("inputs", "outputs"):
        for tensor in description[kind]:
            shape = ", ".join(map(str, tensor["shape"]))
            yield f"| {kind[:-1]} | `{tensor['name']}` | ({shape}) | {tensor['dtype']} |"
    if labels := description["labels"]:
        shown = ", ".join(_text(label) or "space" for label in labels[:_MOST_LABELS])
        more = f" and {len(labels) - _MOST_LABELS} more" if labels[_MOST_LABELS:] else ""
        yield f"\nLabels, in the order of the outputs: {shown}{more}."


def _data(function: Function, result: Mapping[str, Any]) -> Iterator[str]:
    config, about = function.trained.config, function.trained.about
    yield "## Data\n"
    yield f"- Data set: {_text(config.data.name)}; task: {config.task.name}."
    for role, count in (result.get("examples") or {}).items():
        yield f"- Examples, {role}: {count:,}."
    yield (
        f"- Licence of the data: {_text(about.get('licence', UNKNOWN_LICENCE))}. Check whether it "
        "allows you to pass the model on."
    )


def _scores(result: Mapping[str, Any], intervals: Mapping[str, Interval]) -> Iterator[str]:
    yield "## Scores\n"
    scores = result.get("metrics") or {}
    if not scores:
        yield "Unknown: the run has no result."
        return
    names = list(dict.fromkeys(name for of_role in scores.values() for name in of_role))
    yield "| metric | " + " | ".join(scores) + " |\n|---" + "|---:" * len(scores) + "|"
    for name in names:
        shown = [_score(of_role.get(name)) for of_role in scores.values()]
        if "test" in scores and name in intervals and intervals[name].is_interval:
            low, high = intervals[name].low, intervals[name].high
            shown[list(scores).index("test")] += f" [{low:.4f}, {high:.4f}]"
        yield f"| {name} | " + " | ".join(shown) + " |"
    yield (
        "\nThese are scores of one run. Brackets are 95 % intervals over the test examples, or "
        "over their speakers or recordings. They do not contain the variation between seeds, which "
        "the report of the sweep shows."
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _config(description: Mapping[str, Any]) -> Iterator[str]:
    yield "## Config\n"
    yield "What differs from the defaults:\n"
    for name, value in differences(read_config(description["model"]["config"])).items():
        yield f"- `{name}`: {_text(value)}"


def _made(description: Mapping[str, Any]) -> Iterator[str]:
    yield "## Export\n"
    yield (
        "Largest difference from the model on `check.npz`: "
        f"{description['largest_difference']:.1e}."
    )
    yield f"SHA-256 of `{description['file']}`: `{description['sha256']}`."
    versions = (f"{name} {version}" for name, version in description["versions"].items())
    yield f"Versions: {', '.join(versions)}."


def _text(value: Any) -> str:
    """Returns a text in one line, without what Markdown would read as HTML, links or tables."""
    text = " ".join(str(value).split())
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text
