"""What a search found, apart from why other things are not what it looks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def parted(tried: Iterable[tuple[str, Item | str]]) -> tuple[list[Item], dict[str, str]]:
    """Items, and reasons by name; candidates with an empty reason were none to begin with."""
    found: list[Item] = []
    reasons: dict[str, str] = {}
    for name, item in tried:
        if not isinstance(item, str):
            found.append(item)
        elif item:
            reasons[name] = item
    return found, reasons
