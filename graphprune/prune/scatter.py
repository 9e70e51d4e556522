"""Weights of a cut model in dense coordinates: the way back from a rewrite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.kept import Kept
from graphprune.ir.arrays import Array
from graphprune.ir.clone import copy_model
from graphprune.prune.edits import apply_edits
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import Cut, cut_of
from graphprune.prune.rewriting import Rewriting


def scattered(analysis: Analysis, plan: Plan, weights: Mapping[str, Array]) -> dict[str, Array] | None:
    """Dense tensors that a plan cuts to these weights; removed slots are as the plan leaves them.

    Args:
        analysis: of the dense model.
        plan: what was cut.
        weights: of the cut model, by name.

    Returns:
        Tensors by name, or None where a weight is no cut of one dense tensor: it was cloned, or inserted.
    """
    rewriting = Rewriting(analysis, plan, Kept(analysis, plan.cuts), copy_model(analysis.model))
    apply_edits(rewriting)
    cuts: dict[str, dict[object, Cut]] = {name: {} for name in weights}
    for use, labels in analysis.uses.items():
        if use.value.name in cuts:
            cut = cut_of(rewriting, use, labels)
            cuts[use.value.name][cut.key] = cut
    found: dict[str, Array] = {}
    for name, array in weights.items():
        value = analysis.model.graph.initializers.get(name)
        if value is None or value.const_value is None or len(cuts[name]) > 1:
            return None
        dense = np.array(plan.replaced.get(name, value.const_value.numpy()))
        if not _put(dense, next(iter(cuts[name].values()), None), array):
            return None
        found[name] = dense
    return found


def _put(dense: Array, cut: Cut | None, array: Array) -> bool:
    """Writes a cut tensor where it was cut from; whether it fits there."""
    if cut is None or cut.trivial:
        if dense.shape != array.shape:
            return False
        dense[...] = array
        return True
    places = Cut(cut.masks, cut.blocks).apply(np.arange(dense.size).reshape(dense.shape))
    if places.shape != array.shape:
        return False
    dense.reshape(-1)[places.ravel()] = (array / np.asarray(cut.scale, array.dtype)).ravel()
    return True
