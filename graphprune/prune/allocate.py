"""How much each Group gives: saliency per cost, CFSP's block importance, budgets of a whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.cost import CostModel
from graphprune.axes.groups import Group
from graphprune.axes.kept import Kept
from graphprune.ir.arrays import Scores

Cost = Literal["unit", "params", "macs", "bytes", "latency"]
Per = Literal["budget", "unit", "params", "macs"]
"""A cost, or the one that the budget of a pass counts."""
Cuts = dict[str, tuple[int, ...]]

KAPPA = 26.2
"""Tokens that CFSP sums angles over (128 x 2048), divided by its constant 1e4 (docs/methods.md#pass-cfsp)."""


def joint_costs(
    analysis: Analysis, model: CostModel, groups: Sequence[Group], per: Sequence[Cost]
) -> dict[str, float]:
    """What one Unit of each Group costs; several costs as the sum of their shares of the model."""
    if len(per) == 1:
        return costs(analysis, model, groups, per[0])
    each = [(costs(analysis, model, groups, what), counter(model, what)[1]) for what in per]
    return {group.id: sum(found[group.id] / max(1, dense) for found, dense in each) for group in groups}


def costs(analysis: Analysis, model: CostModel, groups: Sequence[Group], per: Cost) -> dict[str, float]:
    """What one Unit of each Group costs in the dense model; bytes go as parameters do."""
    if per == "unit":
        return {group.id: 1.0 for group in groups}
    numbers = {group.id: number for number, group in enumerate(analysis.groups)}
    found = {}
    count, dense = counter(model, per) if per == "latency" else (None, 0)
    for group in groups:
        gone = group.size // 2  # none of a single Unit, which costs the least there is
        stays = range(group.size - gone)
        if count is not None:
            saved = dense - count(Kept(analysis, {group.id: stays}))
        else:
            saved = model.saved(numbers[group.id], stays)[1 if per == "macs" else 0]
        found[group.id] = max(1.0, saved / max(1, gone))
    return found


def counter(model: CostModel, what: str) -> tuple[Callable[[Kept], int], int]:
    """A count of what is left after a cut, and of the dense model; of latency in nanoseconds, as foreseen.

    Raises:
        ModelError: multiply-adds are to be counted, and those of some node are not known.
    """
    if what == "params":
        return model.params, model.dense_params
    if what == "bytes":
        return model.bytes, model.dense_bytes
    if what == "latency":
        assert model.clock is not None
        return model.clock.left, model.clock.dense
    model.require_macs()
    return model.macs, model.dense_macs


def per_cost(scores: Mapping[str, Scores], cost: Mapping[str, float]) -> dict[str, Scores]:
    """Saliency per cost; standardised scores are shifted first, since dividing turns negative ones round."""
    least = min((float(values.min()) for values in scores.values() if values.size), default=0.0)
    shift = min(0.0, least)
    mean = float(np.mean(list(cost.values()))) if cost else 1.0
    return {name: (values - shift) / (cost[name] / mean) for name, values in scores.items()}


def block_shares(angles: Scores, keep: float, kappa: float = KAPPA) -> Scores:
    """Share of each block that stays: sigmoid(kappa * (angle - mean)), of mean `keep` and below 1 (CFSP).

    Where the most important block would keep more than it has, deviations from the mean are contracted.
    """
    importance = 1 / (1 + np.exp(-kappa * (angles - angles.mean())))
    shares: Scores = importance / importance.mean() * keep
    if shares.max() >= 1 and keep < 1:
        shares = keep + (shares - keep) * ((1 - keep) / (shares.max() - keep) / 1.05)
    return shares


MOST = 1 - 1e-6
"""The largest share that is tried."""


def least_share(met: Callable[[float], bool], steps: int = 40) -> tuple[float, float] | None:
    """The last share in [0, 1) that misses a budget and the first that meets it, None when none does."""
    low, high = 0.0, MOST
    if not met(high):
        return None
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if met(middle) else (middle, high)
    return low, high
