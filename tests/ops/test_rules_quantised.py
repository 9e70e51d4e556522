"""Quantised operators: scales and zero points follow their axis; removed slots read as the zero point."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.exotic_graphs import Case, NodeRow, floats, holds, scales, signed, unsigned

MS = "com.microsoft:"
IMAGE, TOKENS = {"x": floats(2, 3, 6, 6)}, {"x": floats(2, 5, 7)}
ACT = {"as": np.array(0.05, np.float32), "az": np.array(120, np.uint8)}
QUANTISE: NodeRow = ("QuantizeLinear", ["x", "as", "az"], ["xq"], {})
BIAS = np.random.default_rng(3).integers(-50, 50, 8).astype(np.int32)
PADDED = {"pads": [1, 1, 1, 1]}


def dequantise(value: str) -> NodeRow:
    return "DequantizeLinear", [value, "as", "az"], ["y"], {}


def per_channel(name: str, array: np.ndarray, axis: int = 0) -> dict[str, np.ndarray]:
    count = array.shape[axis]
    return {name: array, f"{name}s": scales(count), f"{name}z": np.zeros(count, np.int8)}


def qlinear(op: str, x: str, w: str, out: str, *bias: str, **attributes: object) -> NodeRow:
    return op, [x, "as", "az", w, f"{w}s", f"{w}z", "as", "az", *bias], [out], attributes


FIRST = per_channel("w1", signed(8, 3, 3, 3)) | {"b1": BIAS} | ACT
LAST = {"w2": signed(4, 8, 3, 3), "w2s": np.array(0.01, np.float32), "w2z": np.array(3, np.int8)}
HEAD = [QUANTISE, qlinear("QLinearConv", "xq", "w1", "c1", "b1")]
CONVOLUTIONS = [
    Case(
        "QDQ",
        IMAGE,
        FIRST | per_channel("w2", signed(4, 8, 1, 1)) | {"b1s": scales(8), "b1z": np.zeros(8, np.int32)},
        [("DequantizeLinear", [w, f"{w}s", f"{w}z"], [f"d{w}"], {"axis": 0}) for w in ("w1", "b1", "w2")]
        + [
            QUANTISE,
            ("DequantizeLinear", ["xq", "as", "az"], ["xd"], {}),
            ("Conv", ["xd", "dw1", "db1"], ["c"], {}),
            ("Relu", ["c"], ["r"], {}),
            ("QuantizeLinear", ["r", "as", "az"], ["rq"], {}),
            ("DequantizeLinear", ["rq", "as", "az"], ["rd"], {}),
            ("Conv", ["rd", "dw2"], ["y"], {}),
        ],
        ["y"],
        [8],
    ),
    Case(
        "QLinearConv with residual",
        IMAGE,
        FIRST | LAST | {"wd": signed(8, 1, 3, 3)},
        [
            *HEAD,
            (
                "QLinearConv",
                ["c1", "as", "az", "wd", "w2s", "w2z", "as", "az"],
                ["c2"],
                {"group": 8, **PADDED},
            ),
            (MS + "QLinearAdd", ["c1", "as", "az", "c2", "as", "az", "as", "az"], ["c3"], {}),
            (MS + "QLinearLeakyRelu", ["c3", "as", "az", "as", "az"], ["c4"], {"alpha": 0.1}),
            qlinear("QLinearConv", "c4", "w2", "c5", **PADDED),
            dequantise("c5"),
        ],
        ["y"],
        [8],
    ),
    Case(
        "QLinearConv in groups",
        IMAGE,
        FIRST | LAST | {"wg": signed(8, 2, 3, 3)},
        [
            *HEAD,
            (
                "QLinearConv",
                ["c1", "as", "az", "wg", "w2s", "w2z", "as", "az"],
                ["c2"],
                {"group": 4, **PADDED},
            ),
            qlinear("QLinearConv", "c2", "w2", "c5", **PADDED),
            dequantise("c5"),
        ],
        ["y"],
        [8, 8],
    ),
    Case(
        "ConvInteger",
        IMAGE,
        {"w0": (8, 3, 3, 3), "w2": unsigned(4, 8, 3, 3), "wz": np.array(100, np.uint8)},
        [
            ("Conv", ["x", "w0"], ["c"], {}),
            ("DynamicQuantizeLinear", ["c"], ["q", "s", "z"], {}),
            ("ConvInteger", ["q", "w2", "z", "wz"], ["i"], PADDED),
            ("Cast", ["i"], ["f"], {"to": 1}),
            ("Mul", ["f", "s"], ["y"], {}),
        ],
        ["y"],
        [8],
    ),
    Case(
        "QLinearConcat and pooling",
        IMAGE,
        FIRST | per_channel("w3", signed(6, 3, 3, 3)) | per_channel("w2", signed(4, 14, 1, 1)),
        [
            *HEAD,
            qlinear("QLinearConv", "xq", "w3", "c2"),
            (MS + "QLinearConcat", ["as", "az", "c1", "as", "az", "c2", "as", "az"], ["cc"], {"axis": 1}),
            (MS + "QLinearGlobalAveragePool", ["cc", "as", "az", "as", "az"], ["g"], {}),
            qlinear("QLinearConv", "g", "w2", "o"),
            dequantise("o"),
        ],
        ["y"],
        [6, 8],
    ),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: case.name)
def test_channels_of_quantised_convolutions(case: Case) -> None:
    holds(case)


W1, W2 = per_channel("w1", signed(7, 12), 1), per_channel("w2", signed(12, 4), 1)
PRODUCTS = [
    Case(
        "MatMulInteger",
        TOKENS,
        {"w0": (7, 12), "w2": unsigned(12, 9), "wz": unsigned(9), "w3": (9, 3)},
        [
            ("MatMul", ["x", "w0"], ["c"], {}),
            ("DynamicQuantizeLinear", ["c"], ["q", "s", "z"], {}),
            ("MatMulInteger", ["q", "w2", "z", "wz"], ["i"], {}),
            ("Cast", ["i"], ["f"], {"to": 1}),
            ("Mul", ["f", "s"], ["m"], {}),
            ("MatMul", ["m", "w3"], ["y"], {}),
        ],
        ["y"],
        [9, 12],
    ),
    Case(
        "QLinearMatMul",
        TOKENS,
        W1 | W2 | ACT,
        [
            QUANTISE,
            qlinear("QLinearMatMul", "xq", "w1", "h"),
            qlinear("QLinearMatMul", "h", "w2", "o"),
            dequantise("o"),
        ],
        ["y"],
        [12],
    ),
    Case(
        "QGemm",
        {"x": floats(5, 7)},
        per_channel("w1", signed(12, 7))
        | per_channel("w2", signed(4, 12))
        | ACT
        | {"b": np.arange(12, dtype=np.int32)},
        [
            QUANTISE,
            (MS + "QGemm", ["xq", "as", "az", "w1", "w1s", "w1z", "b", "as", "az"], ["h"], {"transB": 1}),
            (MS + "QGemm", ["h", "as", "az", "w2", "w2s", "w2z", "", "as", "az"], ["o"], {"transB": 1}),
            dequantise("o"),
        ],
        ["y"],
        [12],
    ),
    Case(
        "DynamicQuantizeMatMul",
        TOKENS,
        W1 | {"b1": (12,), "w2": signed(12, 6), "s2": scales(1), "w3": signed(6, 3)},
        [
            (MS + "DynamicQuantizeMatMul", ["x", "w1", "w1s", "w1z", "b1"], ["h"], {}),
            ("Relu", ["h"], ["r"], {}),
            (MS + "DynamicQuantizeMatMul", ["r", "w2", "s2"], ["g"], {}),
            ("DynamicQuantizeLinear", ["g"], ["q", "s", "z"], {}),
            (MS + "MatMulIntegerToFloat", ["q", "w3", "s", "s2", "z"], ["y"], {}),
        ],
        ["y"],
        [6, 12],
    ),
    Case(
        "blocked DequantizeLinear",
        TOKENS,
        {"w0": (7, 32), "w1": signed(32, 12), "s": scales(2, 12), "w3": (12, 4)},
        [
            ("MatMul", ["x", "w0"], ["h"], {}),
            ("DequantizeLinear", ["w1", "s"], ["d"], {"axis": 0, "block_size": 16}),
            ("MatMul", ["h", "d"], ["g"], {}),
            ("MatMul", ["g", "w3"], ["y"], {}),
        ],
        ["y"],
        [2, 12],
    ),
]


@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: case.name)
def test_widths_of_quantised_products(case: Case) -> None:
    holds(case)


BLOCK = 16


def packed(name: str, rows: int, depth: int, zeros: bool, flat: bool) -> dict[str, np.ndarray]:
    blocks = depth // BLOCK
    found = {name: unsigned(rows, blocks, BLOCK // 2), f"{name}s": scales(rows, blocks)}
    if zeros:
        found[f"{name}z"] = unsigned(rows, (blocks + 1) // 2)
    return {key: array.ravel() if flat and key != name else array for key, array in found.items()}


def nbits(zeros: bool, flat: bool, units: list[int]) -> Case:
    def product(x: str, w: str, out: str, rows: int, depth: int, *bias: str) -> NodeRow:
        inputs = [x, w, f"{w}s", f"{w}z" if zeros else "", "", *bias]
        return MS + "MatMulNBits", inputs, [out], {"N": rows, "K": depth, "bits": 4, "block_size": BLOCK}

    weights = packed("a", 96, 64, zeros, flat) | packed("b", 24, 96, zeros, flat)
    nodes = [
        ("MatMul", ["x", "w0"], ["h"], {}),
        product("h", "a", "g", 96, 64, "bias"),
        ("Relu", ["g"], ["r"], {}),
        product("r", "b", "o", 24, 96),
        ("MatMul", ["o", "w3"], ["y"], {}),
    ]
    name = f"zero points={zeros} flat={flat}"
    return Case(name, TOKENS, {**weights, "w0": (7, 64), "w3": (24, 3), "bias": (96,)}, nodes, ["y"], units)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("zeros", "units"), [(False, [4, 6, 24]), (True, [2, 3, 24])])
def test_four_bit_weights_go_in_whole_blocks(zeros: bool, flat: bool, units: list[int]) -> None:
    holds(nbits(zeros, flat, units))


def test_an_incomplete_last_block_pins_the_contracted_axis() -> None:
    case = Case(
        "partial",
        TOKENS,
        {"w0": (7, 40), "w": unsigned(24, 3, 8), "ws": scales(24, 3), "w3": (24, 3)},
        [
            ("MatMul", ["x", "w0"], ["h"], {}),
            (MS + "MatMulNBits", ["h", "w", "ws"], ["o"], {"N": 24, "K": 40, "bits": 4, "block_size": BLOCK}),
            ("MatMul", ["o", "w3"], ["y"], {}),
        ],
        ["y"],
        [24],
    )
    holds(case)


def test_quantised_embedding_columns_go_in_whole_blocks() -> None:
    case = Case(
        "embedding",
        {"ids": np.array([[0, 3, 29, 7], [1, 1, 2, 8]])},
        {"t": unsigned(30, 16), "ts": scales(30, 2), "w": (32, 5)},
        [
            (
                MS + "GatherBlockQuantized",
                ["t", "ids", "ts"],
                ["e"],
                {"bits": 4, "block_size": BLOCK, "quantize_axis": 1, "gather_axis": 0},
            ),
            ("MatMul", ["e", "w"], ["y"], {}),
        ],
        ["y"],
        [2],
    )
    holds(case)
