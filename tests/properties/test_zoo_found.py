"""What the matrix of real exports found, once each, as the smallest graph that shows it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Options
from graphprune.ir.check import check
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from tests.ops.exotic_graphs import Case, NodeRow, analysed, floats, holds, reasons
from tools.relations import outputs

IMAGE = {"x": floats(2, 3, 4, 4)}
ROWS = {"x": floats(2, 6)}
SLICED = Options(layernorm="slice", allow_inexact=True)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def between_convolutions(*middle: NodeRow) -> list[NodeRow]:
    """Conv 3 to 8 ("a"), the rows given, Conv 8 to 4 of "b"."""
    return [("Conv", ["x", "w1"], ["a"], {}), *middle, ("Conv", ["b", "w2"], ["y"], {})]


GROUP_NORM = between_convolutions(
    ("Reshape", ["a", "flat"], ["rows"], {}),
    ("InstanceNormalization", ["rows", "one", "zero"], ["unit"], {}),
    ("Reshape", ["unit", "image"], ["back"], {}),
    ("Mul", ["back", "scale"], ["scaled"], {}),
    ("Add", ["scaled", "shift"], ["b"], {}),
)
GROUP_NORM_WEIGHTS = {
    "w1": (8, 3, 1, 1),
    "w2": (4, 8, 1, 1),
    "flat": ints(0, 1, -1),
    "image": ints(2, 8, 4, 4),
    "one": np.ones(1, np.float32),
    "zero": np.zeros(1, np.float32),
    "scale": (8, 1, 1),
    "shift": (8, 1, 1),
}

BLOCKS = {
    "w1": (8, 3, 1, 1),
    "w": (12, 4, 1, 1),
    "w2": (4, 6, 1, 1),
    "parts": ints(2, 2, 6, 4, 4),
    "one": ints(1),
}
SPLIT: tuple[NodeRow, ...] = (
    ("Conv", ["a", "w"], ["c"], {"group": 2}),
    ("Reshape", ["c", "parts"], ["split"], {}),
)
ENDS = {"w1": (6, 8), "w2": (8, 4)}
KERNELS = {"w1": (8, 3, 1, 1), "w2": (4, 8, 1, 1)}

CASES = (
    Case("PoolFormer normalises over channels", IMAGE, GROUP_NORM_WEIGHTS, GROUP_NORM, ["y"], [8], SLICED),
    Case(
        "Swin v2 writes zeros into the bias of its keys",
        ROWS,
        {
            "w1": (6, 8),
            "w2": (8, 4),
            "bias": (8,),
            "at": ints(2, 3).reshape(2, 1),
            "new": np.zeros(2, np.float32),
        },
        [
            ("ScatterND", ["bias", "at", "new"], ["b"], {}),
            ("MatMul", ["x", "w1"], ["a"], {}),
            ("Add", ["a", "b"], ["c"], {}),
            ("MatMul", ["c", "w2"], ["y"], {}),
        ],
        ["y"],
        [8],
    ),
    Case(
        "GCViT computes how often Tile repeats with OneHot",
        ROWS,
        {
            "w1": (6, 8),
            "w2": (8, 4),
            "first": ints(0),
            "two": np.array(2),
            "values": ints(1, 3),
            "flat": ints(-1),
        },
        [
            ("OneHot", ["first", "two", "values"], ["hot"], {}),
            ("Reshape", ["hot", "flat"], ["repeats"], {}),
            ("MatMul", ["x", "w1"], ["a"], {}),
            ("Tile", ["a", "repeats"], ["b"], {}),
            ("MatMul", ["b", "w2"], ["y"], {}),
        ],
        ["y"],
        [8],
    ),
    Case(
        "padding as in TensorFlow is clipped at zero",
        IMAGE,
        {
            "w1": (8, 3, 1, 1),
            "w2": (4, 8, 1, 1),
            "wanted": ints(0, 0, -1, 1, 0, 0, 1, 1),
            "least": np.array(0),
        },
        between_convolutions(("Clip", ["wanted", "least"], ["pads"], {}), ("Pad", ["a", "pads"], ["b"], {})),
        ["y"],
        [8],
    ),
    Case(
        "ResNeSt weighs and sums the blocks of a grouped convolution",
        IMAGE,
        BLOCKS,
        between_convolutions(
            *SPLIT,
            ("Softmax", ["split"], ["weights"], {"axis": 1}),
            ("Mul", ["split", "weights"], ["weighed"], {}),
            ("ReduceSum", ["weighed", "one"], ["b"], {"keepdims": 0}),
        ),
        ["y"],
        [6, 8],
    ),
    Case(
        "ECA convolves along the channels",
        IMAGE,
        {**KERNELS, "k": (1, 1, 3), "row": ints(2, 1, 8), "column": ints(2, 8, 1, 1)},
        between_convolutions(
            ("GlobalAveragePool", ["a"], ["mean"], {}),
            ("Reshape", ["mean", "row"], ["places"], {}),
            ("Conv", ["places", "k"], ["mixed"], {"pads": [1, 1]}),
            ("Sigmoid", ["mixed"], ["gate"], {}),
            ("Reshape", ["gate", "column"], ["gates"], {}),
            ("Mul", ["a", "gates"], ["b"], {}),
        ),
        ["y"],
        [8],
        adds=8,  # zeros that hold the places of what went
    ),
    Case(
        "blocks that nothing else fixes are fixed, and tied on both sides",
        IMAGE,
        BLOCKS,
        between_convolutions(*SPLIT, ("ReduceSum", ["split", "one"], ["b"], {"keepdims": 0})),
        ["y"],
        [4, 6],
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_found(case: Case) -> None:
    holds(case)


def test_a_group_norm_is_pinned_unless_it_may_be_sliced() -> None:
    case = Case("default", IMAGE, GROUP_NORM_WEIGHTS, GROUP_NORM, ["y"], [])
    assert "InstanceNormalization normalises over it" in reasons(analysed(case))


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_softmax_has_a_default_axis(opset: int) -> None:
    """tf2onnx leaves it out; the structural check wanted it."""
    nodes: list[NodeRow] = [("MatMul", ["x", "w"], ["a"], {}), ("Softmax", ["a"], ["y"], {})]
    check(Case("softmax", ROWS, {"w": (6, 8)}, nodes, ["y"], [], opset=opset).model())


def test_a_scaler_does_not_hide_the_graph_input() -> None:
    """What scikit-learn puts before a perceptron: the width behind it is that of the input."""
    numbers = {"offset": [0.0] * 6, "scale": [1.0] * 6}
    nodes: list[NodeRow] = [
        ("ai.onnx.ml:Scaler", ["x"], ["s"], numbers),
        ("MatMul", ["s", "w1"], ["a"], {}),
        ("MatMul", ["a", "w2"], ["y"], {}),
    ]
    case = Case("scaler", ROWS, {"w1": (6, 8), "w2": (8, 4)}, nodes, ["y"], [8], runs=False)
    assert "graph input 'x'" in reasons(analysed(case))


DECIDED: dict[str, list[NodeRow]] = {
    "SSD takes at most so many boxes": [
        ("Concat", ["n", "twenty"], ["both"], {"axis": 0}),
        ("ReduceMin", ["both"], ["k"], {}),
    ],
    "a rest is lost": [("Div", ["n", "forty"], ["m"], {}), ("Add", ["m", "two"], ["k"], {})],
    "a size is compared": [
        ("Less", ["n", "forty"], ["small"], {}),
        ("Where", ["small", "two", "twenty"], ["k"], {}),
    ],
}


@pytest.mark.parametrize("name", DECIDED)
def test_what_a_size_decides_is_not_written_down(name: str) -> None:
    """Both generic sizes were beyond the bound, so that the result looked the same for all sizes."""
    weights = {"first": ints(0), "two": ints(2), "twenty": ints(20), "forty": ints(40)}
    nodes: list[NodeRow] = [
        ("Shape", ["x"], ["shape"], {}),
        ("Gather", ["shape", "first"], ["n"], {}),
        *DECIDED[name],
        ("TopK", ["x", "k"], ["best", "where"], {"axis": 0}),
        ("Shape", ["best"], ["sizes"], {}),
        ("ConstantOfShape", ["sizes"], ["zeros"], {}),
        ("Add", ["zeros", "best"], ["y"], {}),
    ]
    model = Case(name, {"x": floats(2, 6)}, weights, nodes, ["y"], []).model()
    model.graph.inputs[0].shape = ir.Shape(["n", 6])
    normal = model.clone()
    normalise(normal, record_of)
    for count in (3, 30, 100):
        feeds = {"x": floats(count, 6)}
        assert np.array_equal(outputs(model, feeds)["y"], outputs(normal, feeds)["y"])
