"""The zeroed twin: weights that make the dense model compute what the cut model computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Slice
from graphprune.ir.arrays import Array, Bools, Ids
from graphprune.labels.state import Use
from graphprune.statistics.packed import packing_of
from graphprune.statistics.stored import grid_of

ZEROED = frozenset({"source", "bias", "scale", "sink"})


def zeroed(
    analysis: Analysis, cuts: Mapping[str, Sequence[int]], base: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Initializers whose slices of removed Units are zero, in dense coordinates.

    Zero sources, scales and biases make removed channels zero where norms and reductions read them; zero
    sinks make what they have become since (a Sigmoid of zero is not zero) irrelevant. The twin differs from
    the cut model only where removal is not zeroing: a Softmax or a maximum over the cut width, an inexact
    norm, and an initializer with several uses, whose slots are zeroed where every use loses them.

    Args:
        analysis: of the dense model.
        cuts: kept Units per Group id.
        base: values that take the place of the model's own (repaired weights).
    """
    given = base or {}
    gone = _removed(analysis, cuts)
    arrays: dict[str, Array] = dict(given)
    for value, masks in gone.items():
        name, tensor, zero = value.name or "", value.const_value, _zero(value)
        if tensor is None or zero is None:
            continue
        mask = np.logical_and.reduce(masks)
        array = np.array(given[name] if name in given else tensor.numpy())
        array[mask] = np.broadcast_to(zero, array.shape)[mask].astype(array.dtype)
        arrays[name] = array
    return arrays


def _zero(value: ir.Value) -> Array | None:
    """What stands for zero in a tensor: its zero points, where it is quantised; None for other integers."""
    if value.dtype is not None and value.dtype.is_floating_point():
        return np.zeros(())
    uses = [Use(*use) for use in value.uses()]
    if any(packing_of(use) for use in uses):
        return None  # several slots share a byte; their scales become zero
    grids = [grid for use in uses if (grid := grid_of(use)) is not None]
    if grids:
        return grids[0].zero
    return np.zeros(()) if value.dtype == ir.DataType.INT32 else None


def _removed(analysis: Analysis, cuts: Mapping[str, Sequence[int]]) -> dict[ir.Value, list[Bools]]:
    """Per touched initializer one mask of removed elements for each of its uses."""
    found: dict[ir.Value, dict[tuple[ir.Node, int], Bools]] = {}
    for group in analysis.groups:
        if len(cuts.get(group.id, range(group.size))) == group.size:
            continue
        units = np.delete(np.arange(group.size), list(cuts[group.id]))
        for touched in group.slices:
            if touched.role in ZEROED:
                uses = found.setdefault(touched.use.value, {})
                _mark(uses, touched, units)
    return {value: _complete(value, uses) for value, uses in found.items()}


def _mark(uses: dict[tuple[ir.Node, int], Bools], touched: Slice, removed: Ids) -> None:
    tensor = touched.use.value.const_value
    assert tensor is not None
    key = (touched.use.node, touched.use.position)
    mask = uses.setdefault(key, np.zeros(tuple(tensor.shape.numpy()), np.bool_))
    units, slots = touched.pairs
    gone = slots[np.isin(units, removed)]
    if touched.blocks == 1:
        np.moveaxis(mask, touched.axis, 0)[gone] = True
        return
    # The inner axis of a grouped convolution: slot q * width + c is column c of row block q.
    height, width = mask.shape[0] // touched.blocks, mask.shape[1]
    rows = mask.reshape(touched.blocks, height, *mask.shape[1:])
    np.moveaxis(rows, 2, 1)[gone // width, gone % width] = True


def _complete(value: ir.Value, uses: dict[tuple[ir.Node, int], Bools]) -> list[Bools]:
    """One mask per reader of the tensor; those that lose nothing count, too."""
    masks = list(uses.values())
    if len(value.uses()) > len(masks):
        masks.append(np.zeros_like(masks[0]))
    return masks
