"""Everything that may be wrong with a rewritten model in one place, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from graphprune.ir.graphs import all_nodes
from graphprune.proof.pairing import is_constant

Lie = tuple[str, ir.Model]
Kinds = ir.AttributeType
WRONG: dict[ir.AttributeType, Callable[[object], object]] = {
    Kinds.INT: lambda value: value + 1,  # type: ignore[operator]
    Kinds.FLOAT: lambda value: value * 1.5 + 0.5,  # type: ignore[operator]
    Kinds.STRING: lambda value: value + "x",  # type: ignore[operator]
    Kinds.INTS: lambda value: (*value[:-1], value[-1] + 1) if value else (1,),  # type: ignore[index, misc]
    Kinds.FLOATS: lambda value: (*value[:-1], value[-1] + 1),  # type: ignore[index, misc]
}


def lies(true: ir.Model) -> Iterator[Lie]:
    """Copies of a model, each wrong in one place, and where."""
    for number, node in enumerate(all_nodes(true.graph)):
        for what, tamper in (*attributes(node), *wires(node)):
            false = true.clone()
            tamper(list(all_nodes(false.graph))[number])
            yield f"{what} of {node.name or node.op_type}", false
    for name, value in true.graph.initializers.items():
        if value.const_value is None or not value.uses():
            continue
        for what, array in tensors(np.array(value.const_value.numpy())):
            false = true.clone()
            false.graph.initializers[name].const_value = ir.tensor(np.ascontiguousarray(array), name=name)
            yield f"{what} of {name}", false
    yield from ends(true)


Tamper = Callable[[ir.Node], None]


def attributes(node: ir.Node) -> Iterator[tuple[str, Tamper]]:
    """Attributes of other values, one too few, one too many, and another operator."""
    for name, attribute in node.attributes.items():
        if attribute.type in WRONG:
            other = ir.Attr(name, attribute.type, WRONG[attribute.type](attribute.value))
            yield f"attribute {name}", lambda node, other=other: node.attributes.add(other)  # type: ignore[misc]
            yield f"lost attribute {name}", lambda node, name=name: node.attributes.pop(name)  # type: ignore[misc]
    new = ir.AttrInt64("unheard_of", 1)
    yield "new attribute", lambda node: node.attributes.add(new)
    yield "operator", lambda node: setattr(node, "op_type", "Elu" if node.op_type != "Elu" else "Selu")
    yield "domain", lambda node: setattr(node, "domain", "com.microsoft")
    yield "name", lambda node: setattr(node, "name", f"{node.name}x")


def wires(node: ir.Node) -> Iterator[tuple[str, Tamper]]:
    """Inputs that are lost, swapped, or come from elsewhere."""
    for position, value in enumerate(node.inputs):
        if value is None:
            continue
        yield f"lost input {position}", lambda node, p=position: node.replace_input_with(p, None)  # type: ignore[misc]
        if not is_constant(value):
            yield f"other source of input {position}", lambda node, p=position: elsewhere(node, p)  # type: ignore[misc]
    if len({id(value) for value in node.inputs}) > 1:
        yield "swapped inputs", swapped


def swapped(node: ir.Node) -> None:
    """The first two different inputs change places."""
    other = next(p for p, value in enumerate(node.inputs) if value is not node.inputs[0])
    first, second = node.inputs[0], node.inputs[other]
    node.replace_input_with(0, second)
    node.replace_input_with(other, first)


def elsewhere(node: ir.Node, position: int) -> None:
    """The input goes through a node that nothing declares."""
    value, graph = node.inputs[position], node.graph
    assert value is not None and graph is not None
    extra = ir.node("Neg", [value], name="stray")
    graph.insert_before(node, extra)
    node.replace_input_with(position, extra.outputs[0])


def tensors(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """One element by one bit, two rows in the other order, a row too many, another type."""
    other = array.copy()
    flat = other.reshape(-1)
    if flat.size:
        flat[-1:].view(f"u{array.dtype.itemsize}")[0] ^= 1
        yield "last bit", other
    if array.ndim and len(array) > 1 and not np.array_equal(array[0], array[1]):
        yield "order", array[[1, 0, *range(2, len(array))]]
    if array.ndim:
        yield "length", np.concatenate([array, array[-1:]])
    yield "type", array.astype(np.float64 if array.dtype != np.float64 else np.float32)


def ends(true: ir.Model) -> Iterator[Lie]:
    """Inputs and outputs of the graph."""
    false = true.clone()
    false.graph.inputs[0].name = "another"
    yield "name of an input", false
    false = true.clone()
    false.graph.outputs[0].name = "another"
    yield "name of an output", false
    false = true.clone()
    first = next(node for node in false.graph if node.outputs[0] is not false.graph.outputs[0])
    name, false.graph.outputs[0].name = false.graph.outputs[0].name, "unread"
    first.outputs[0].name = name
    false.graph.outputs[0] = first.outputs[0]
    yield "source of an output", false
    false = true.clone()
    false.graph.outputs.append(next(iter(false.graph)).outputs[0])
    yield "one output more", false
    false = true.clone()
    more = ir.Value(name="more", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    false.graph.inputs.append(more)
    yield "one input more", false
