"""Carries out the edits that rules declared: one function per kind of edit."""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.ir.arrays import Array, Bools, Ints
from graphprune.ir.build import graph_of, supersede
from graphprune.ir.nodes import input_of
from graphprune.labels import edits
from graphprune.labels.algebra import Label, size_of
from graphprune.labels.state import Use
from graphprune.prune.rewriting import Chain, Rewriting
from graphprune.prune.shape_inputs import resize_shape_input


def apply_edits(rewriting: Rewriting) -> None:
    """Applies every edit whose label shrinks."""
    for edit in rewriting.analysis.edits:
        APPLY[type(edit)](rewriting, edit)


def _shrinks(rewriting: Rewriting, *labels: Label) -> bool:
    return any(rewriting.kept.touches(label) for label in labels)


def _prefix(mask: Bools) -> Ints:
    """Number of kept slots before each slot, one longer than the mask."""
    return np.concatenate([[0], np.cumsum(mask)]).astype(np.int64)


def _input_array(node: ir.Node, position: int) -> Array | None:
    value = input_of(node, position)
    if value is None or value.const_value is None or value.producer() is not None:
        return None
    return np.array(value.const_value.numpy())


def _set_input(rewriting: Rewriting, node: ir.Node, position: int, array: Array, hint: str) -> None:
    while len(node.inputs) <= position:
        node.resize_inputs(position + 1)
    node.replace_input_with(position, rewriting.constant(node, array, hint))


def _attribute_count(rewriting: Rewriting, edit: edits.AttributeCount) -> None:
    if _shrinks(rewriting, edit.label):
        node = rewriting.node(edit.node)
        old = node.attributes.get_int(edit.name, 1)
        new = old * rewriting.kept.count(edit.label) // size_of(edit.label)[0]
        node.attributes[edit.name] = ir.AttrInt64(edit.name, new)


def _attribute_counts(rewriting: Rewriting, edit: edits.AttributeCounts) -> None:
    if _shrinks(rewriting, *edit.labels):
        counts = [rewriting.kept.count(label) for label in edit.labels]
        rewriting.node(edit.node).attributes[edit.name] = ir.AttrInt64s(edit.name, counts)


def _attribute_float(rewriting: Rewriting, edit: edits.AttributeFloat) -> None:
    if _shrinks(rewriting, edit.label):
        rewriting.node(edit.node).attributes[edit.name] = ir.AttrFloat32(edit.name, edit.value)


def _shape_input(rewriting: Rewriting, edit: edits.ShapeInput) -> None:
    if _shrinks(rewriting, *edit.labels):
        resize_shape_input(rewriting, edit)


def _split_sizes(rewriting: Rewriting, edit: edits.SplitSizes) -> None:
    if not _shrinks(rewriting, *edit.labels):
        return
    node = rewriting.node(edit.node)
    counts = [rewriting.kept.count(label) for label in edit.labels]
    node.attributes.pop("num_outputs", None)
    if rewriting.opset < 13:
        node.attributes["split"] = ir.AttrInt64s("split", counts)
    else:
        _set_input(rewriting, node, 1, np.array(counts, np.int64), "split")


def _slice_bounds(rewriting: Rewriting, edit: edits.SliceBounds) -> None:
    if not _shrinks(rewriting, edit.label):
        return
    mask = rewriting.kept.mask(edit.label)
    wrap = edit.step < 0 and edit.end < -len(mask)
    chosen = np.arange(len(mask))[edit.start : None if wrap else edit.end : edit.step]
    positions = _prefix(mask)[:-1][chosen[mask[chosen]]]
    steps = np.unique(np.diff(positions))
    node = rewriting.node(edit.node)
    if len(positions) and (len(steps) == 0 or (len(steps) == 1 and steps[0] > 0)):
        step = int(steps[0]) if len(steps) else 1
        _set_bounds(rewriting, node, edit.axis, int(positions[0]), int(positions[-1]) + 1, step)
        return
    _set_bounds(rewriting, node, edit.axis, 0, int(mask.sum()), 1)
    index = rewriting.constant(node, positions.astype(np.int64), "slice_indices")
    chain = Chain(rewriting, node)
    picked = chain("Gather", node.outputs[0], index, axis=edit.axis)
    supersede(node.outputs[0], picked, chain.made)


def _set_bounds(rewriting: Rewriting, node: ir.Node, axis: int, start: int, end: int, step: int) -> None:
    if len(node.inputs) == 1:
        _set_bound_attributes(node, axis, start, end)
        return
    starts, ends, axes, steps = (_input_array(node, position) for position in (1, 2, 3, 4))
    for position, array, new, hint in (
        (1, starts, start, "starts"),
        (2, ends, end, "ends"),
        (4, steps, step, "steps"),
    ):
        count = len(starts if starts is not None else ())
        listed = np.arange(count) if axes is None else np.ravel(axes).astype(np.int64)
        where = [
            i for i, a in enumerate(listed) if int(a) == axis or int(a) + _rank_of(rewriting, node) == axis
        ]
        if array is None:  # steps that are not given are 1, and stay so: what is left of a stretch is one
            continue
        changed = np.array(array)
        changed[where] = new
        _set_input(rewriting, node, position, changed, hint)


def _rank_of(rewriting: Rewriting, node: ir.Node) -> int:
    original = rewriting.copy.original(node)
    value = original.inputs[0]
    shape = rewriting.analysis.sizes.shapes.get(value) if value is not None else None
    return len(shape or ())


def _set_bound_attributes(node: ir.Node, axis: int, start: int, end: int) -> None:
    starts, ends = list(node.attributes["starts"].as_ints()), list(node.attributes["ends"].as_ints())
    axes = list(node.attributes["axes"].as_ints()) if "axes" in node.attributes else list(range(len(starts)))
    index = axes.index(axis)
    starts[index], ends[index] = start, end
    node.attributes["starts"] = ir.AttrInt64s("starts", starts)
    node.attributes["ends"] = ir.AttrInt64s("ends", ends)


def _index_map(rewriting: Rewriting, edit: edits.IndexMap) -> None:
    if not _shrinks(rewriting, edit.label):
        return
    node, mask = rewriting.node(edit.node), rewriting.kept.mask(edit.label)
    indices = _input_array(node, edit.position)
    assert indices is not None
    wrapped = indices.astype(np.int64) % len(mask)
    kept = wrapped if wrapped.ndim == 0 else wrapped[mask[wrapped]]
    _set_input(rewriting, node, edit.position, _prefix(mask)[kept].astype(indices.dtype), "indices")


def _pad_counts(rewriting: Rewriting, edit: edits.PadCounts) -> None:
    if not _shrinks(rewriting, edit.before, edit.after):
        return
    node = rewriting.node(edit.node)
    counts = [int(rewriting.kept.mask(label).sum()) for label in (edit.before, edit.after)]
    pads = _input_array(node, 1)
    amounts = np.array(node.attributes["pads"].as_ints(), np.int64) if pads is None else pads.astype(np.int64)
    axes = _input_array(node, 3)
    listed = (
        list(range(len(amounts) // 2))
        if axes is None
        else [int(a) % _rank_of(rewriting, node) for a in np.ravel(axes)]
    )
    index = listed.index(edit.axis)
    amounts[index], amounts[index + len(listed)] = counts
    if pads is None:
        node.attributes["pads"] = ir.AttrInt64s("pads", amounts.tolist())
    else:
        _set_input(rewriting, node, 1, amounts, "pads")


def _dtype(rewriting: Rewriting, value: ir.Value) -> npt.DTypeLike:
    return value.dtype.numpy() if value.dtype is not None else np.float32


def _mean_count(rewriting: Rewriting, edit: edits.MeanCount) -> None:
    if not _shrinks(rewriting, *edit.labels):
        return
    kept = prod(rewriting.kept.count(label) for label in edit.labels)
    dense = prod(size_of(label)[0] for label in edit.labels)
    node = rewriting.node(edit.node)
    out = node.outputs[0]
    factor = rewriting.constant(node, np.array(kept / dense, _dtype(rewriting, out)), "mean_count")
    chain = Chain(rewriting, node)
    corrected = chain("Mul", out, factor)
    supersede(out, corrected, chain.made)
    rewriting.corrected[edit.node.outputs[0]] = corrected


def _rms(rewriting: Rewriting, edit: edits.RmsCompensation) -> None:
    if not _shrinks(rewriting, edit.label):
        return
    dense, kept = size_of(edit.label)[0], rewriting.kept.count(edit.label)
    rewriting.scales[Use(edit.node, edit.scale)] = sqrt(dense / kept)
    node = rewriting.node(edit.node)
    old = node.attributes.get_float(edit.epsilon, edit.default)
    node.attributes[edit.epsilon] = ir.AttrFloat32(edit.epsilon, old * dense / kept)


def _variance_count(rewriting: Rewriting, edit: edits.VarianceCount) -> None:
    """V = (n'/n) * kept variance + ((n - n') / n) * mean^2 (docs/theory.md#compensations)."""
    if not _shrinks(rewriting, edit.label):
        return
    dense, kept = size_of(edit.label)[0], rewriting.kept.count(edit.label)
    node = rewriting.node(edit.node)
    out, mean = node.outputs[0], rewriting.corrected[edit.mean]
    kind = _dtype(rewriting, out)
    share = rewriting.constant(node, np.array(kept / dense, kind), "variance_count")
    rest = rewriting.constant(node, np.array((dense - kept) / dense, kind), "variance_rest")
    chain = Chain(rewriting, node)
    total = chain("Add", chain("Mul", out, share), chain("Mul", chain("Mul", mean, mean), rest))
    supersede(out, total, chain.made)


def _layer_norm(rewriting: Rewriting, edit: edits.LayerNormExpansion) -> None:
    """Moments keep dividing by the original count: removed slots are zeros (docs/theory.md#compensations)."""
    if not _shrinks(rewriting, edit.label):
        return
    dense, kept = size_of(edit.label)[0], rewriting.kept.count(edit.label)
    node = rewriting.node(edit.node)
    x, gamma, beta = node.inputs[0], node.inputs[1], input_of(node, 2)
    assert x is not None
    kind = _dtype(rewriting, x)
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    one_over_n, missing, eps = (
        rewriting.constant(node, np.array(value, kind), hint)
        for value, hint in ((1 / dense, "one_over_n"), (dense - kept, "missing"), (epsilon, "epsilon"))
    )
    chain = Chain(rewriting, node)
    mean = chain("Mul", chain.sum_last(x), one_over_n)
    centred = chain("Sub", x, mean)
    seen = chain.sum_last(chain("Mul", centred, centred))
    unseen = chain("Mul", chain("Mul", mean, mean), missing)
    variance = chain("Mul", chain("Add", seen, unseen), one_over_n)
    out = chain("Mul", chain("Div", centred, chain("Sqrt", chain("Add", variance, eps))), gamma)
    rewriting.moved[Use(edit.node, 1)] = (chain.last, 1)
    if beta is not None:
        out = chain("Add", out, beta)
        rewriting.moved[Use(edit.node, 2)] = (chain.last, 1)
    supersede(node.outputs[0], out, chain.made)
    graph_of(node).remove(node, safe=True)


def _clamp(rewriting: Rewriting, edit: edits.ClampCount) -> None:
    """K never exceeds what is kept; the selector's floor normally sees to that already."""
    node = rewriting.node(edit.node)
    count = _input_array(node, edit.position)
    if count is not None and _shrinks(rewriting, edit.label):
        _set_input(rewriting, node, edit.position, np.minimum(count, rewriting.kept.count(edit.label)), "k")


def _dense_shape(rewriting: Rewriting, edit: edits.DenseShape) -> None:
    """Sizes := sizes * original / kept, element by element."""
    if not _shrinks(rewriting, *edit.labels):
        return
    node = rewriting.node(edit.node)
    factors = [tuple(f for f in label if f.atoms is not None) for label in edit.labels]
    dense = np.array([size_of(label)[0] for label in factors], np.int64)
    kept = np.array([rewriting.kept.count(label) for label in factors], np.int64)
    chain = Chain(rewriting, node)
    scaled = chain("Mul", node.outputs[0], rewriting.constant(node, dense, "dense"))
    supersede(node.outputs[0], chain("Div", scaled, rewriting.constant(node, kept, "kept")), chain.made)


def _squeeze(rewriting: Rewriting, edit: edits.SqueezeAxes) -> None:
    labels = rewriting.analysis.values.get(edit.node.inputs[0], ()) if edit.node.inputs[0] is not None else ()
    if not any(_shrinks(rewriting, label) and rewriting.kept.count(label) == 1 for label in labels):
        return
    node = rewriting.node(edit.node)
    if rewriting.opset < 13:
        node.attributes["axes"] = ir.AttrInt64s("axes", list(edit.axes))
    else:
        _set_input(rewriting, node, 1, np.array(edit.axes, np.int64), "axes")


def _shuffle(rewriting: Rewriting, edit: edits.ShuffleGather) -> None:
    """The three nodes of a shuffle, and the arithmetic of their shapes, become one Gather."""
    if not _shrinks(rewriting, edit.label):
        return
    shuffle, mask = edit.shuffle, rewriting.kept.mask(edit.label)
    node = rewriting.node(shuffle.last)
    slots = _prefix(mask)[shuffle.order[mask[shuffle.order]]]
    indices = rewriting.constant(node, slots, "shuffle")
    chain = Chain(rewriting, node)
    source = rewriting.node(shuffle.first).inputs[0]
    supersede(node.outputs[0], chain("Gather", source, indices, axis=shuffle.axis), chain.made)
    gone = {rewriting.node(n) for n in (shuffle.first, shuffle.middle, shuffle.last, *shuffle.helpers)}
    for old in [n for n in reversed(list(graph_of(node))) if n in gone]:
        graph_of(old).remove(old, safe=True)


def _old_places(rewriting: Rewriting, edit: edits.OldPlaces) -> None:
    """Gather to the old places, zero between them, and behind the node Gather what is kept."""
    if not _shrinks(rewriting, edit.label):
        return
    node = rewriting.node(edit.node)
    source = node.inputs[0]
    assert source is not None
    first = source.producer()
    assert first is not None  # a width that shrinks is computed
    mask = rewriting.kept.mask(edit.label)
    ones = mask.astype((source.dtype or ir.DataType.FLOAT).numpy())
    before = Chain(rewriting, first)
    places = rewriting.constant(node, np.where(mask, _prefix(mask)[:-1], 0), "places")
    spread = before("Gather", source, places, axis=-1)
    node.replace_input_with(0, before("Mul", spread, rewriting.constant(node, ones, "mask")))
    after = Chain(rewriting, node)
    kept = rewriting.constant(node, np.flatnonzero(mask), "kept")
    supersede(node.outputs[0], after("Gather", node.outputs[0], kept, axis=-1), after.made)
    node.outputs[0].shape = None  # it is as long as it was


APPLY: dict[type, Callable[[Rewriting, Any], None]] = {
    edits.AttributeCount: _attribute_count,
    edits.AttributeCounts: _attribute_counts,
    edits.AttributeFloat: _attribute_float,
    edits.ShapeInput: _shape_input,
    edits.SplitSizes: _split_sizes,
    edits.SliceBounds: _slice_bounds,
    edits.IndexMap: _index_map,
    edits.PadCounts: _pad_counts,
    edits.MeanCount: _mean_count,
    edits.RmsCompensation: _rms,
    edits.VarianceCount: _variance_count,
    edits.LayerNormExpansion: _layer_norm,
    edits.ClampCount: _clamp,
    edits.SqueezeAxes: _squeeze,
    edits.DenseShape: _dense_shape,
    edits.ShuffleGather: _shuffle,
    edits.OldPlaces: _old_places,
    edits.BranchRemoval: lambda rewriting, edit: None,  # when everything else is done: prune.branches
}
