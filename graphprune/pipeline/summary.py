"""A plan against its analysis, as the rows of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphprune.ir.graphs import all_nodes
from graphprune.pipeline import histogram
from graphprune.pipeline.planfile import Replay
from graphprune.pipeline.report import GroupReport, Scores

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes import Analysis, Group
    from graphprune.pipeline.passes import Pass
    from graphprune.prune.plan import Plan


def groups(analysis: Analysis, plan: Plan | None = None, item: Pass | None = None) -> tuple[GroupReport, ...]:
    """Every group in the order of the analysis; without a plan, everything is kept.

    Args:
        analysis: of the model before.
        plan: what was decided.
        item: the pass that did, whose arguments say how far each group may go.
    """
    cuts = plan.cuts if plan is not None else {}
    scores = plan.scores if plan is not None else {}
    places = {node: at for at, node in enumerate(all_nodes(analysis.model.graph))}
    rows = []
    for group in analysis.groups:
        kept = cuts.get(group.id, tuple(range(group.size)))
        rows.append(
            GroupReport(
                id=group.id,
                width=group.size,
                kept=len(kept),
                pin=group.pin.reason if group.pin else "",
                pin_node=group.pin.node if group.pin else "",
                scores=_scores(scores.get(group.id), kept),
                unblock=group.pin.unblock if group.pin else "",
                depth=_depth(group, places),
                least=_least(group, item),
                shared=_shared(group),
            )
        )
    return tuple(rows)


def _least(group: Group, item: Pass | None) -> int:
    """The fewest Units that the arguments of a pass leave, by floor and steps; 0 where it has neither."""
    from graphprune.prune.select import alignment, lowest

    item = item.item if isinstance(item, Replay) else item
    align, share = getattr(item, "align", None), getattr(item, "min_keep", None)
    if align is None or not isinstance(share, float) or group.pin:
        return 0
    return lowest(group, alignment(group, align), share)


def _shared(group: Group) -> bool:
    """Whether its Units live in a layer that is applied more than once."""
    whole = (each for each in group.slices if each.role in ("source", "sink"))
    return any(len(each.use.value.uses()) > 1 for each in whole)


def _depth(group: Group, places: Mapping[ir.Node, int]) -> int:
    """The place of the first node that makes its Units, or, of a table, that reads them."""
    slices = group.sources or group.slices
    return min((places.get(each.use.node, 0) for each in slices), default=0)


def _scores(values: Sequence[float] | None, kept: tuple[int, ...]) -> Scores | None:
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    stays = np.zeros(array.size, bool)
    stays[list(kept)] = True
    threshold = float(array[stays].min()) if 0 < len(kept) < array.size else None
    edges = histogram.edges(array)
    return Scores(
        low=float(array.min()),
        median=float(np.median(array)),
        high=float(array.max()),
        threshold=threshold,
        edges=tuple(edges.tolist()),
        kept=histogram.counts(array[stays], edges),
        removed=histogram.counts(array[~stays], edges),
    )


def resized(dense: ir.Model, pruned: ir.Model) -> Iterator[str]:
    """One line per graph input or output (ends of caches) that a rewrite gave another shape or removed."""
    for what in ("inputs", "outputs"):
        left = {value.name: value for value in getattr(pruned.graph, what)}
        for before in getattr(dense.graph, what):
            if before.name not in left:
                yield f"{what[:-1]} '{before.name}' is gone with its layer"
                continue
            old, new = _dims(before), _dims(left[before.name])
            if old != new:
                yield f"{what[:-1]} '{before.name}' changed its shape from {old} to {new}"


def lost_inputs(dense: ir.Model, pruned: ir.Model) -> tuple[str, ...]:
    """Inputs that only the first model has."""
    left = {value.name for value in pruned.graph.inputs}
    return tuple(value.name or "" for value in dense.graph.inputs if value.name not in left)


def narrowed_inputs(dense: ir.Model, pruned: ir.Model) -> bool:
    """Whether an input that both models have lost slots."""
    left = {value.name: value for value in pruned.graph.inputs}
    return any(_dims(v) != _dims(left[v.name]) for v in dense.graph.inputs if v.name in left)


def _dims(value: ir.Value) -> str:
    return "unknown" if value.shape is None else f"[{', '.join(str(dim) for dim in value.shape)}]"
