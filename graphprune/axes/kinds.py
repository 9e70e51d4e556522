"""What the Units of a Group are: heads, dims of heads, the stream, hidden neurons; found by structure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis, walk
from graphprune.axes.groups import Group
from graphprune.ir.nodes import input_of
from graphprune.labels.algebra import Label
from graphprune.labels.edits import BranchRemoval
from graphprune.labels.state import Use
from graphprune.ops import has, layer_of
from graphprune.ops.traits import Trait

Kind = Literal["heads", "dims", "experts", "stream", "neurons", "channels"]
Chosen = Literal["all", "inner", "stream", "neurons", "heads", "dims", "experts", "channels"]

Units = frozenset[int]


_FOUND: WeakKeyDictionary[Analysis, Mapping[str, Kind]] = WeakKeyDictionary()
"""An analysis does not change; a pass asks before it decides, and again when what it took is counted."""


def kinds(analysis: Analysis) -> Mapping[str, Kind]:
    """The kind of every Group, by its id."""
    if analysis not in _FOUND:
        _FOUND[analysis] = _kinds(analysis)
    return _FOUND[analysis]


def _kinds(analysis: Analysis) -> Mapping[str, Kind]:
    constant = _from_weights(analysis)
    heads, dims = _attention(analysis, constant)
    experts = _experts(analysis)
    order = {node: index for index, node in enumerate(walk(analysis.model.graph))}
    joins = _joins(analysis, constant, order)
    found: dict[str, Kind] = {}
    for group in analysis.groups:
        atom = int(group.atoms[0])
        rules: tuple[tuple[Kind, bool], ...] = (
            ("experts", atom in experts),
            ("heads", atom in heads),
            ("stream", _is_stream(group, order, joins.get(atom, -1))),
            ("dims", atom in dims),
            ("neurons", _is_hidden(group)),
        )
        found[group.id] = next((kind for kind, holds in rules if holds), "channels")
    return found


def chosen(kind: Kind, wanted: Iterable[Chosen]) -> bool:
    """Whether Groups of this kind are among those that were asked for."""
    words = set(wanted)
    return "all" in words or kind in words or ("inner" in words and kind != "stream")


def _is_stream(group: Group, order: Mapping[ir.Node, int], join: int) -> bool:
    """Read and written again: a sum carries the width after some node has read it (a gate is no sum)."""
    reads = [order[s.use.node] for s in group.slices if s.role == "sink"]
    return bool(reads) and min(reads) < join


def _joins(analysis: Analysis, constant: frozenset[ir.Value], order: Mapping[ir.Node, int]) -> dict[int, int]:
    """Where each atom is last carried by a sum of two computed values."""
    last: dict[int, int] = {}
    for node, index in order.items():
        if has(node, Trait.ADDS) and len(_computed(node, constant)) > 1:
            last.update(dict.fromkeys(_all_leaves(analysis, node.outputs[0]), index))
    return last


def _computed(node: ir.Node, constant: frozenset[ir.Value]) -> list[ir.Value]:
    """Operands that depend on an input of the model."""
    return [v for v in node.inputs if v is not None and v.const_value is None and v not in constant]


def _from_weights(analysis: Analysis) -> frozenset[ir.Value]:
    """Values made of weights alone, such as the transpose of a shared one."""
    found: set[ir.Value] = set()
    for node in walk(analysis.model.graph):
        known = [v for v in node.inputs if v is not None]
        if known and all(v.const_value is not None or v in found for v in known):
            found.update(node.outputs)
    return frozenset(found)


def _is_hidden(group: Group) -> bool:
    """Written and read by products with weights: neither convolutions nor recurrences."""
    return not group.convolutional and not any(has(s.use.node, Trait.RECURRENT) for s in group.slices)


def _experts(analysis: Analysis) -> Units:
    labels = (edit.label for edit in analysis.edits if isinstance(edit, BranchRemoval))
    return frozenset().union(*(_leaves(analysis, label) for label in labels))


def _attention(analysis: Analysis, constant: frozenset[ir.Value]) -> tuple[Units, Units]:
    """Atoms that are whole heads, and all atoms that take part in a product of two computed values."""
    heads: set[int] = set()
    every: set[int] = set()
    for node in walk(analysis.model.graph):
        if has(node, Trait.ATTENTION):
            mine, others = _fused(analysis, node)
        elif has(node, Trait.PRODUCT, Trait.EINSUM):
            mine, others = _product(analysis, node, constant)
        else:
            continue
        heads |= mine
        every |= others
    return frozenset(heads), frozenset(every - heads)


def _product(analysis: Analysis, node: ir.Node, constant: frozenset[ir.Value]) -> tuple[Units, Units]:
    """Heads are the batch of a product of two computed values: in both operands, and in the result."""
    operands = _computed(node, constant)
    if len(operands) < 2:
        return frozenset(), frozenset()
    left, right = (_all_leaves(analysis, value) for value in operands[:2])
    return left & right & _all_leaves(analysis, node.outputs[0]), left | right


def _fused(analysis: Analysis, node: ir.Node) -> tuple[Units, Units]:
    """Heads own whole runs of the result's last axis, dims every n-th slot of it."""
    result = analysis.values.get(node.outputs[0], ())
    every = frozenset().union(*(_leaves(analysis, label) for label in (*_projected(analysis, node), *result)))
    if len(result) == 4:
        return _leaves(analysis, result[1]), every
    return _runs(analysis, result[-1]) if result else frozenset(), every


def _projected(analysis: Analysis, node: ir.Node) -> list[Label]:
    """Labels of queries, keys and values, or of the rows of the one weight that makes all three."""
    layer = layer_of(node)
    if layer is None:
        return [label for value in node.inputs[:3] if value for label in analysis.values.get(value, ())]
    weight = input_of(node, layer.weight)
    labels = analysis.uses.get(Use(node, layer.weight)) or (analysis.values.get(weight, ()) if weight else ())
    return [labels[layer.rows]] if labels else []


def _runs(analysis: Analysis, label: Label) -> Units:
    factors = analysis.state.algebra.normal(label)
    if len(factors) > 1:
        return _leaves(analysis, factors[:-1])
    if not factors or factors[0].atoms is None:
        return frozenset()
    position, leaf, _ = analysis.state.atoms.base(factors[0].atoms)
    order = np.lexsort((position, leaf))
    neighbours = (np.diff(leaf[order]) == 0) & (np.diff(position[order]) == 1)
    return frozenset(leaf[order][:-1][neighbours].tolist())


def _all_leaves(analysis: Analysis, value: ir.Value | None) -> Units:
    labels = () if value is None else analysis.values.get(value, ())
    return frozenset().union(*(_leaves(analysis, label) for label in labels))


def _leaves(analysis: Analysis, label: Label) -> Units:
    found: set[int] = set()
    for factor in label:
        if factor.atoms is not None:
            found.update(analysis.state.atoms.base(factor.atoms)[1].tolist())
    return frozenset(found)
