"""Replace tensors of a Model wherever they sit: in initializers and attributes, at every depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import onnx_ir as ir

Tensor = ir.TensorProtocol
Swap = Callable[[Tensor], Tensor]


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
    _swap(model, new, [])


@contextmanager
def swapped(model: ir.Model, new: Swap) -> Iterator[None]:
    """The same for the length of a `with` block; afterwards the model holds its own tensors again."""
    undo: list[Callable[[], None]] = []
    try:
        _swap(model, new, undo)
        yield
    finally:
        for step in reversed(undo):
            step()


def _swap(model: ir.Model, new: Swap, undo: list[Callable[[], None]]) -> None:
    """One walk over the main graph, functions and all subgraphs; `undo` gets what takes it back."""
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    while graphs:
        graph = graphs.pop()
        for value in graph.initializers.values():
            old = value.const_value
            if old is not None and (other := new(old)) is not old:
                value.const_value = other
                undo.append(partial(setattr, value, "const_value", old))
        for node in graph:
            for name, attribute in node.attributes.items():
                if attribute.type in _HOLDERS and not attribute.is_ref() and attribute.value is not None:
                    graphs += _swap_attribute(node, name, attribute, new, undo)


_KINDS = ir.AttributeType
_HOLDERS = frozenset((_KINDS.TENSOR, _KINDS.TENSORS, _KINDS.GRAPH, _KINDS.GRAPHS))


def _swap_attribute(
    node: ir.Node, name: str, attribute: ir.Attr, new: Swap, undo: list[Callable[[], None]]
) -> Sequence[ir.Graph]:
    """Swaps the tensors of one attribute, or returns the graphs that it holds."""
    if attribute.type == _KINDS.GRAPH:
        return [cast(ir.Graph, attribute.value)]
    if attribute.type == _KINDS.GRAPHS:
        return cast(Sequence[ir.Graph], attribute.value)
    one = attribute.type == _KINDS.TENSOR
    # as_tensor() checks a protocol, which is slow
    old = [cast(Tensor, attribute.value)] if one else cast(Sequence[Tensor], attribute.value)
    others = [new(tensor) for tensor in old]
    if any(a is not b for a, b in zip(old, others, strict=True)):
        doc = attribute.doc_string
        make = ir.AttrTensor(name, others[0], doc) if one else ir.AttrTensors(name, others, doc)
        node.attributes[name] = make
        undo.append(partial(node.attributes.__setitem__, name, attribute))
    return []
