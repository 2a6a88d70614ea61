"""Arms of a sweep at equal size."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from gru_audio.config import Config, override
from gru_audio.models.size import model_size
from gru_audio.settings import choose


def match_parameters(
    config: Config,
    arms: Mapping[str, Mapping[str, Any]],
    *,
    to: str,
    features: int,
    outputs: int,
    counting: str = "total",
) -> dict[str, dict[str, Any]]:
    """Gives every arm the ``model.hidden`` that brings its size nearest to that of the arm ``to``.

    Args:
      config: what the arms have in common.
      arms: name -> changes to the config, by dotted names ("model.cell").
      to: the arm that stays as it is.
      features: width of the frontend's frames.
      outputs: number of classes.
      counting: what is made equal, see `count_parameters`.

    Returns:
      The arms, those other than ``to`` with "model.hidden" set.
    """

    def size(arm: Mapping[str, Any]) -> int:
        return model_size(override(config, dict(arm)).model, features, outputs, counting)

    def resized(arm: Mapping[str, Any]) -> dict[str, Any]:
        return {**arm, "model.hidden": _nearest(lambda n: size({**arm, "model.hidden": n}), target)}

    target = size(choose("arm", to, arms))
    return {name: dict(arm) if name == to else resized(arm) for name, arm in arms.items()}


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
