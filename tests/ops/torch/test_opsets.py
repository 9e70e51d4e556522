"""Forms of operators that changed between opsets, and odd attributes, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import pytest

from tests.ops.exotic_graphs import floats, signed, unsigned
from tests.ops.torch.running import agrees

pytestmark = pytest.mark.zoo

X, IMAGE, VOLUME = floats(2, 5, 7), floats(2, 6, 9, 8), floats(1, 2, 5, 6, 7)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@dataclass(frozen=True)
class Form:
    """One node at one opset; the first input is data, the others are stored."""

    op: str
    opset: int
    inputs: tuple[np.ndarray | None, ...]
    attributes: dict[str, object] = field(default_factory=dict)
    outputs: int = 1

    def __str__(self) -> str:
        return f"{self.op}-{self.opset} {self.attributes}"

    def model(self) -> ir.Model:
        values = [
            None
            if array is None
            else ir.Value(
                name=f"i{at}",
                shape=ir.Shape(array.shape),
                type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
                const_value=ir.Tensor(array, name=f"i{at}") if at else None,
            )
            for at, array in enumerate(self.inputs)
        ]
        domain, _, name = self.op.rpartition(":")
        node = ir.node(name, values, self.attributes, domain=domain, num_outputs=self.outputs, name="n")
        for at, value in enumerate(node.outputs):
            value.name = f"o{at}"
        stored = [value for value in values[1:] if value is not None]
        imports = {"": self.opset, "com.microsoft": 1, "ai.onnx.ml": 3}
        head = [value for value in values[:1] if value is not None]
        graph = ir.Graph(
            head, node.outputs, nodes=[node], initializers=stored, opset_imports=imports, name="g"
        )
        return ir.Model(graph, ir_version=8)

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {"i0": self.inputs[0]} if self.inputs[0] is not None else {}


W, B = floats(4, 6, 3, 2), floats(4)
REDUCED = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
FORMS = [
    *(Form(f"Reduce{name}", 11, (np.abs(X) + 1,), {"axes": [-1, 0]}) for name in REDUCED),
    *(Form(f"Reduce{name}", 18, (np.abs(X) + 1, ints(1)), {"keepdims": 0}) for name in REDUCED),
    *(Form(f"Reduce{name}", 18, (np.abs(X) + 1,), {"noop_with_empty_axes": 1}) for name in ("Sum", "Max")),
    *(Form(op, opset, (X,)) for op in ("Softmax", "LogSoftmax", "Hardmax") for opset in (7, 11, 12, 13)),
    *(Form("Softmax", opset, (X,), {"axis": 0}) for opset in (9, 13)),
    Form("Squeeze", 7, (floats(1, 3, 1),), {"axes": [0]}),
    Form("Squeeze", 13, (floats(1, 3, 1), ints(-1))),
    Form("Squeeze", 13, (floats(1, 3, 1),)),
    Form("Unsqueeze", 11, (X,), {"axes": [0, 2]}),
    Form("Unsqueeze", 13, (X, ints(-1, 0))),
    Form("Slice", 9, (X,), {"starts": [1, -3], "ends": [9, -1], "axes": [1, 2]}),
    Form("Slice", 10, (X, ints(-1, 0), ints(-(2**62), 9), ints(1, -1), ints(-2, 3))),
    Form("Slice", 13, (X, ints(4), ints(2), ints(1))),
    Form("Split", 11, (X,), {"axis": 1, "split": [2, 3]}, 2),
    Form("Split", 13, (X, ints(1, 4)), {"axis": -2}, 2),
    Form("Split", 18, (X,), {"axis": 2, "num_outputs": 3}, 3),
    Form("Pad", 7, (X,), {"pads": [0, 1, -2, 0, 2, 1], "value": 3.0}),
    *(Form("Pad", 11, (X, ints(1, 2, 0, 0, 2, 3)), {"mode": mode}) for mode in ("constant", "edge")),
    Form("Pad", 13, (X, ints(0, 2, 3, 1, 2, 3), np.float32(2)), {"mode": "reflect"}),
    Form("Pad", 18, (X, ints(2, 1), None, ints(1))),
    Form("Pad", 19, (X, ints(0, 3, 1, 0, 4, 2)), {"mode": "wrap"}),
    Form("Clip", 7, (X,), {"min": -0.5, "max": 0.5}),
    Form("Clip", 7, (X,), {"max": 0.5}),
    Form("Clip", 11, (X, np.float32(0.2))),
    Form("Clip", 13, (X, None, np.float32(0.2))),
    Form("Clip", 13, (signed(4, 5).astype(np.int64), np.int64(-20), np.int64(30))),
    Form("TopK", 10, (X, ints(3)), {"axis": 1}, 2),
    Form("TopK", 11, (np.round(X), ints(4)), {"axis": -1, "largest": 0}, 2),
    Form("Dropout", 7, (X,)),
    Form("Dropout", 12, (X, np.float32(0.5)), {}, 2),
    Form("BatchNormalization", 7, (IMAGE, *(np.abs(floats(6, seed=at)) for at in range(4)))),
    Form("BatchNormalization", 15, (IMAGE, *(np.abs(floats(6, seed=at)) for at in range(4)))),
    Form(
        "BatchNormalization",
        15,
        (IMAGE, *(np.abs(floats(6, seed=at)) for at in range(4))),
        {"training_mode": 1},
        3,
    ),
    Form("InstanceNormalization", 7, (IMAGE, floats(6), floats(6, seed=1))),
    Form("InstanceNormalization", 7, (floats(2, 6, 1), floats(6), floats(6, seed=1))),
    Form("GroupNormalization", 18, (IMAGE, floats(3), floats(3, seed=1)), {"num_groups": 3}),
    Form("GroupNormalization", 21, (IMAGE, floats(6), floats(6, seed=1)), {"num_groups": 3}),
    Form("LayerNormalization", 17, (X, floats(5, 7), floats(5, 7, seed=1)), {"axis": 1}, 3),
    Form("Upsample", 7, (IMAGE,), {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "nearest"}),
    Form("Upsample", 9, (IMAGE, np.float32([1, 1, 2.5, 1.5])), {"mode": "nearest"}),
    Form("Upsample", 9, (IMAGE, np.float32([1, 1, 2, 3])), {"mode": "linear"}),
    Form("Resize", 10, (IMAGE, np.float32([1, 1, 0.5, 1.7])), {"mode": "nearest"}),
    Form("Resize", 10, (IMAGE, np.float32([1, 1, 2, 0.5])), {"mode": "linear"}),
    *(
        Form(
            "Resize",
            13,
            (IMAGE, None, np.float32([1, 1, 1.7, 0.6])),
            {"mode": mode, "coordinate_transformation_mode": place},
        )
        for mode in ("nearest", "linear", "cubic")
        for place in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    ),
    *(
        Form("Resize", 13, (IMAGE, None, None, ints(2, 6, 14, 5)), {"mode": "nearest", "nearest_mode": how})
        for how in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    Form("Resize", 19, (IMAGE, None, None, ints(5, 13)), {"mode": "linear", "antialias": 1, "axes": [2, 3]}),
    Form(
        "Resize",
        19,
        (IMAGE, None, None, ints(5, 13)),
        {"mode": "cubic", "exclude_outside": 1, "axes": [2, 3]},
    ),
    *(
        Form("Conv", 11, (IMAGE, W, B), {"auto_pad": how, "strides": [2, 3]})
        for how in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    Form("Conv", 11, (IMAGE, W), {"pads": [1, 0, 2, 3], "dilations": [2, 3]}),
    Form("Conv", 11, (IMAGE, floats(4, 3, 3, 2)), {"group": 2, "pads": [1, 1, 1, 1]}),
    Form("Conv", 11, (X, floats(4, 5, 3)), {"pads": [2, 0]}),
    Form("Conv", 11, (VOLUME, floats(3, 2, 2, 3, 2))),
    *(
        Form("ConvTranspose", 11, (IMAGE, floats(6, 4, 3, 2), B), attributes)
        for attributes in (
            {"strides": [2, 3], "pads": [1, 0, 1, 0]},
            {"strides": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2]},
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            {"strides": [3, 2], "auto_pad": "SAME_LOWER"},
            {"strides": [2, 2], "output_shape": [20, 17]},
            {"dilations": [2, 3]},
        )
    ),
    Form("ConvTranspose", 11, (IMAGE, floats(6, 2, 3, 2)), {"group": 2, "strides": [2, 2]}),
    *(
        Form(op, 19, (IMAGE,), {"kernel_shape": [3, 2], **attributes})
        for op in ("AveragePool", "MaxPool")
        for attributes in (
            {},
            {"strides": [2, 3], "ceil_mode": 1},
            {"strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1},
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            {"strides": [3, 2], "auto_pad": "SAME_LOWER"},
            {"dilations": [2, 3]},
        )
    ),
    Form("AveragePool", 11, (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Form("AveragePool", 19, (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 0], "count_include_pad": 1}),
    Form("AveragePool", 11, (X,), {"kernel_shape": [3], "pads": [1, 0], "strides": [2]}),
    Form("MaxPool", 8, (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, 2),
    Form("MaxPool", 12, (unsigned(1, 2, 6, 6),), {"kernel_shape": [2, 2]}),
    Form("LpPool", 18, (IMAGE,), {"kernel_shape": [3, 2], "p": 3, "pads": [1, 0, 1, 1]}),
    *(
        Form(op, 12, (floats(1, 2, 1, 4),), {"kernel_shape": [2, 2], "strides": [2, 2]})
        for op in ("AveragePool", "MaxPool")
    ),
    Form("LRN", 13, (IMAGE,), {"size": 5, "alpha": 0.3}),
    Form("LRN", 13, (IMAGE,), {"size": 3}),
    Form("Gemm", 7, (floats(3, 4), floats(5, 4), floats(5)), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Form("Gemm", 11, (floats(4, 3), floats(4, 5), floats(3, 1)), {"transA": 1}),
    Form("Gemm", 11, (floats(4, 3), floats(3, 5)), {}),
    Form("Mod", 13, (signed(20).astype(np.int64), ints(7))),
    Form("Mod", 13, (signed(20).astype(np.int64), ints(-7)), {"fmod": 1}),
    Form("Mod", 13, (signed(20).astype(np.int64), ints(-7))),
    Form("Mod", 13, (floats(20), np.float32([0.3])), {"fmod": 1}),
    Form("Div", 13, (signed(20).astype(np.int64), ints(-7))),
    Form("Pow", 13, (X, ints(3))),
    Form("Pow", 13, (np.abs(X), np.float32(-0.5))),
    Form("Pow", 13, (signed(9).astype(np.int32), np.float32([2]))),
    Form("Round", 11, (np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 2.4]),)),
    Form("PRelu", 7, (IMAGE, floats(6, 1, 1))),
    Form("PRelu", 16, (X, floats(7))),
    Form("Gather", 11, (X, ints(-1, 0, 3)), {"axis": 1}),
    Form("Gather", 13, (X, np.int64(-2)), {"axis": -1}),
    Form("GatherND", 12, (X, ints(1, 4).reshape(2, 1)), {"batch_dims": 1}),
    *(
        Form("ScatterND", 18, (X, ints(0, 1, 1, 3, 0, 1).reshape(3, 2), floats(3, 7)), {"reduction": how})
        for how in ("add", "mul", "max", "min")
    ),
    *(
        Form(
            "ScatterElements",
            18,
            (X, np.abs(signed(2, 3, 7)).astype(np.int64) % 5, floats(2, 3, 7)),
            {"axis": 1, "reduction": how},
        )
        for how in ("add", "max")
    ),
    Form("ArgMax", 12, (np.round(X),), {"axis": 1, "select_last_index": 1, "keepdims": 0}),
    Form("ArgMin", 7, (np.round(X),), {"axis": 2}),
    Form("CumSum", 11, (X, np.int64(1)), {"exclusive": 1, "reverse": 1}),
    Form("Reshape", 7, (X, ints(0, -1))),
    Form("Reshape", 14, (floats(0, 3), ints(3, 0)), {"allowzero": 1}),
    Form("Flatten", 7, (IMAGE,), {"axis": 0}),
    Form("Flatten", 11, (IMAGE,), {"axis": -2}),
    Form("Expand", 8, (floats(5, 1), ints(2, 1, 7))),
    Form("Tile", 7, (X, ints(1, 2, 3))),
    Form("DepthToSpace", 11, (floats(1, 8, 2, 3),), {"blocksize": 2, "mode": "CRD"}),
    Form("Shape", 15, (X,), {"start": 1, "end": -1}),
    Form("Einsum", 12, (X, floats(7, 4)), {"equation": "...ij, jk -> ...ik"}),
    Form("OneHot", 11, (ints(0, 2, -1, 9), np.int64(4), np.float32([1, 3])), {"axis": 0}),
    Form("Cast", 13, (floats(6) * 100,), {"to": int(ir.DataType.INT8)}),
    Form("QuantizeLinear", 10, (floats(2, 6) * 3, np.float32(0.02), np.uint8(120))),
    Form("QuantizeLinear", 13, (floats(2, 6) * 3, np.float32([0.02, 0.1]), np.int8([1, -3])), {"axis": 0}),
    Form("DequantizeLinear", 10, (unsigned(2, 6), np.float32(0.02), np.uint8(120))),
    Form("DequantizeLinear", 13, (signed(2, 6), np.float32([0.1, 0.2])), {"axis": 0}),
    Form("DequantizeLinear", 21, (signed(4, 6), np.abs(floats(4, 2))), {"axis": 1, "block_size": 3}),
    Form("DynamicQuantizeLinear", 11, (X,), {}, 3),
    Form("MatMulInteger", 10, (unsigned(3, 6), signed(6, 4), np.uint8(120), np.int8(3))),
    Form(
        "ConvInteger",
        10,
        (unsigned(1, 2, 6, 6), unsigned(3, 2, 3, 3), np.uint8(5), np.uint8(7)),
        {"pads": [1] * 4},
    ),
    Form(
        "ai.onnx.ml:Scaler",
        13,
        (floats(3, 4),),
        {"offset": [1.0, 2.0, 3.0, 4.0], "scale": [0.5, 1.0, 2.0, 3.0]},
    ),
    *(Form("ai.onnx.ml:Normalizer", 13, (floats(3, 4),), {"norm": how}) for how in ("MAX", "L1", "L2")),
    Form(
        "ai.onnx.ml:LinearRegressor",
        13,
        (floats(3, 2),),
        {"coefficients": [1.0, 2.0, 3.0, 4.0], "targets": 2, "intercepts": [0.5, 1.0]},
    ),
    Form("ai.onnx.ml:ArrayFeatureExtractor", 13, (floats(3, 4), ints(2, 0))),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_computes_what_onnx_runtime_does(form: Form) -> None:
    agrees(form.model(), form.feeds)
