"""Whether a Plan can be carried out on a model at all, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group
from graphprune.errors import ArgumentError
from graphprune.ir.graphs import graphs_of
from graphprune.prune.plan import Plan

HINT = "a plan fits the model it was made for, in normal form and under the same options"


def require_fit(analysis: Analysis, plan: Plan) -> None:
    """Checks names, numbers and shapes.

    Raises:
        ArgumentError: the plan names what the model does not have; nothing was changed.
    """
    wrong = misfit(analysis, plan)
    if wrong:
        raise ArgumentError(f"the plan does not fit the model: {wrong}", HINT)


def misfit(analysis: Analysis, plan: Plan) -> str:
    """What a Plan names that a model does not have; empty where it fits."""
    return next(_misfits(analysis, plan), "")


def _misfits(analysis: Analysis, plan: Plan) -> Iterator[str]:
    groups = {group.id: group for group in analysis.groups}
    sizes = {name: group.size for name, group in groups.items()}
    for name, kept in plan.cuts.items():
        if name not in sizes:
            yield f"there is no group '{name}'"
        elif not kept:
            yield f"it keeps nothing of group '{name}'"
        elif len(set(kept)) < len(kept):
            twice = next(unit for unit in sorted(kept) if kept.count(unit) > 1)
            yield f"it keeps unit {twice} of group '{name}' more than once"
        elif min(kept) < 0 or max(kept) >= sizes[name]:
            yield f"it keeps units of group '{name}' that are not among its {sizes[name]}"
        elif plan.widths.get(name, sizes[name]) != sizes[name]:
            yield f"group '{name}' has {sizes[name]} units, not {plan.widths[name]}"
        else:
            yield from _unbalanced(groups[name], kept)
    graphs = graphs_of(analysis.model)
    shapes = {
        name: tuple(value.const_value.shape.numpy())
        for graph in graphs
        for name, value in graph.initializers.items()
        if value.const_value is not None
    }
    for name, array in (*plan.replaced.items(), *plan.masks.items()):
        if name not in shapes:
            yield f"there is no tensor '{name}'"
        elif array.shape != shapes[name]:
            yield f"tensor '{name}' has shape {list(shapes[name])}, not {list(array.shape)}"


def _unbalanced(group: Group, kept: tuple[int, ...]) -> Iterator[str]:
    """Two blocks of which a cut keeps more of the one than of the other."""
    if group.block is None:
        return
    blocks, counts = np.unique(group.block, return_inverse=True)
    left = np.bincount(counts[list(kept)], minlength=len(blocks))
    other = int(np.argmax(left != left[0]))
    if other:
        yield (
            f"it keeps {left[0]} and {left[other]} units in blocks {blocks[0]} and {blocks[other]} "
            f"of group '{group.id}'; keep as many in each (group.block)"
        )
