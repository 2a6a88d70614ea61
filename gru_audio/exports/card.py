"""A model card (Mitchell et al. 2019, arXiv 1810.03993) with what the run knows about itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from gru_audio.config import differences, read_config
from gru_audio.exports.function import Function
from gru_audio.nn.size import count_parameters

_MOST_LABELS = 50
_USES = {
    "softmax": "The softmax of the last axis gives probabilities; they sum to 1.",
    "sigmoid": "The sigmoid gives the probability of each label by itself.",
    None: "The outputs have no labels.",
}


def model_card(
    function: Function, description: Mapping[str, Any], result: Mapping[str, Any] | None
) -> str:
    """Returns the card as Markdown.

    Args:
      function: what is exported.
      description: the content of `model.json`.
      result: the run's `result.json`; None: unknown.
    """
    sections = _use, _data, _scores, _config, _made
    parts = ("\n".join(section(function, description, result)) for section in sections)
    return f"# {_text(description['run'])}\n\n" + "\n\n".join(parts) + "\n"


def _use(function: Function, description: Mapping[str, Any], _: Any) -> Iterator[str]:
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


def _data(function: Function, _: Any, result: Mapping[str, Any] | None) -> Iterator[str]:
    config = function.trained.config
    yield "## Data\n"
    yield f"- Data set: {_text(config.data.name)}; task: {config.task.name}."
    for role, count in ((result or {}).get("examples") or {}).items():
        yield f"- Examples, {role}: {count:,}."
    yield (
        "- Licence: the data set's own. It is not stored with the model; look it up before you "
        "pass the model on."
    )


def _scores(function: Function, _: Any, result: Mapping[str, Any] | None) -> Iterator[str]:
    yield "## Scores\n"
    scores = (result or {}).get("metrics") or {}
    if not scores:
        yield "Unknown: the run has no result."
        return
    names = list(dict.fromkeys(name for of_role in scores.values() for name in of_role))
    yield "| metric | " + " | ".join(scores) + " |\n|---" + "|---:" * len(scores) + "|"
    for name in names:
        values = (of_role.get(name) for of_role in scores.values())
        shown = ("-" if value is None else f"{value:.4f}" for value in values)
        yield f"| {name} | " + " | ".join(shown) + " |"
    yield "\nThese are scores of one run. The report of the sweep gives intervals."


def _config(function: Function, description: Mapping[str, Any], _: Any) -> Iterator[str]:
    yield "## Config\n"
    yield "What differs from the defaults:\n"
    for name, value in differences(read_config(description["model"]["config"])).items():
        yield f"- `{name}`: {_text(value)}"


def _made(function: Function, description: Mapping[str, Any], _: Any) -> Iterator[str]:
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
