"""Texts that name classes: as they are typed, and which of them look like one another."""

import collections
import unicodedata
from collections.abc import Iterable

_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200e\u200f"))


def clean(text: str) -> str:
    """A label in Unicode's composed form (NFC), with single spaces inside and none around."""
    return " ".join(unicodedata.normalize("NFC", text.translate(_INVISIBLE)).split())


def alike(names: Iterable[str]) -> list[list[str]]:
    """Names that differ only in case, in "_" for a space, or in compatible characters."""
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        key = unicodedata.normalize("NFKC", name).casefold()
        groups[" ".join(key.replace("_", " ").split())].append(name)
    return [group for group in groups.values() if len(group) > 1]
