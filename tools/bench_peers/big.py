"""Writes a model of about 1 GB with external data: residual MLP blocks, as in a transformer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDTH = 2048
HIDDEN = 8192
LAYERS = 8
SEED = 0
_ITEM = 4
_BLOCK_ROWS = 512


def _external(name: str, shape: tuple[int, int], location: str, offset: int) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL
    )
    length = shape[0] * shape[1] * _ITEM
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _block(index: int, source: str) -> tuple[list[onnx.NodeProto], str]:
    name, result = f"block{index}", f"block{index}_out"
    nodes = [
        helper.make_node("MatMul", [source, f"{name}.up"], [f"{name}_up"], f"{name}/up"),
        helper.make_node("Relu", [f"{name}_up"], [f"{name}_relu"], f"{name}/relu"),
        helper.make_node("MatMul", [f"{name}_relu", f"{name}.down"], [f"{name}_down"], f"{name}/down"),
        helper.make_node("Add", [source, f"{name}_down"], [result], f"{name}/add"),
    ]
    return nodes, result


def write(path: Path, width: int = WIDTH, hidden: int = HIDDEN, layers: int = LAYERS) -> None:
    """Writes `path` and `path` + `.data`, a block of rows at a time; 8 layers of 2048 x 8192 are 1.07 GB."""
    random = np.random.default_rng(SEED)
    location = path.name + ".data"
    nodes: list[onnx.NodeProto] = []
    tensors: list[TensorProto] = []
    current, offset = "x", 0
    with path.with_name(location).open("wb") as data:
        for index in range(layers):
            made, current = _block(index, current)
            nodes += made
            for suffix, shape in (("up", (width, hidden)), ("down", (hidden, width))):
                tensors.append(_external(f"block{index}.{suffix}", shape, location, offset))
                offset += shape[0] * shape[1] * _ITEM
                for _ in range(0, shape[0], _BLOCK_ROWS):
                    rows = random.standard_normal((min(_BLOCK_ROWS, shape[0]), shape[1]), np.float32)
                    data.write((rows / np.float32(np.sqrt(shape[0]))).tobytes())
    rows_by_width = ["batch", width]
    graph = helper.make_graph(
        nodes,
        "residual_mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, rows_by_width)],
        [helper.make_tensor_value_info(current, TensorProto.FLOAT, rows_by_width)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path.write_bytes(model.SerializeToString())
