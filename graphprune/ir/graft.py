"""Adds nodes and constants to a graph that is made to be run, not saved."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.graphs import graphs_of


class Graft:
    """Inserts nodes right behind the value they need, in the graph that the value lives in.

    Args:
        model: it is changed.
        prefix: of the names of what is added.
    """

    def __init__(self, model: ir.Model, prefix: str) -> None:
        self.model = model
        self._prefix, self._count = prefix, 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        graphs = graphs_of(model)
        self._taken = {value.name for graph in graphs for node in graph for value in node.outputs}
        self._taken.update(name for graph in graphs for name in graph.initializers)

    def fresh(self) -> str:
        """A name that the model does not have."""
        while True:
            self._count += 1
            name = f"{self._prefix}{self._count}"
            if name not in self._taken:
                return name

    def constant(self, array: Array) -> ir.Value:
        """An initializer of the main graph, one for equal arrays."""
        array = np.asarray(array, order="C")
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(array)
        return self._constants[key]

    def weight(self, array: Array) -> ir.Value:
        """A new initializer of the main graph; unlike a constant, it is not compared with others."""
        tensor = ir.Tensor(array, name=self.fresh())
        value = ir.Value(name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        self.model.graph.register_initializer(value)
        return value

    def after(self, last: ir.Value, op: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        """A new node behind the producer of `last`, or at the start of its graph where it has none."""
        attrs = [ir.AttrInt64(name, value) for name, value in attributes.items()]
        node = ir.Node("", op, inputs, attributes=attrs, num_outputs=1, name=self.fresh())
        out = node.outputs[0]
        out.name = node.name
        dtype = attributes.get("to", inputs[-1].dtype)
        if dtype is not None:
            out.dtype = ir.DataType(dtype)
        producer = last.producer()
        if producer is not None and isinstance(producer.graph, ir.Graph):
            producer.graph.insert_after(producer, node)
        else:
            graph = last.graph if isinstance(last.graph, ir.Graph) else self.model.graph
            first = next(iter(graph), None)
            if first is None:
                graph.append(node)
            else:
                graph.insert_before(first, node)
        return out

    def supersede(self, old: ir.Value, new: ir.Value, keep: set[ir.Node]) -> None:
        """Every reader of `old` but `keep` reads `new`; a graph output keeps its name."""
        for user, position in list(old.uses()):
            if user not in keep:
                user.replace_input_with(position, new)
        producer = old.producer()
        if producer is None or not isinstance(producer.graph, ir.Graph) or not old.is_graph_output():
            return
        old.name, new.name = new.name, old.name
        new.shape, new.type = old.shape, old.type
        for index, out in enumerate(producer.graph.outputs):
            if out is old:
                producer.graph.outputs[index] = new
