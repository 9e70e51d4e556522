"""The one place that cuts tensors: carries a Plan out on a copy of the model, by label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.kept import Kept
from graphprune.ir.arrays import Array, Bools, Ids
from graphprune.ir.clone import copy_model
from graphprune.ir.element import is_packed
from graphprune.ir.mapped import in_place
from graphprune.labels.algebra import Label
from graphprune.labels.state import Use
from graphprune.prune.branches import remove_branches
from graphprune.prune.edits import apply_edits
from graphprune.prune.fits import require_fit
from graphprune.prune.plan import Plan
from graphprune.prune.rewriting import Rewriting

LARGE = 1 << 24
"""Tensors of a mapped file above this many bytes are cut when they are written, not held in memory."""


@dataclass(frozen=True)
class Cut:
    """How one use of an initializer shrinks.

    Attributes:
        masks: kept slots per axis; None where the axis stays whole.
        blocks: number of blocks when axis 1 holds one block of its mask per block of axis 0, else 1.
        scale: factor applied after slicing (RMS compensation).
    """

    masks: tuple[Bools | None, ...]
    blocks: int = 1
    scale: float = 1.0

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for cuts that give equal tensors."""
        return (tuple(None if m is None else m.tobytes() for m in self.masks), self.blocks, self.scale)

    @property
    def trivial(self) -> bool:
        """Whether the tensor stays as it is."""
        return self.scale == 1.0 and all(mask is None for mask in self.masks)

    def apply(self, array: Array) -> Array:
        """Returns the kept part of a dense tensor."""
        if self.blocks > 1:
            array = _blockwise(array, self.masks, self.blocks)
        else:
            array = _taken(array, [None if mask is None else np.flatnonzero(mask) for mask in self.masks])
        if self.scale != 1.0:
            array = (array * np.asarray(self.scale, array.dtype)).astype(array.dtype)
        return np.require(array, requirements=["C", "A"])

    def shape(self, dense: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what `apply` returns."""
        counts = [n if m is None else int(m.sum()) for n, m in zip(dense, self.masks, strict=True)]
        if self.blocks > 1 and self.masks[1] is not None:
            counts[1] //= self.blocks
        return tuple(counts)


CHUNK = 1 << 16
"""Elements that are cut at a time, so that what one axis leaves is in the cache when the next is cut."""


def _taken(array: Array, kept: Sequence[Ids | None]) -> Array:
    """The kept slots of every axis, a few rows at a time; None keeps a whole axis."""
    inner = [(axis, slots) for axis, slots in enumerate(kept) if axis and slots is not None]
    if not inner:
        return array if not kept or kept[0] is None else _rows(array, kept[0])
    counts = [size if slots is None else len(slots) for size, slots in zip(array.shape, kept, strict=True)]
    out = np.empty(counts, array.dtype)
    step = max(1, CHUNK * len(array) // max(1, array.size))
    *before, (last, last_slots) = inner
    for start in range(0, counts[0], step):
        at = slice(start, start + step)
        part = _aligned(array[at]) if kept[0] is None else _rows(array, kept[0][at])
        for axis, slots in before:
            part = np.take(part, slots, axis=axis)
        np.take(part, last_slots, last, out[at], mode="clip")  # other modes use a buffer
    return out


def _aligned(rows: Array) -> Array:
    """Rows as they lie, copied only where the next cut would first copy them anyway, and slower."""
    return np.require(rows, requirements=["A"])


def _rows(array: Array, rows: Ids) -> Array:
    """`np.take`, which would first copy all of an array that is not aligned, as weights in a file are."""
    if array.flags.aligned or not array.flags.c_contiguous:
        return np.take(array, rows, axis=0)
    taken = np.take(array.reshape(len(array), -1).view(np.uint8), rows, axis=0)  # bytes are always aligned
    return taken.view(array.dtype).reshape(len(rows), *array.shape[1:])


def _blockwise(array: Array, masks: tuple[Bools | None, ...], blocks: int) -> Array:
    rows = np.ones(array.shape[0], bool) if masks[0] is None else masks[0]
    width = array.shape[1]
    columns = np.ones(blocks * width, bool) if masks[1] is None else masks[1]
    height = array.shape[0] // blocks
    parts = []
    for block in range(blocks):
        part = array[block * height : (block + 1) * height]
        part = part[rows[block * height : (block + 1) * height]]
        parts.append(part[:, columns[block * width : (block + 1) * width]])
    return np.concatenate(parts)


def rewrite(model: ir.Model, analysis: Analysis, plan: Plan) -> ir.Model:
    """Returns a new model with everything removed that the plan does not keep; `model` is only read.

    Raises:
        ArgumentError: the plan is not one for this model.
    """
    require_fit(analysis, plan)
    rewriting = Rewriting(analysis, plan, Kept(analysis, plan.cuts), copy_model(model))
    apply_edits(rewriting)
    remove_branches(rewriting)
    _cut_initializers(rewriting)
    _refresh_shapes(rewriting)
    _drop_unused(rewriting)
    return rewriting.copy.model


def _cut_initializers(rewriting: Rewriting) -> None:
    cuts: dict[ir.Value, dict[Use, Cut]] = {}
    for use, labels in rewriting.analysis.uses.items():
        if use.node in rewriting.copy.nodes:
            cuts.setdefault(use.value, {})[use] = cut_of(rewriting, use, labels)
    touched = {v.name for v in cuts} | set(rewriting.plan.replaced) | set(rewriting.plan.masks)
    for value in rewriting.copy.values:
        if value.const_value is not None and value not in cuts and value.name in touched:
            cuts[value] = {}
    for value, per_use in cuts.items():
        _cut_value(rewriting, value, per_use)


def cut_of(rewriting: Rewriting, use: Use, labels: tuple[Label, ...]) -> Cut:
    """How one use shrinks, once all edits are applied."""
    kept, blocks = rewriting.kept, 1
    masks: list[Bools | None] = []
    for axis, label in enumerate(labels):
        masks.append(kept.mask(label) if kept.touches(label) else None)
        blocks = max(blocks, rewriting.analysis.state.blocks.get((use, axis), 1))
    return Cut(
        tuple(masks), blocks if any(m is not None for m in masks) else 1, rewriting.scales.get(use, 1.0)
    )


def _cut_value(rewriting: Rewriting, value: ir.Value, per_use: dict[Use, Cut]) -> None:
    """Uses with the same cut share one tensor; the others get a clone of their own."""
    target = rewriting.copy.values[value]
    whole = Cut((None,) * len(value.const_value.shape)) if value.const_value is not None else None
    by_key: dict[tuple[object, ...], tuple[Cut, list[Use]]] = {}
    for user, position in value.uses():
        use = Use(user, position)
        if user not in rewriting.copy.nodes or rewriting.reader(use)[0].graph is None:
            continue
        cut = per_use.get(use, whole)
        assert cut is not None
        by_key.setdefault(cut.key, (cut, []))[1].append(use)
    for index, (cut, uses) in enumerate(sorted(by_key.values(), key=lambda item: _first(item[1]))):
        if index == 0:
            _set_tensor(rewriting, target, value, cut)
            continue
        clone = ir.Value(name=rewriting.names.fresh(f"{value.name or 'clone'}/"), type=value.type)
        _set_tensor(rewriting, clone, value, cut)
        # Beside the original, where every reader of the original can see it (readers may sit in If branches).
        owner = target.graph
        (owner if isinstance(owner, ir.Graph) else rewriting.copy.model.graph).register_initializer(clone)
        for use in uses:
            node, position = rewriting.reader(use)
            if node.inputs[position] is target:
                node.replace_input_with(position, clone)


def _first(uses: list[Use]) -> tuple[str, int]:
    return (uses[0].node.name or "", uses[0].position)


def _set_tensor(rewriting: Rewriting, target: ir.Value, source: ir.Value, cut: Cut) -> None:
    name = source.name or ""
    plan, tensor = rewriting.plan, source.const_value
    assert tensor is not None
    replaced, mask = plan.replaced.get(name), plan.masks.get(name)
    if cut.trivial and replaced is None and mask is None:
        if target.const_value is None:
            target.const_value = tensor
            target.shape = ir.Shape(tensor.shape.numpy())
        return
    target.const_value = _tensor(tensor, _maker(tensor, replaced, mask, cut), cut, target.name or name)
    target.shape = ir.Shape(target.const_value.shape.numpy())


def _maker(
    tensor: ir.TensorProtocol, replaced: Array | None, mask: Array | None, cut: Cut
) -> Callable[[], Array]:
    def make() -> Array:
        dense = in_place(tensor) if replaced is None else _typed(replaced, tensor)
        if mask is not None:
            dense = np.where(mask, dense, np.zeros((), dense.dtype))
        return cut.apply(dense)

    return make


def _typed(array: Array, tensor: ir.TensorProtocol) -> Array:
    """Small integers come from a file in whole bytes."""
    return array.astype(tensor.dtype.numpy(), copy=False) if is_packed(tensor.dtype) else array


def _tensor(tensor: ir.TensorProtocol, make: Callable[[], Array], cut: Cut, name: str) -> ir.TensorProtocol:
    if tensor.dtype == ir.DataType.STRING:
        strings = make()
        return ir.StringTensor(strings.ravel().tolist(), shape=ir.Shape(strings.shape), name=name)
    streamed = isinstance(tensor, ir.ExternalTensor) or (
        isinstance(tensor, ir.LazyTensor) and tensor.nbytes > LARGE
    )
    if not streamed:
        return ir.Tensor(make(), dtype=tensor.dtype, name=name)
    shape = ir.Shape(cut.shape(tuple(tensor.shape.numpy())))

    def lazily() -> ir.TensorProtocol:
        return ir.Tensor(make(), dtype=tensor.dtype, name=name)

    return ir.LazyTensor(lazily, dtype=tensor.dtype, shape=shape, name=name, cache=False)


def _refresh_shapes(rewriting: Rewriting) -> None:
    for value, labels in rewriting.analysis.values.items():
        copy = rewriting.copy.values.get(value)
        if copy is None or copy.shape is None or len(copy.shape) != len(labels):
            continue
        if any(rewriting.kept.touches(label) for label in labels):
            dims = [
                rewriting.kept.count(label) if isinstance(dim, int) and rewriting.kept.touches(label) else dim
                for dim, label in zip(copy.shape, labels, strict=True)
            ]
            copy.shape = ir.Shape(dims)


def _drop_unused(rewriting: Rewriting) -> None:
    """Removes initializers that the rewrite left without a reader (those unused before stay)."""
    for value, copy in rewriting.copy.values.items():
        graph, name = copy.graph, copy.name or ""
        if value.const_value is None or not value.uses() or copy.uses() or copy.is_graph_output():
            continue
        if isinstance(graph, ir.Graph) and name in graph.initializers and not copy.is_graph_input():
            del graph.initializers[name]
