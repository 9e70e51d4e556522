"""The zeroed twin: weights that make the dense model compute what the cut model computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Slice
from graphprune.ir.arrays import Array, Bools, Ids
from graphprune.ir.mapped import in_place
from graphprune.labels.state import Use
from graphprune.statistics.packed import packing_of
from graphprune.statistics.stored import grid_of

Mark = tuple[Slice, Ids]
"""A Slice, and the slots of it that go."""

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
    arrays: dict[str, Array] = dict(given)
    for value, uses in _removed(analysis, cuts).items():
        name, tensor, zero = value.name or "", value.const_value, _zero(value)
        if tensor is None or zero is None:
            continue
        array = np.array(given[name] if name in given else in_place(tensor))
        if len(uses) == 1 and len(value.uses()) == 1:  # the usual case, without a mask of the whole tensor
            for touched, slots in next(iter(uses.values())):
                _clear(array, zero, touched, slots)
        elif len(uses) >= len(value.uses()):
            mask = np.logical_and.reduce([_mask(array.shape, marks) for marks in uses.values()])
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


def _removed(
    analysis: Analysis, cuts: Mapping[str, Sequence[int]]
) -> dict[ir.Value, dict[tuple[ir.Node, int], list[Mark]]]:
    """Per touched initializer, and for each of its uses that loses any, the slots that go."""
    found: dict[ir.Value, dict[tuple[ir.Node, int], list[Mark]]] = {}
    for group in analysis.groups:
        if len(cuts.get(group.id, range(group.size))) == group.size:
            continue
        units = np.delete(np.arange(group.size), list(cuts[group.id]))
        for touched in group.slices:
            if touched.role in ZEROED:
                uses = found.setdefault(touched.use.value, {})
                owners, slots = touched.pairs
                marks = uses.setdefault((touched.use.node, touched.use.position), [])
                marks.append((touched, slots[np.isin(owners, units)]))
    return found


def _mask(shape: tuple[int, ...], marks: Sequence[Mark]) -> Bools:
    """Which elements one use loses."""
    mask = np.zeros(shape, np.bool_)
    for touched, slots in marks:
        _clear(mask, np.ones(()), touched, slots)
    return mask


def _clear(array: Array, zero: Array, touched: Slice, slots: Ids) -> None:
    """Sets these slots to what is zero, one for all or one per element."""
    zero = np.broadcast_to(zero, array.shape)
    if touched.blocks == 1:
        np.moveaxis(array, touched.axis, 0)[slots] = np.moveaxis(zero, touched.axis, 0)[slots]
        return
    # The inner axis of a grouped convolution: slot q * width + c is column c of row block q.
    height, width = array.shape[0] // touched.blocks, array.shape[1]
    rows, zeros = (np.moveaxis(_in_blocks(each, touched.blocks, height), 2, 1) for each in (array, zero))
    rows[slots // width, slots % width] = zeros[slots // width, slots % width]


def _in_blocks(array: Array, blocks: int, height: int) -> Array:
    return array.reshape(blocks, height, *array.shape[1:])
