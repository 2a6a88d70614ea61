"""Matches the model sizes of a sweep's variants."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from gru_audio.config import Config, override
from gru_audio.data.source import open_source
from gru_audio.nn.size import model_size
from gru_audio.settings import choose
from gru_audio.tasks import target_field
from gru_audio.training.program import make_program


def match_parameters(
    config: Config,
    variants: Mapping[str, Mapping[str, Any]],
    *,
    to: str,
    features: int | None = None,
    outputs: int | None = None,
    counting: str = "total",
) -> dict[str, dict[str, Any]]:
    """Sets ``model.hidden`` of each variant so that its size is nearest to that of variant ``to``.

    Args:
      config: the config that the variants change.
      variants: name -> changes to the config, by dotted names ("model.cell").
      to: the reference variant, which is not changed.
      features: number of input values per frame. Give both `features` and `outputs` to match
        without a data set.
      outputs: number of model outputs, such as classes. By default the prepared data set, the
        frontend and the task determine both numbers.
      counting: which parameters are counted; see `count_parameters`.

    Returns:
      The variants; all but ``to`` have "model.hidden" set.

    Raises:
      UserError: there is no variant ``to``, or the data set is not prepared.
    """
    source = open_source(config.data.name, config.data.dir) if features is None else None

    def size_at(variant: Mapping[str, Any]) -> Callable[[int], int]:
        """Returns a function from the number of units to the variant's size."""
        base = override(config, variant)
        if source is None:
            assert features is not None and outputs is not None
            widths = features, outputs
        else:
            program = make_program(base, source.signal, target_field(source, base))
            task = program.task
            widths = task.input_width(program.frontend.features), task.outputs

        def size(hidden: int) -> int:
            return model_size(override(base, {"model.hidden": hidden}).model, *widths, counting)

        return size

    reference = choose("variant", to, variants)
    target = size_at(reference)(override(config, reference).model.hidden)
    return {
        name: dict(variant)
        if name == to
        else {**variant, "model.hidden": _nearest(size_at(variant), target)}
        for name, variant in variants.items()
    }


def _nearest(size: Callable[[int], int], target: int) -> int:
    """Returns the positive integer n for which ``size(n)``, an increasing function, is nearest.

    Each call of ``size`` traces the model, so the search interpolates. Sizes grow about
    quadratically.
    """
    size = functools.cache(size)
    below, above = 0, 64
    while size(above) < target:
        below, above = above, 2 * above
    while above - below > 1:
        low, high = (math.sqrt(size(n)) if n else 0.0 for n in (below, above))
        guess = below + round((above - below) * (math.sqrt(target) - low) / (high - low))
        middle = min(max(guess, below + 1), above - 1)
        if size(middle) < target:
            below = middle
        else:
            above = middle
    return min((n for n in (below, above) if n), key=lambda n: abs(size(n) - target))
