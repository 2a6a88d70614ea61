"""Variants of a sweep at equal size."""

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
    """Gives every variant the ``model.hidden`` that brings its size nearest to that of ``to``.

    Args:
      config: what the variants have in common.
      variants: name -> changes to the config, by dotted names ("model.cell").
      to: the variant that stays as it is.
      features: values in a frame that the models read, with `outputs`, for tests without data.
      outputs: of the models, such as classes. None: the prepared data set, the frontend and the
        task say both.
      counting: what is made equal, see `count_parameters`.

    Returns:
      The variants, those other than ``to`` with "model.hidden" set.

    Raises:
      UserError: the data set is not prepared; the message says how to prepare it.
    """
    source = open_source(config.data.name, config.data.dir) if features is None else None

    def size_at(variant: Mapping[str, Any]) -> Callable[[int], int]:
        """The variant's size at a number of units."""
        of_variant = override(config, variant)
        if source is None:
            assert features is not None and outputs is not None
            widths = features, outputs
        else:
            program = make_program(of_variant, source.signal, target_field(source, of_variant))
            widths = program.frontend.features, program.task.outputs

        def size(hidden: int) -> int:
            return model_size(
                override(of_variant, {"model.hidden": hidden}).model, *widths, counting
            )

        return size

    like = choose("variant", to, variants)
    target = size_at(like)(override(config, like).model.hidden)
    return {
        name: dict(variant)
        if name == to
        else {**variant, "model.hidden": _nearest(size_at(variant), target)}
        for name, variant in variants.items()
    }


def _nearest(size: Callable[[int], int], target: int) -> int:
    """The positive integer whose ``size``, which grows with it, is nearest to ``target``.

    Each size takes a trace of the model, so the search interpolates. Sizes grow about
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
