"""The smallest set of groups whose cut breaks a proof (delta debugging, Zeller and Hildebrandt 2002)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

Fails = Callable[[tuple[str, ...]], bool]


def smallest_failing(groups: Sequence[str], fails: Fails, probes: int = 100) -> tuple[str, ...]:
    """A subset that still fails and that no single removal makes pass; `groups` itself is known to fail.

    Args:
        groups: ids, in the order of the analysis: neighbours fail together, so halves keep them together.
        fails: whether cutting only these groups fails.
        probes: how many times `fails` may be called; the best set so far is returned when they are spent.
    """
    failing, parts = tuple(groups), 2
    while len(failing) > 1:
        chunks = _chunks(failing, parts)
        rests = (
            [tuple(item for item in failing if item not in chunk) for chunk in chunks] if parts > 2 else []
        )
        candidates = [*chunks, *rests][:probes]
        probes -= len(candidates)
        found = next((candidate for candidate in candidates if fails(candidate)), None)
        if found is not None:
            parts = 2 if found in chunks else max(parts - 1, 2)
            failing = found
        elif parts >= len(failing) or probes <= 0:
            break
        else:
            parts = min(2 * parts, len(failing))
    return failing


def _chunks(items: tuple[str, ...], parts: int) -> list[tuple[str, ...]]:
    edges = [round(at * len(items) / parts) for at in range(parts + 1)]
    return [items[low:high] for low, high in pairwise(edges) if high > low]
