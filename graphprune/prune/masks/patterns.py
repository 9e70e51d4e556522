"""Which weights of a scored matrix stay: so many of a row, of the matrix, or n of every m along the columns.

Higher scores stay. Counts are exact: among equal scores the first go, as a stable sort would have it, and
never one more than asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Bools, Floats

Scores: TypeAlias = Floats
Keep: TypeAlias = Bools

UNSTRUCTURED = "unstructured"
_CHUNK = 1 << 22
"""Elements ranked at a time, which bounds the temporaries of a large matrix."""


@dataclass(frozen=True)
class Pattern:
    """`n` of every `m` consecutive weights along the reduction axis stay; anything goes where m is 1."""

    n: int = 0
    m: int = 1

    @property
    def structured(self) -> bool:
        """Whether the pattern alone says how much goes."""
        return self.m > 1

    @property
    def ratio(self) -> float:
        """Share that a structured pattern removes."""
        return 1 - self.n / self.m

    def __str__(self) -> str:
        return f"{self.n}:{self.m}" if self.structured else UNSTRUCTURED


def read_pattern(text: str) -> Pattern:
    """Pattern of a text; "2:4" keeps two of every four.

    Raises:
        ArgumentError: neither `unstructured` nor n:m with 1 <= n < m.
    """
    if text == UNSTRUCTURED:
        return Pattern()
    n, colon, m = text.partition(":")
    if colon and n.isdecimal() and m.isdecimal() and 1 <= int(n) < int(m) <= 64:
        return Pattern(int(n), int(m))
    raise ArgumentError(
        f"pattern must be {UNSTRUCTURED} or n:m with 1 <= n < m <= 64, got '{text}'",
        "2:4 keeps 2 of every 4 weights",
    )


def removed_count(total: int, ratio: float) -> int:
    """How many of `total` a ratio removes, rounded down; 0.29 of 100 is 29, whatever binary makes of it."""
    return min(total, int(total * ratio + 1e-9))


def keep_rows(scores: Scores, ratio: float) -> Keep:
    """In every row the lowest scores go (Wanda's comparison group), in all rows equally many or one more.

    The matrix loses what the ratio says; the one more goes where it is worth least.
    """
    rows, columns = scores.shape
    count = removed_count(scores.size, ratio)
    counts = np.full(rows, count // max(1, rows))
    extra = count - int(counts.sum())
    if extra:
        next_lowest = np.partition(scores, counts[0], axis=1)[:, counts[0]]
        counts[np.argsort(next_lowest, kind="stable")[:extra]] += 1
    keep = np.ones(scores.shape, dtype=bool)
    step = max(1, _CHUNK // max(1, columns))
    for number in np.unique(counts):
        own = np.flatnonzero(counts == number)
        for start in range(0, len(own), step):
            part = own[start : start + step]
            keep[part] = ~_lowest(scores[part], int(number))
    return keep


def keep_matrix(scores: Scores, ratio: float) -> Keep:
    """Of the whole matrix, the lowest scores go."""
    return keep_all_but(scores, removed_count(scores.size, ratio))


def keep_all_but(scores: Scores, count: int) -> Keep:
    """Of the whole matrix, exactly so many lowest scores go."""
    return ~_lowest(scores.reshape(1, -1), count).reshape(scores.shape)


def keep_groups(scores: Scores, pattern: Pattern) -> Keep:
    """Of every m consecutive columns of a row, the n highest stay; the columns are a multiple of m."""
    keep = np.empty(scores.shape, dtype=bool)
    step = max(1, _CHUNK // max(1, scores.shape[1]))
    for start in range(0, len(scores), step):
        part = scores[start : start + step]
        kept = _highest_of_few(part.reshape(-1, pattern.m), pattern.n)
        keep[start : start + step] = kept.reshape(part.shape)
    return keep


def _highest_of_few(groups: Scores, n: int) -> Keep:
    """Rank by counting: an entry stays while fewer than n others beat it (later ones win ties)."""
    m = groups.shape[-1]
    beaten = np.zeros(groups.shape, dtype=np.int8)
    for a in range(m):
        for b in range(a + 1, m):
            later = groups[..., b] >= groups[..., a]
            beaten[..., a] += later
            beaten[..., b] += ~later
    result: Keep = beaten < n
    return result


def _lowest(scores: Scores, count: int) -> Keep:
    """The `count` lowest of every row; of equal ones the first."""
    if count <= 0:
        return np.zeros(scores.shape, dtype=bool)
    if count >= scores.shape[1]:
        return np.ones(scores.shape, dtype=bool)
    threshold = np.partition(scores, count - 1, axis=1)[:, count - 1 : count]
    low: Keep = scores <= threshold
    excess = low.sum(axis=1) - count
    for row in np.flatnonzero(excess):
        ties = np.flatnonzero(scores[row] == threshold[row])
        low[row, ties[len(ties) - excess[row] :]] = False
    return low
