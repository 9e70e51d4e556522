"""Models with layers that are dear to repair, made here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray


class Chain:
    """Layers one behind the other, with random weights.

    Args:
        shape: of one sample.
        seed: of the weights.
    """

    def __init__(self, shape: Sequence[int], seed: int = 0) -> None:
        self._shape, self._chance = tuple(shape), np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def conv(self, inner: int, outer: int, kernel: Sequence[int], stride: int, pads: Sequence[int]) -> Chain:
        """A convolution and a Relu."""
        given = self._drawn((outer, inner, *kernel))
        return self.node("Conv", *given, strides=[stride] * len(kernel), pads=list(pads)).node("Relu")

    def gemm(self, inner: int, outer: int) -> Chain:
        """A product."""
        return self.node("Gemm", *self._drawn((outer, inner)), transB=1)

    def node(self, operator: str, *given: str, **attributes: object) -> Chain:
        """Any node."""
        self._nodes.append(
            helper.make_node(operator, [self._last, *given], [f"v{len(self._nodes)}"], **attributes)
        )
        return self

    def model(self) -> onnx.ModelProto:
        """The whole."""
        read = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *self._shape])
        made = helper.make_tensor_value_info(self._last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self._nodes, "chain", [read], [made], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    @property
    def _last(self) -> str:
        return f"v{len(self._nodes) - 1}" if self._nodes else "x"

    def _drawn(self, shape: Sequence[int]) -> list[str]:
        scale, number = np.float32(np.sqrt(2 / np.prod(shape[1:]))), len(self._weights) // 2
        arrays = {
            f"w{number}": self._chance.standard_normal(shape, np.float32) * scale,
            f"b{number}": self._chance.standard_normal(shape[0], np.float32) * np.float32(0.1),
        }
        self._weights += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        return list(arrays)


def pitch() -> onnx.ModelProto:
    """The layers of crepe-tiny: 128 channels of 64 taps, with half as many rows of 32 samples as columns."""
    chain = Chain((1, 1024)).conv(1, 128, (512,), 4, (254, 254))
    widths = (128, 16, 16, 16, 32, 64)
    for inner, outer in pairwise(widths):
        chain.node("MaxPool", kernel_shape=[2], strides=[2]).conv(inner, outer, (64,), 1, (31, 32))
    return chain.node("MaxPool", kernel_shape=[2], strides=[2]).node("Flatten").gemm(256, 360).model()


def classifier() -> onnx.ModelProto:
    """The classifier of a VGG: 25 088 columns and 4 096 rows."""
    chain, inner = Chain((3, 224, 224)), 3
    for outer in (32, 64, 128, 256, 512):
        chain.conv(inner, outer, (3, 3), 1, [1] * 4).node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        inner = outer
    chain.node("Flatten").gemm(25088, 4096).node("Relu").gemm(4096, 4096).node("Relu")
    return chain.gemm(4096, 1000).model()


def kernels() -> onnx.ModelProto:
    """Convolutions of 4 x 4, up to 4 096 columns, whose maps are small: 10.7 MB."""
    chain, widths = Chain((1, 32, 32)), (1, 128, 256, 512)
    for inner, outer in pairwise(widths):
        chain.conv(inner, outer, (4, 4), 2, [1] * 4)
    return chain.conv(512, 7, (4, 4), 1, [0] * 4).model()


def flat() -> onnx.ModelProto:
    """A product behind a Flatten of 10 816 columns, in a model of 117 K parameters."""
    chain = Chain((3, 32, 32)).conv(3, 40, (5, 5), 1, [0] * 4).conv(40, 16, (3, 3), 1, [0] * 4)
    return chain.node("Flatten").gemm(16 * 26 * 26, 10).model()


def noise(model: onnx.ModelProto, count: int) -> dict[str, Array]:
    """So many samples."""
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return {"x": np.random.default_rng(1).standard_normal((count, *shape), np.float32)}
