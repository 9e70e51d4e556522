"""A model whose float inputs are moved by one pixel or sample: what it then loses against itself is noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir


def shifted(model: Path, output: Path) -> bool:
    """Writes the model with its float inputs rolled by one along the last axis; False where it has none."""
    found = ir.load(model)
    graph, moved = found.graph, False
    for value in list(graph.inputs):
        if value.dtype != ir.DataType.FLOAT or value.shape is None or len(value.shape) < 2:
            continue
        moved = True
        uses = [use for use in value.uses() if use.node.graph is graph]
        parts = [_slice(graph, value, 1, np.iinfo(np.int64).max, "rest"), _slice(graph, value, 0, 1, "first")]
        joined = ir.node("Concat", parts, {"axis": len(value.shape) - 1})
        joined.outputs[0].name = f"{value.name}__shifted"
        graph.insert_before(graph[0], [parts[0].producer(), parts[1].producer(), joined])  # type: ignore[list-item]
        for node, position in uses:
            node.replace_input_with(position, joined.outputs[0])
    ir.save(found, output)
    return moved


def _slice(graph: ir.Graph, value: ir.Value, start: int, end: int, name: str) -> ir.Value:
    numbers = {"start": start, "end": end, "axis": -1}
    inputs = [value]
    for key, number in numbers.items():
        constant = ir.val(f"{value.name}__{name}_{key}", const_value=ir.tensor(np.array([number], np.int64)))
        graph.initializers[constant.name or ""] = constant
        inputs.append(constant)
    node = ir.node("Slice", inputs)
    node.outputs[0].name = f"{value.name}__{name}"
    return node.outputs[0]
