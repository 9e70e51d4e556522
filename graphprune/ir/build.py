"""How nodes and initializers get into a graph; the proof has its own way (`graft.py`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array


class Names:
    """Names that a model does not have.

    Args:
        prefix: of all of them.
        taken: what is called so already.
    """

    def __init__(self, prefix: str, taken: Iterable[str | None] = ()) -> None:
        self._prefix, self._count = prefix, 0
        self._taken = {name for name in taken if name is not None and name.startswith(prefix)}

    def fresh(self, hint: str = "") -> str:
        """The next one."""
        while True:
            self._count += 1
            name = f"{self._prefix}{hint}{self._count}"
            if name not in self._taken:
                return name


def initializer(graph: ir.Graph, name: str | None, content: Array | ir.TensorProtocol) -> ir.Value:
    """A new initializer."""
    tensor = content
    if isinstance(tensor, np.ndarray | np.generic):
        tensor = ir.Tensor(np.asarray(tensor, order="C"), name=name)
    value = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    graph.register_initializer(value)
    return value


def new_node(
    op: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    attributes: Mapping[str, int | Sequence[int]] | None = None,
) -> ir.Node:
    """A node of the standard operators that stands nowhere yet, and its one result of the same name."""
    node = ir.node(op, inputs, attributes, num_outputs=1, name=name)
    node.outputs[0].name = name
    return node


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that a node stands in."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    return graph


def supersede(old: ir.Value, new: ir.Value, keep: Collection[ir.Node]) -> None:
    """Every reader of a node's result but `keep` reads `new`; a graph output keeps its name."""
    for user, position in list(old.uses()):
        if user not in keep:
            user.replace_input_with(position, new)
    producer = old.producer()
    if producer is None or not old.is_graph_output():
        return
    outputs = graph_of(producer).outputs
    new.shape, new.type = old.shape, old.type
    for index, out in enumerate(outputs):
        if out is old:
            outputs[index] = new
    name, old.name = old.name, new.name
    new.name = name


def become(node: ir.Node, content: Array | ir.TensorProtocol) -> None:
    """A node's only result as an initializer of its name."""
    graph, out = graph_of(node), node.outputs[0]
    out.replace_all_uses_with(initializer(graph, out.name, content))
    graph.remove(node, safe=True)


def drop_unread(graph: ir.Graph, keep: Collection[ir.Value] = ()) -> None:
    """Removes initializers that nothing reads."""
    for name, value in list(graph.initializers.items()):
        stays = value.uses() or value.is_graph_output() or value.is_graph_input()
        if not stays and value not in keep:
            del graph.initializers[name]
