"""A model at other widths, whatever it computes then: other nodes may run there than in the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from graphprune.axes import Analysis, analyse
from graphprune.axes.groups import Group
from graphprune.errors import GraphpruneError
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.prune.select import ladder

MULTIPLES = (1, 4, 8, 16)
"""Of which widths are, in turn: ONNX Runtime keeps channels in blocks, or does not, for each."""
LEAST = 0.25
"""Share of a width that stays."""


def narrowed(model: ir.Model, times: int, seed: int) -> Iterator[ir.Model]:
    """A normalised model, cut at random as often as said; nothing where it has no width to cut.

    What does not go together is left out.
    """
    analysis = analyse(model)
    for number in range(times):
        plan = _plan(analysis, np.random.default_rng([seed, number]))
        if plan.empty:
            return
        try:
            yield rewrite(model, analysis, plan)
        except GraphpruneError:
            continue


def _plan(analysis: Analysis, rng: np.random.Generator) -> Plan:
    free = [group for group in analysis.groups if group.pin is None]
    cuts = {group.id: kept for group in free if (kept := _kept(group, rng))}
    return Plan(analysis.options, cuts, {group.id: group.size for group in free if group.id in cuts})


def _kept(group: Group, rng: np.random.Generator) -> tuple[int, ...]:
    """Units that stay: a whole multiple of them, or nothing where there is no such step."""
    multiple = int(rng.choice(MULTIPLES))
    steps = ladder(0, group, rng.random(group.size), multiple, LEAST)
    if not steps.removed.size:
        return ()
    gone = set(steps.order[: int(rng.choice(steps.removed))].tolist())
    return tuple(unit for unit in range(group.size) if unit not in gone)
