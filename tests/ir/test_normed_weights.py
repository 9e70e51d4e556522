"""Weights that are computed from others: weight norm and spectral norm become the weights that they give."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphprune
from graphprune.axes import analyse
from graphprune.ir.normalise import normalise
from graphprune.ir.weights import parameters
from graphprune.ops import record_of
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.repair import Change, Repaired, repair
from graphprune.runtime.session import open_session
from tests.prune.test_repair import distance, twin

Array = np.ndarray
Row = tuple[str, list[str], str, dict[str, object]]
DRAW = np.random.default_rng(0)


def weight_norm(name: str, v: Array, axis: int) -> tuple[list[Row], dict[str, Array]]:
    """g v / |v|, the norm of all axes but one, as opset 13 writes it without ReduceL2."""
    others = [i for i in range(v.ndim) if i != axis]
    shape = [-1 if i == axis else 1 for i in range(v.ndim)]
    rows: list[Row] = [
        ("Pow", [f"{name}_v", "two"], f"{name}_p", {}),
        ("ReduceSum", [f"{name}_p", f"{name}_axes"], f"{name}_q", {"keepdims": 1}),
        ("Sqrt", [f"{name}_q"], f"{name}_n", {}),
        ("Max", [f"{name}_n", "tiny"], f"{name}_m", {}),
        ("Div", [f"{name}_v", f"{name}_m"], f"{name}_d", {}),
        ("Mul", [f"{name}_d", f"{name}_g"], name, {}),
    ]
    size = np.sqrt(np.square(v).sum(axis=tuple(others))).reshape(shape)
    held = {f"{name}_v": v, f"{name}_g": size * 0.9, f"{name}_axes": np.array(others)}
    return rows, held | {"two": np.array(2, np.float32), "tiny": np.array(1e-12, np.float32)}


def spectral_norm(name: str, w: Array, dot: str) -> tuple[list[Row], dict[str, Array]]:
    """W over its largest singular value u' W v, with u and v as training left them."""
    flat = w.reshape(len(w), -1)
    u, _, v = np.linalg.svd(flat)
    ends: list[Row] = [("MatMul", [f"{name}_u", f"{name}_y"], f"{name}_s", {})]
    if dot == "Mul":
        ends = [
            ("Mul", [f"{name}_u", f"{name}_y"], f"{name}_z", {}),
            ("ReduceSum", [f"{name}_z"], f"{name}_s", {"keepdims": 0}),
        ]
    rows: list[Row] = [
        ("Flatten", [f"{name}_w"], f"{name}_f", {"axis": 1}),
        ("MatMul", [f"{name}_f", f"{name}_x"], f"{name}_y", {}),
        *ends,
        ("Div", [f"{name}_w", f"{name}_s"], name, {}),
    ]
    return rows, {f"{name}_w": w, f"{name}_u": u[:, 0], f"{name}_x": v[0]}


def net(kind: str) -> onnx.ModelProto:
    """Two convolutions and a product, all of them normed."""
    arrays = {
        name: (DRAW.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (5, 16)}.items()
    }
    parts = [
        weight_norm(name, array, 0) if kind == "weight norm" else spectral_norm(name, array, kind)
        for name, array in arrays.items()
    ]
    rows: list[Row] = [row for some, _ in parts for row in some]
    rows += [
        ("Conv", ["x", "w1", "b1"], "a", {"pads": [1, 1, 1, 1]}), ("Relu", ["a"], "r", {}),
        ("Conv", ["r", "w2", "b2"], "c", {"pads": [1, 1, 1, 1]}), ("Relu", ["c"], "t", {}),
        ("GlobalAveragePool", ["t"], "g", {}), ("Flatten", ["g"], "f", {}),
        ("Gemm", ["f", "w3", "b3"], "y", {"transB": 1}),
    ]  # fmt: skip
    held = {name: array for _, some in parts for name, array in some.items()}
    held |= {f"b{n}": DRAW.standard_normal(size).astype(np.float32) for n, size in ((1, 16), (2, 16), (3, 5))}
    tensors = [
        numpy_helper.from_array(np.asarray(array, np.int64 if array.dtype.kind == "i" else np.float32), name)
        for name, array in held.items()
    ]
    nodes = [helper.make_node(op, inputs, [out], **attributes) for op, inputs, out, attributes in rows]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", ["n", 3, 8, 8]), ("y", ["n", 5]))
    ]
    graph = helper.make_graph(nodes, "normed", *ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(count: int, seed: int) -> dict[str, Array]:
    basis = np.random.default_rng(9).standard_normal((6, 192)) / 2
    draw = np.random.default_rng(seed).standard_normal((count, 6))
    return {"x": (draw @ basis).reshape(count, 3, 8, 8).astype(np.float32)}


KINDS = ["weight norm", "MatMul", "Mul"]


@pytest.mark.parametrize("kind", KINDS)
def test_normed_weights_are_weights_and_repaired_as_such(kind: str) -> None:
    source = ir.from_proto(net(kind))
    before = open_session(source).run(images(8, 1))["y"]
    normalise(source, record_of)
    assert {node.op_type for node in source.graph} == {"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"}
    np.testing.assert_allclose(open_session(source).run(images(8, 1))["y"], before, rtol=1e-4, atol=1e-5)
    assert parameters(source, record_of) == 16 * 27 + 16 * 144 + 5 * 16 + 16 + 16 + 5
    analysis = analyse(source)
    places = SiteIndex(analysis)
    assert sorted(group.size for group in analysis.prunable) == [16, 16]
    assert all(places.sinks(group) for group in analysis.prunable)
    cuts = {group.id: tuple(range(8)) for group in analysis.prunable}
    made = repair(analysis, Change(cuts), batches=[images(128, 2)])
    assert {"w2", "w3"} <= set(made.replaced)
    losses = [
        distance(source, twin(analysis, cuts, each), [images(64, 3)]) for each in (Repaired({}, {}), made)
    ]
    assert losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_holds_no_dense_weight_beside_the_cut_one(kind: str) -> None:
    dense = net(kind)
    result = graphprune.compile(dense, "obspa(params=0.5)", calibration=images(64, 2), bench=False)
    small = result.proto()
    assert len(small.SerializeToString()) < 0.65 * len(dense.SerializeToString())
    assert result.report.after.params <= 0.5 * result.report.before.params
    assert not any("nothing to measure" in line or "not repaired" in line for line in result.report.warnings)


def test_a_product_of_two_thin_weights_that_would_grow_the_file_stays() -> None:
    thin = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
        "thin",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [
            numpy_helper.from_array(DRAW.standard_normal(shape).astype(np.float32), name)
            for name, shape in (("a", (64, 4)), ("b", (4, 64)))
        ],
    )
    model = ir.from_proto(helper.make_model(thin, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    normalise(model, record_of)
    assert [node.op_type for node in model.graph] == ["MatMul", "MatMul"]


def test_a_table_by_a_weight_is_a_layer_and_stays() -> None:
    """Positions by keys, of a relative attention: folded, the file is smaller, and nothing can be cut."""
    shapes = {"table": (8, 64), "keys": (64, 16), "out": (16, 64)}
    weights = {name: DRAW.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    layer = helper.make_graph(
        [
            helper.make_node("MatMul", ["table", "keys"], ["k"]),
            helper.make_node("MatMul", ["k", "out"], ["t"]),
            helper.make_node("Add", ["x", "t"], ["y"]),
        ],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 64])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = ir.from_proto(helper.make_model(layer, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    normalise(model, record_of)
    assert [node.op_type for node in model.graph] == ["MatMul", "MatMul", "Add"]
    assert [group.size for group in analyse(model).prunable] == [64, 16]
