"""A detector of 17 convolutions and 2 M parameters, whose cost lies on large maps.

They have many more rows than columns, and are what a calibration pass spends its time on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from graphprune.runtime.data import batches
from graphprune.runtime.session import open_session

Array = np.ndarray
HEIGHT, WIDTH = 240, 320

LAYERS = (
    ("c1", "x", 3, 16, 3, 2), ("c2", "c1", 16, 32, 3, 2), ("c3", "c2", 32, 48, 3, 1),
    ("c4", "c3", 48, 64, 3, 2), ("c5", "c4", 64, 64, 3, 1), ("c6", "c5", 64, 64, 3, 1),
    ("c7", "c6", 64, 64, 3, 1), ("c8", "c7", 64, 128, 3, 2), ("c9", "c8", 128, 128, 3, 1),
    ("c10", "c9", 128, 208, 3, 2), ("c11", "c10", 208, 208, 3, 1), ("c12", "c11", 208, 256, 3, 1),
    ("c13", "c12", 256, 128, 1, 1), ("c14", "c13", 128, 288, 3, 1), ("far", "c14", 288, 75, 1, 1),
    ("c16", "joined", 256, 64, 3, 1), ("near", "c16", 64, 75, 1, 1),
)  # fmt: skip
"""Name, input, input and output channels, kernel, stride."""


def detector(seed: int = 0) -> onnx.ModelProto:
    """The model: a backbone, and heads at strides 32 and 16."""
    chance = np.random.default_rng(seed)
    nodes, weights = [], []
    for name, source, inner, outer, kernel, stride in LAYERS:
        if source == "joined":
            weights.append(numpy_helper.from_array(np.array([15, 20], np.int64), "size"))
            nodes += [
                helper.make_node("Shape", ["c13"], ["shape"], start=0, end=2),
                helper.make_node("Concat", ["shape", "size"], ["sizes"], axis=0),
                helper.make_node("Resize", ["c13", "", "", "sizes"], ["wide"], mode="nearest"),
                helper.make_node("Concat", ["wide", "c9"], ["joined"], axis=1),
            ]
        shape = (outer, inner, kernel, kernel)
        scale = np.sqrt(2 / (inner * kernel * kernel))
        weights.append(
            numpy_helper.from_array((chance.standard_normal(shape) * scale).astype("f"), f"{name}.w")
        )
        weights.append(
            numpy_helper.from_array((chance.standard_normal(outer) * 0.1).astype("f"), f"{name}.b")
        )
        ends = name in ("far", "near")
        result = name if ends else f"{name}.sum"
        around = {"pads": [kernel // 2] * 4, "strides": [stride] * 2}
        nodes.append(
            helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [result], name=name, **around)
        )
        if not ends:
            nodes.append(helper.make_node("LeakyRelu", [result], [name], alpha=0.1))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, HEIGHT, WIDTH])
    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("far", "near")]
    graph = helper.make_graph(nodes, "detector", [image], maps, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(count: int, seed: int = 1) -> Array:
    """Images of blocks of colour with noise, [count, 3, height, width]."""
    chance = np.random.default_rng(seed)
    coarse = chance.standard_normal((count, 3, HEIGHT // 20, WIDTH // 20)).astype(np.float32)
    whole = coarse.repeat(20, axis=2).repeat(20, axis=3)
    whole += 0.3 * chance.standard_normal(whole.shape, np.float32)
    return whole


def node_by_node(proto: onnx.ModelProto, arrays: dict[str, Array]) -> None:
    """Runs every node in a session of its own, batch by batch."""
    pieces = list(_pieces(proto))
    for feed in batches(arrays, ir.from_proto(proto)):
        values = dict(feed)
        for inputs, run in pieces:
            values.update(run({name: values[name] for name in inputs}))


def _pieces(
    proto: onnx.ModelProto,
) -> Iterator[tuple[list[str], Callable[[dict[str, Array]], dict[str, Array]]]]:
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    integers = {"shape", "sizes"}
    for node in proto.graph.node:
        read = [name for name in node.input if name and name not in weights]

        def info(name: str) -> onnx.ValueInfoProto:
            kind = TensorProto.INT64 if name in integers else TensorProto.FLOAT
            return helper.make_tensor_value_info(name, kind, None)

        held = [weights[name] for name in node.input if name in weights]
        graph = helper.make_graph(
            [node], "one", [info(n) for n in read], [info(n) for n in node.output], held
        )
        model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        yield read, open_session(ir.from_proto(model)).run
