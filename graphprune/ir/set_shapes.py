"""Open sizes of inputs become fixed ones, and what follows from them is declared, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from graphprune.ir.graphs import all_nodes
from graphprune.ir.shapes import Sizes


def set_shapes(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Declares shapes of inputs, in place; a symbol that they bind has its size wherever it stands.

    What the file says of other values may not hold any more: open sizes in it are forgotten.

    Args:
        model: to change.
        shapes: by name of the input; they fit what the model declares.
    """
    bound: dict[str, int] = {}
    for value in model.graph.inputs:
        shape = shapes.get(value.name or "")
        if shape is None:
            continue
        for dim, size in zip(value.shape or (), shape, strict=False):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                bound[dim.value] = size
        value.shape = ir.Shape(shape)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([_size(dim, bound) for dim in value.shape])
    for node in all_nodes(model.graph):
        for out in node.outputs:
            if not out.is_graph_output():
                out.shape = None


def declare_sizes(model: ir.Model, sizes: Sizes) -> None:
    """Writes down what is known of every value of the main graph, in place.

    Args:
        model: to change.
        sizes: of its values, after `set_shapes`.
    """
    for node in model.graph:
        for out in node.outputs:
            shape = sizes.shapes.get(out)
            if shape is not None and all(a == b for a, b in shape):
                out.shape = ir.Shape([a for a, _ in shape])


def _size(dim: int | ir.SymbolicDim, bound: Mapping[str, int]) -> int | ir.SymbolicDim:
    return dim if isinstance(dim, int) or dim.value is None else bound.get(dim.value, dim)
