"""Small graphs with the patterns that rules look for, as exporters of any opset write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from graphprune.errors import ModelError
from graphprune.ir.normalise import normalise
from graphprune.ir.shapes import infer
from graphprune.lowering.engine import Use, apply
from graphprune.lowering.rules import BY_NAME, RULES
from graphprune.ops import record_of
from graphprune.runtime.session import open_session

TYPES = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE}


@dataclass
class Net:
    """A graph in the making; methods add a node and return its result.

    Attributes:
        opset: of the model.
        kind: of its numbers.
        shape: of the input x.
    """

    opset: int = 13
    kind: str = "float"
    shape: tuple[int | str, ...] = (2, 8, 6, 6)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    seed: int = 0

    def op(self, name: str, *inputs: str, out: str = "", **attributes: object) -> str:
        """A node."""
        result = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(name, inputs, [result], **attributes))
        return result

    def number(self, content: object) -> str:
        """A constant."""
        name = f"c{len(self.weights)}"
        kind = helper.tensor_dtype_to_np_dtype(TYPES[self.kind])
        self.weights[name] = np.asarray(content, np.float64).astype(kind)
        return name

    def ints(self, *content: int) -> str:
        """A constant of whole numbers."""
        name = f"c{len(self.weights)}"
        self.weights[name] = np.array(content, np.int64)
        return name

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        """A constant of random numbers."""
        self.seed += 1
        return self.number(np.random.default_rng(self.seed).uniform(low, high, shape))

    def conv(
        self, x: str, rows: int = 8, columns: int = 8, kernel: int = 3, pads: bool = True, bias: bool = True
    ) -> str:
        """A convolution that keeps the size if it pads."""
        weight = self.random(rows, columns, kernel, kernel)
        given = [x, weight, self.random(rows)] if bias else [x, weight]
        return self.op("Conv", *given, kernel_shape=[kernel, kernel], pads=[kernel // 2 if pads else 0] * 4)

    def clip(self, x: str, low: float, high: float) -> str:
        """A Clip in the form of the opset."""
        if self.opset < 11:
            return self.op("Clip", x, min=float(low), max=float(high))
        return self.op("Clip", x, self.number(low), self.number(high))

    def squeeze(self, x: str, axis: int, name: str = "Squeeze") -> str:
        """A Squeeze or Unsqueeze in the form of the opset."""
        if self.opset < 13:
            return self.op(name, x, axes=[axis])
        return self.op(name, x, self.ints(axis))

    def slice(self, x: str, place: int) -> str:
        """One slice along the first axis."""
        if self.opset < 10:
            return self.op("Slice", x, starts=[place], ends=[place + 1], axes=[0])
        return self.op("Slice", x, self.ints(place), self.ints(place + 1), self.ints(0))

    def mean(self, x: str, *axes: int) -> str:
        """A ReduceMean in the form of the opset."""
        if self.opset < 18:
            return self.op("ReduceMean", x, axes=list(axes))
        return self.op("ReduceMean", x, self.ints(*axes))

    def norm(self, x: str, channels: int = 8) -> str:
        """A BatchNormalization."""
        given = [self.random(channels) for _ in range(3)] + [self.random(channels, low=0.5, high=2)]
        return self.op("BatchNormalization", x, *given)

    def model(self, last: str) -> ir.Model:
        """The model, in normal form, with this result and those in `outputs`."""
        code = TYPES[self.kind]
        self.op("Identity", last, out="y")
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", code, self.shape)],
            [helper.make_tensor_value_info(name, code, None) for name in ("y", *self.outputs)],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        model = ir.from_proto(proto)
        normalise(model, record_of)
        return model


Body = Callable[[Net, str], str]


def lowered(
    model: ir.Model, rules: Sequence[str] = (), kept: Sequence[str] = ()
) -> tuple[ir.Model, tuple[Use, ...]]:
    """A lowered copy, by all rules or by some."""
    copy = model.clone()
    chosen = [BY_NAME[name] for name in rules] or RULES
    return copy, apply(copy, infer(copy, record_of), chosen, kept)


def runs(model: ir.Model) -> bool:
    """Whether this ONNX Runtime runs a model: its opset, its types, and PRelu by its formula."""
    try:
        open_session(model, optimise=False)
    except ModelError:
        return False
    return "PRelu" not in operators(model) or _prelu_is_its_formula()


@cache
def _prelu_is_its_formula() -> bool:
    """Of infinities the oldest ONNX Runtime makes NaN, so that nothing is equal there."""
    net = Net(13, "float", (4,))
    session = open_session(net.model(net.op("PRelu", "x", net.number([0.5]))), optimise=False)
    x = np.array([np.inf, -np.inf, np.nan, -2], np.float32)
    return np.array_equal(session.run({"x": x})["y"], np.where(x < 0, x / 2, x), equal_nan=True)


def operators(model: ir.Model) -> list[str]:
    """Of all nodes, in order."""
    return [node.op_type for node in model.graph]


def feeds(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random inputs."""
    random = np.random.default_rng(3)
    kinds = {value.name or "": value.dtype for value in model.graph.inputs}
    return {
        name: random.standard_normal(shape).astype((kinds[name] or ir.DataType.FLOAT).numpy())
        for name, shape in shapes.items()
    }
