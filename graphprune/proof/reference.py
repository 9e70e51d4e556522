"""M_R, the masked reference: the repaired dense graph with removed slots masked where they would be read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.axes.sublayers import Sublayer
from graphprune.errors import GraphpruneError
from graphprune.ir.arrays import Bools
from graphprune.ir.graft import Graft
from graphprune.ir.graphs import all_nodes, graphs_of
from graphprune.ir.names import called
from graphprune.labels.state import Contraction
from graphprune.proof import normalisers
from graphprune.proof.certificate import repaired
from graphprune.proof.pairing import is_constant
from graphprune.proof.survivors import Survivors

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
SELECTABLE = frozenset({ir.DataType.UINT8, ir.DataType.INT32, ir.DataType.INT64})
"""Integer types that ONNX Runtime's Where takes; others pass through int32."""
MINUS_INFINITY = -1e9


class CannotMaskError(GraphpruneError):
    """The reference has no form for something that a Plan removed."""


@dataclass(frozen=True, eq=False)
class Reference:
    """M_R and how the dense model's nodes appear in it.

    Attributes:
        model: the masked graph; it shares every weight that the Plan does not replace.
        nodes: copy of each dense node (normalisers that were written out have none).
        inexact: dense nodes whose function the Plan changes.
    """

    model: ir.Model
    nodes: dict[ir.Node, ir.Node]
    inexact: tuple[ir.Node, ...]


def build_reference(dense: ir.Model, survivors: Survivors) -> Reference:
    """Builds M_R (docs/theory.md#the-masked-reference).

    Raises:
        CannotMaskError: an edge or a normaliser has no masked form.
    """
    model = dense.clone()
    nodes = dict(zip(all_nodes(dense.graph), all_nodes(model.graph), strict=True))
    _repair(model, survivors)
    masks = _Masks(survivors, nodes, Graft(model, "graphprune.proof/"))
    for contraction in survivors.analysis.contractions:
        masks.apply(contraction)
    for sublayer in survivors.bypassed:
        _silence(masks, sublayer)
    inexact = []
    for node, label in survivors.analysis.inexact.items():
        mask = survivors.mask(label)
        if mask is not None:
            inexact.append(node)
            normalisers.over_kept(masks.graft, nodes[node], mask)
    return Reference(model, nodes, tuple(inexact))


def _silence(masks: _Masks, sublayer: Sublayer) -> None:
    """The sum reads zero in place of the branch."""
    node = masks.nodes[sublayer.join]
    value = node.inputs[sublayer.position]
    assert value is not None
    dtype = value.dtype or ir.DataType.FLOAT
    zero = masks.graft.constant(np.zeros((), dtype.numpy()))
    node.replace_input_with(sublayer.position, masks.graft.after(value, "Mul", value, zero))


def _repair(model: ir.Model, survivors: Survivors) -> None:
    edited = {*survivors.plan.replaced, *survivors.plan.masks}
    for graph in graphs_of(model):
        for name, value in graph.initializers.items():
            if name in edited and value.const_value is not None:
                array = np.ascontiguousarray(repaired(survivors, name, value.const_value))
                value.const_value = ir.Tensor(array, dtype=value.const_value.dtype, name=name)


@dataclass(eq=False)
class _Masks:
    """Puts masks on edges; edges that read the same value through the same mask share one."""

    survivors: Survivors
    nodes: dict[ir.Node, ir.Node]
    graft: Graft
    _made: dict[tuple[ir.Value, int, str, bytes], ir.Value] = field(default_factory=dict)

    def apply(self, contraction: Contraction) -> None:
        labels = self.survivors.edge(contraction.node, contraction.position)
        mask = self.survivors.mask(labels[contraction.axis])
        if mask is None:
            return
        if any(factor.size[0] != factor.size[1] for factor in labels[contraction.axis]):
            raise CannotMaskError(f"{called(contraction.node)} contracts an axis whose size is not known")
        node = self.nodes[contraction.node]
        value = node.inputs[contraction.position]
        assert value is not None
        tail = len(labels) - contraction.axis - 1
        key = (value, contraction.axis, contraction.fill, mask.tobytes())
        if key not in self._made:
            self._made[key] = self._masked(node, value, mask, tail, contraction.fill)
        node.replace_input_with(contraction.position, self._made[key])

    def _masked(self, node: ir.Node, value: ir.Value, mask: Bools, tail: int, fill: str) -> ir.Value:
        dtype = value.dtype
        if dtype is None and value.const_value is not None:
            dtype = value.const_value.dtype
        if dtype is None:
            raise CannotMaskError(f"the type of {value.name!r} is not known")
        shaped = mask.reshape(-1, *[1] * tail)
        if fill.startswith("input:"):
            other = node.inputs[int(fill.removeprefix("input:"))]
            assert other is not None
            return self._selected(value, shaped, other, dtype)
        if dtype in FLOATS:
            return self._scaled(value, shaped, fill, dtype)
        number = self.graft.constant(np.array(_filler(fill, dtype), dtype.numpy()))
        return self._selected(value, shaped, number, dtype)

    def _scaled(self, value: ir.Value, shaped: Bools, fill: str, dtype: ir.DataType) -> ir.Value:
        """X * mask + (1 - mask) * filler: exact on kept slots, and in every opset."""
        masked = self.graft.after(value, "Mul", value, self.graft.constant(shaped.astype(dtype.numpy())))
        if fill == "zero":
            return masked
        offset = np.where(shaped, 0, _filler(fill, dtype)).astype(dtype.numpy())
        return self.graft.after(masked, "Add", masked, self.graft.constant(offset))

    def _selected(self, value: ir.Value, shaped: Bools, other: ir.Value, dtype: ir.DataType) -> ir.Value:
        last = value if is_constant(other) or other.producer() is value.producer() else other
        if dtype in SELECTABLE:
            return self.graft.after(last, "Where", self.graft.constant(shaped), value, other)
        wide = {"to": ir.DataType.INT32.value}
        one = self.graft.after(last, "Cast", value, **wide)
        two = self.graft.after(one, "Cast", other, **wide)
        chosen = self.graft.after(two, "Where", self.graft.constant(shaped), one, two)
        return self.graft.after(chosen, "Cast", chosen, to=dtype.value)


def _filler(fill: str, dtype: ir.DataType) -> float:
    """A float for a float, exact integers for the rest: the largest of 64 bits has no float."""
    if fill == "zero":
        return 0
    exact = float if dtype in FLOATS else int
    lowest, highest = (0, 1) if dtype == ir.DataType.BOOL else (exact(dtype.min), exact(dtype.max))
    if fill == "-inf":
        return max(exact(MINUS_INFINITY), lowest)
    return lowest if fill == "lowest" else highest
