"""Replace tensors of a Model wherever they sit: in initializers and attributes, at every depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import onnx_ir as ir

Tensor = ir.TensorProtocol
Swap = Callable[[Tensor], Tensor]


def graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """Every graph that holds nodes: the main graph, the body of each function, and all subgraphs."""
    yield from model.graphs()
    for function in model.functions.values():
        yield function.graph
        yield from function.graph.subgraphs()


def tensors(model: ir.Model) -> Iterator[Tensor]:
    """Every tensor of the model."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    swap(model, note)
    return iter(found)


def swap(model: ir.Model, new: Swap) -> None:
    """Put `new(tensor)` in the place of every tensor for which it returns another object."""
    for graph in graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = new(value.const_value)
        for node in graph:
            _swap_attributes(node, new)


@contextmanager
def swapped(model: ir.Model, new: Swap) -> Iterator[None]:
    """The same for the length of a `with` block; afterwards the model holds its own tensors again."""
    pairs: dict[int, tuple[Tensor, Tensor]] = {}  # holds the stand-ins, so that no id is used twice

    def replace(tensor: Tensor) -> Tensor:
        stand_in = new(tensor)
        if stand_in is not tensor:
            pairs[id(stand_in)] = (stand_in, tensor)
        return stand_in

    def restore(tensor: Tensor) -> Tensor:
        return pairs[id(tensor)][1] if id(tensor) in pairs else tensor

    try:
        swap(model, replace)
        yield
    finally:
        swap(model, restore)


def _swap_attributes(node: ir.Node, new: Swap) -> None:
    for name, attribute in node.attributes.items():
        if attribute.is_ref() or attribute.value is None:
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = cast(Tensor, attribute.value)  # as_tensor() checks a protocol, which is slow
            if (other := new(tensor)) is not tensor:
                node.attributes[name] = ir.AttrTensor(name, other, doc_string=attribute.doc_string)
        elif attribute.type == ir.AttributeType.TENSORS:
            old = cast(Sequence[Tensor], attribute.value)
            others = [new(tensor) for tensor in old]
            if any(a is not b for a, b in zip(old, others, strict=True)):
                node.attributes[name] = ir.AttrTensors(name, others, doc_string=attribute.doc_string)
