"""Integer products that come out alike on every CPU: a signed second factor becomes unsigned.

Where a CPU has no instruction for unsigned times signed bytes (x86 without VNNI), ONNX Runtime uses one that
adds two products into sixteen bits and saturates: 255 * 127 + 255 * 127 becomes 32767. Which products meet
depends on how many columns there are, so graphs that are equal in exact arithmetic differ. Unsigned by
unsigned bytes, and signed by signed ones, are widened before they are multiplied, hence exact everywhere. As
(w + 128) - (z + 128) = w - z, a signed factor with zero point z is the unsigned one with zero point z + 128.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir

from graphprune.ir.graft import Graft
from graphprune.ir.graphs import all_nodes
from graphprune.ops import has
from graphprune.ops.saturating import Factor, factors_of, rounds
from graphprune.ops.traits import Trait

SHIFT = 128


IN_FLOATS = 1


def unsaturated(model: ir.Model, keep: Collection[str] = (), native: Collection[str] = ()) -> ir.Model:
    """The same model with products that no CPU saturates; itself where it has no such products.

    Args:
        model: it is not changed.
        keep: names of inner values that must stay, as they are.
        native: names of factors that are not moved.
    """
    if not has_products(model):
        return model
    copy = model.clone()
    if copy.functions:
        from onnx_ir.passes.common import InlinePass

        InlinePass()(copy)
    moves = _Moves(copy)
    for node in list(_nodes(copy)):
        for factor in _factors(node):
            if _name(node, factor) not in native:
                moves.apply(node, factor)
        if rounds(node):
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", IN_FLOATS)
    moves.sweep(keep)
    return copy


def has_products(model: ir.Model) -> bool:
    """Whether some node multiplies bytes, or may be fused into one that does."""
    return any(factors_of(node) or rounds(node) for node in _nodes(model))


def moved(model: ir.Model) -> tuple[str, ...]:
    """Names of the factors that `unsaturated` moves: those that a CPU may saturate."""
    names = (_name(node, factor) for node in _nodes(model) for factor in _factors(node))
    return tuple(dict.fromkeys(names))


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from all_nodes(model.graph)
    for function in model.functions.values():
        yield from all_nodes(function)


def _input(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if 0 <= position < len(node.inputs) else None


def _name(node: ir.Node, factor: Factor) -> str:
    value = _input(node, factor.value)
    return "" if value is None else value.name or ""


def _factors(node: ir.Node) -> Iterator[Factor]:
    """Factors of a node that are signed where the other one is not."""
    for factor in factors_of(node):
        signed = _dtype(_input(node, factor.value)) or _dtype(_input(node, factor.zero))
        if signed == ir.DataType.INT8 and _dtype(_input(node, factor.other)) != ir.DataType.INT8:
            yield factor


def _dtype(value: ir.Value | None) -> ir.DataType | None:
    """The element type of a value, or of what it is made of where it is not declared."""
    while value is not None:
        known = value.dtype if value.const_value is None else value.const_value.dtype
        node = value.producer()
        if known is not None or node is None:
            return known
        if has(node, Trait.CAST, Trait.QUANTISE) or not node.inputs:
            return _declared(node)
        value = node.inputs[0]
    return None


def _declared(node: ir.Node) -> ir.DataType | None:
    """The type that a node's attribute or zero point gives to its result."""
    for name in ("to", "output_dtype"):
        if name in node.attributes and node.attributes[name].as_int():
            return ir.DataType(node.attributes[name].as_int())
    if "value" in node.attributes:
        return node.attributes["value"].as_tensor().dtype
    return _dtype(_input(node, 2))


class _Moves:
    """Moves values of one model, each once."""

    def __init__(self, model: ir.Model) -> None:
        self._graft = Graft(model, "graphprune.exact/")
        self._moved: dict[ir.Value, ir.Value] = {}
        self._back: tuple[ir.Node, ...] = ()

    def apply(self, node: ir.Node, factor: Factor) -> None:
        """Let a node read a factor and its zero point moved."""
        value, scale = _input(node, factor.value), _input(node, factor.scale)
        assert value is not None
        self._zero(node, factor.zero, scale)
        node.replace_input_with(factor.value, self._move(value))

    def _zero(self, node: ir.Node, position: int, scale: ir.Value | None) -> None:
        if len(node.inputs) <= position:
            node.resize_inputs(position + 1)
        zero = node.inputs[position]
        node.replace_input_with(position, self._missing(scale) if zero is None else self._move(zero))

    def _missing(self, scale: ir.Value | None) -> ir.Value:
        """What stands for a zero point of 0, in the shape of the scale that it belongs to."""
        if scale is None:
            return self._graft.constant(np.array(SHIFT, np.uint8))
        if scale.const_value is not None:
            return self._graft.constant(np.full(scale.const_value.shape.numpy(), SHIFT, np.uint8))
        after = self._graft.after
        nothing = after(scale, "Cast", after(scale, "Sub", scale, scale), to=ir.DataType.INT32)
        return self._shifted(nothing)

    def _move(self, value: ir.Value) -> ir.Value:
        if value not in self._moved:
            self._moved[value] = self._made(value)
        return self._moved[value]

    def _made(self, value: ir.Value) -> ir.Value:
        producer = value.producer()
        if producer is not None and has(producer, Trait.QUANTISE):
            return self._quantized(producer, value)
        if producer is None and value.const_value is not None and not value.is_graph_input():
            bits = np.asarray(value.const_value.numpy(), np.int8).view(np.uint8)
            return self._graft.weight(bits ^ np.uint8(SHIFT))
        return self._shifted(self._graft.after(value, "Cast", value, to=ir.DataType.INT32))

    def _shifted(self, wide: ir.Value) -> ir.Value:
        more = self._graft.after(wide, "Add", wide, self._graft.constant(np.array(SHIFT, np.int32)))
        return self._graft.after(more, "Cast", more, to=ir.DataType.UINT8)

    def _quantized(self, node: ir.Node, value: ir.Value) -> ir.Value:
        """The quantiser makes unsigned bytes, so that it still fuses; signed ones are computed from them."""
        self._zero(node, 2, node.inputs[1])
        node.attributes.pop("output_dtype", None)
        wide = self._graft.after(value, "Cast", value, to=ir.DataType.INT32)
        less = self._graft.after(wide, "Sub", wide, self._graft.constant(np.array(SHIFT, np.int32)))
        back = self._graft.after(less, "Cast", less, to=ir.DataType.INT8)
        value.replace_all_uses_with(back, replace_graph_outputs=True)
        one, two, three = (made.producer() for made in (wide, less, back))
        assert one is not None and two is not None and three is not None
        one.replace_input_with(0, value)
        value.name, back.name = back.name, value.name
        # A new type: a copy of a model shares the old one with it.
        back.shape, value.type = value.shape, ir.TensorType(ir.DataType.UINT8)
        self._moved[back] = value
        self._back += (one, two, three)
        return value

    def sweep(self, keep: Collection[str]) -> None:
        """Drop what nothing reads any more."""
        for node in reversed(self._back):
            out = node.outputs[0]
            if not out.uses() and not out.is_graph_output() and out.name not in keep:
                assert node.graph is not None
                node.graph.remove(node, safe=True)
        for value in self._moved:
            if value.is_initializer() and not value.uses() and not value.is_graph_output():
                assert value.graph is not None and value.name is not None
                del value.graph.initializers[value.name]
