"""Clocks of passes with a latency budget: what is left of a run after a cut, or without some sublayers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphprune.axes import Analysis, Group
from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Scores
from graphprune.pipeline.amounts import budgets
from graphprune.pipeline.built import built
from graphprune.pipeline.foresight import Foresight, taken
from graphprune.pipeline.passes import Context, Pass
from graphprune.prune.plan import Plan
from graphprune.prune.select import Align, Ladder, alignment, ladder

if TYPE_CHECKING:
    from graphprune.axes.sublayers import Sublayer
    from graphprune.prune.latency import LatencyModel


def ladders(
    groups: Sequence[Group], order: Mapping[str, Scores], align: Align, min_keep: float
) -> list[Ladder]:
    """Legal steps of each Group, lowest scores first."""
    return [
        ladder(number, group, order[group.id], alignment(group, align), min_keep)
        for number, group in enumerate(groups)
    ]


def clock_of_groups(
    item: Pass,
    analysis: Analysis,
    groups: Sequence[Group],
    context: Context,
    align: Align,
    min_keep: float,
) -> LatencyModel | None:
    """What counts nanoseconds after any cut of some Groups; None where the pass has no latency budget.

    Raises:
        ArgumentError: there is nothing to foresee them by.
    """
    foresight = _foresight(item, context)
    if foresight is None:
        return None
    even = {group.id: np.zeros(group.size) for group in groups}
    clock = foresight.of(analysis, groups, ladders(groups, even, align, min_keep))
    if clock.unknown:
        told = f"the device profile knows nothing of {clock.unknown} nodes"
        context.warn(f"{told}: they are taken to cost what others do per element")
    return clock


def clock_of_sublayers(
    item: Pass, analysis: Analysis, candidates: Sequence[Sublayer], context: Context
) -> Callable[[Sequence[Sublayer]], int] | None:
    """What counts nanoseconds without some sublayers; None where the pass has no latency budget.

    What one of them saves it is taken to save whatever else goes.

    Raises:
        ArgumentError: there is nothing to foresee them by.
    """
    foresight = _foresight(item, context)
    if foresight is None:
        return None

    def nanoseconds(*gone: str) -> int:
        plan = Plan(analysis.options, bypassed=gone)
        found = foresight.runs.pieces(built(analysis, plan) if gone else analysis.model)
        return round(foresight.factor * taken(found, foresight.profile))

    dense, saved = nanoseconds(), dict[str, int]()
    for number, each in enumerate(candidates):
        context.run.progress(number, len(candidates), "what sublayers cost")
        saved[each.name] = dense - nanoseconds(each.name)
    return lambda gone: max(0, dense - sum(saved[each.name] for each in gone))


def _foresight(item: Pass, context: Context) -> Foresight | None:
    if "latency" not in budgets(item):
        return None
    if context.foresight is None:
        raise ArgumentError("latency= is solved in a compile, which measures the result")
    return context.foresight
