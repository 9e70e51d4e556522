"""Sizes of inputs that are known although the file leaves them open: from weights, and from the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.ir.operators import Operators
from graphprune.ir.shape_data import Data
from graphprune.ir.shapes import Sizes, infer


def close_inputs(model: ir.Model, sizes: Sizes) -> bool:
    """Declares the sizes that weights fix, in place; whether there were any."""
    closed = False
    for value in (*model.graph.inputs, *model.graph.outputs):
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, int):
                continue
            size = sizes.fixed.get(dim.value if dim.value is not None else (value, axis))
            if size is not None and value.shape is not None:
                value.shape = ir.Shape([*value.shape[:axis], size, *value.shape[axis + 1 :]])
                closed = True
    return closed


def complete(
    sizes: Sizes, model: ir.Model, operators: Operators, shapes: Mapping[str, Sequence[int]]
) -> Sizes:
    """Fills what is not known at generic points with sizes at the given input shapes.

    They are of one size of the inputs only, so what depends on them is never written down as a constant.
    """
    unknown = [value for value, shape in sizes.shapes.items() if shape is None]
    if not shapes or not unknown:
        return sizes
    found = infer(model, operators, shapes)
    sizes.shapes.update({value: found.shapes.get(value) for value in unknown})
    for value, data in found.data.items():
        if value not in sizes.data:
            sizes.data[value] = Data(data.a, data.b, np.ones(data.a.shape, bool))
    return sizes
