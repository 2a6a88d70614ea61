"""Looking up what a config names."""

from collections.abc import Mapping
from typing import TypeVar

from gru_audio.config import UserError, nearest

T = TypeVar("T")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Returns ``table[name]``, or raises a `UserError` with the nearest name that is there.

    Args:
      kind: what the table holds, for the message: "cell", "pooling", ...
      name: the key asked for.
      table: what may be asked for.
    """
    if name not in table:
        raise UserError(f'Unknown {kind} "{name}".{nearest(name, table)}')
    return table[name]
