"""How many experts of every layer stay, which, and what is left of clusters of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.kept import Kept
from graphprune.errors import ArgumentError, PromiseError
from graphprune.experts.merging import (
    Editor,
    members_of,
    representative,
    spectral,
    stun_distances,
    thresholds,
)
from graphprune.experts.mixtures import Mixture
from graphprune.experts.routes import Routes
from graphprune.ir.arrays import Array, Arrays, Ids, Scores

Cuts = Mapping[str, tuple[int, ...]]
Worths = Mapping[str, tuple[float, ...]]

WORTH: Mapping[str, Callable[[Routes], Scores]] = {
    "easy-ep": lambda routes: routes.turned,
    "reap": lambda routes: routes.mean_added,
    "frequency": lambda routes: routes.count,
    "gate-sum": lambda routes: routes.gate,
}
"""What an expert is worth, by criterion."""


# -- how many


def kept_each(layers: Sequence[Mixture], keep: int) -> list[int]:
    """As many of every layer.

    Raises:
        ArgumentError: a router picks more.
    """
    short = [item for item in layers if keep < item.group.floor]
    if short:
        raise ArgumentError(
            f"keep must be at least {short[0].group.floor}, got {keep}: the router of "
            f"'{short[0].group.id}' picks that many experts per token"
        )
    return [_legal(item, min(keep, item.group.size)) for item in layers]


def kept_share(layers: Sequence[Mixture], ratio: float) -> list[int]:
    """All but a share of every layer."""
    return [_legal(item, item.group.size - int(ratio * item.group.size + 1e-9)) for item in layers]


def kept_within(
    analysis: Analysis, layers: Sequence[Mixture], met: Callable[[Kept], bool]
) -> tuple[list[int], Kept]:
    """The most of every layer that meet all budgets, or the fewest; and what they leave.

    Where all layers losing one more go beyond the budget, the last of them keep theirs.
    """

    def left(counts: Sequence[int]) -> Kept:
        return Kept(analysis, {i.group.id: tuple(range(n)) for i, n in zip(layers, counts, strict=True)})

    steps = max(item.group.size for item in layers)
    before = counts = kept_share(layers, 0)
    for step in range(1, steps):
        if met(left(counts)):
            break
        before, counts = counts, kept_share(layers, step / steps)
    for at in reversed(range(len(layers))):
        fuller = [*counts[:at], before[at], *counts[at + 1 :]]
        if met(left(fuller)):
            counts = fuller
    return counts, left(counts)


def _legal(item: Mixture, count: int) -> int:
    """At least what the router picks, and as many of every block."""
    group = item.group
    blocks = 1 if group.block is None else len(np.unique(group.block))
    return max(group.floor, -(-count // blocks) * blocks)


# -- which


def by_worth(
    layers: Sequence[Mixture],
    counts: Sequence[int],
    routes: Sequence[Routes],
    criterion: str,
    warn: Callable[[str], None],
) -> tuple[Cuts, Worths]:
    """The experts of every layer that are worth most, and what all of them are worth.

    Raises:
        PromiseError: the graph does not show what the criterion reads.
    """
    cuts, worths = {}, {}
    for item, count, route in zip(layers, counts, routes, strict=True):
        worth = WORTH[criterion](route)
        if not np.isfinite(worth).all():
            raise PromiseError(
                f"criterion={criterion} cannot be read off the layer '{item.group.id}'",
                "use criterion=reap or criterion=frequency",
            )
        idle = int((route.count == 0).sum())
        if idle:
            warn(f"{idle} experts of '{item.group.id}' got no token of the calibration data")
        cuts[item.group.id] = best(item, worth, count)
        worths[item.group.id] = tuple(worth.tolist())
    return cuts, worths


def require_fewer(layers: Sequence[Mixture], cuts: Cuts) -> None:
    """Some layer loses an expert.

    Raises:
        PromiseError: none does.
    """
    if all(len(cuts[item.group.id]) == item.group.size for item in layers):
        raise PromiseError(
            "nothing was removed: the budget leaves every expert", "raise the ratio, or lower keep"
        )


def best(item: Mixture, scores: Scores, count: int) -> tuple[int, ...]:
    """The experts that stay; balanced blocks lose the same number each."""
    removals = item.group.removals(scores)
    gone = (item.group.size - count) // removals.shape[1]
    return tuple(np.sort(removals[gone:].ravel()).tolist())


@dataclass(frozen=True)
class Clusters:
    """How experts become fewer by likeness.

    Attributes:
        by: rows of the router (stun), or its scores (uncurl).
        rows, mates: weights of the distances of `stun_distances`.
        merged: most clusters of a layer that are merged; in larger layers one of each stays.
        align: whether neurons are matched before a merge.
    """

    by: Literal["stun", "uncurl"]
    rows: float = 1.0
    mates: float = 0.0
    merged: int = 0
    align: bool = True

    @property
    def measured(self) -> bool:
        """Whether the routes of tokens are needed."""
        return self.by == "uncurl" or self.mates > 0

    def reduce(
        self,
        analysis: Analysis,
        layers: Sequence[Mixture],
        counts: Sequence[int],
        routes: Sequence[Routes] | None,
        seed: int,
    ) -> tuple[Cuts, Arrays]:
        """The experts that stay, one per cluster, and their new weights; `seed` is that of k-means.

        Raises:
            PromiseError: clusters would leave unequal blocks, or weights cannot be merged.
        """
        blocked = next((item for item in layers if item.group.block is not None), None)
        if blocked is not None:
            raise PromiseError(
                f"criterion={self.by} cannot keep the blocks of '{blocked.group.id}' equal",
                "use criterion=easy-ep or criterion=reap",
            )
        editors = [Editor(analysis, item) for item in layers]
        cuts: dict[str, tuple[int, ...]] = {}
        replaced: dict[str, Array] = {}
        for at, clusters in enumerate(self._clusters(layers, editors, counts, routes, seed)):
            used = routes[at].count if routes is not None else np.ones(layers[at].group.size)
            cuts[layers[at].group.id] = self._left(editors[at], members_of(clusters), used)
            replaced |= editors[at].replaced
        return cuts, replaced

    def _clusters(
        self,
        layers: Sequence[Mixture],
        editors: Sequence[Editor],
        counts: Sequence[int],
        routes: Sequence[Routes] | None,
        seed: int,
    ) -> list[Ids]:
        if self.by == "uncurl":
            assert routes is not None
            return [spectral(r.scores, n, seed) for r, n in zip(routes, counts, strict=True)]
        together = [None] * len(layers) if routes is None else [each.together for each in routes]
        distances = [
            stun_distances(editor.router(), mates, self.rows, self.mates)
            for editor, mates in zip(editors, together, strict=True)
        ]
        return thresholds(distances, [item.group.floor for item in layers], sum(counts))

    def _left(self, editor: Editor, clusters: list[list[int]], used: Scores) -> tuple[int, ...]:
        """One expert of each cluster: the nearest to the mean, or all of them merged into one."""
        merges = self.by == "uncurl" or len(clusters) <= self.merged
        left = []
        for members in clusters:
            if not merges or len(members) == 1:
                left.append(representative(editor, members))
                continue
            into = members[int(np.argmax(used[members]))]
            editor.merge(into, members, used[members].tolist(), self.align)
            left.append(into)
        return tuple(sorted(left))
