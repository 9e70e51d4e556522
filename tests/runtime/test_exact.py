"""An exact session computes of bytes what int64 arithmetic does, on any CPU and in any form of a graph."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.ops.saturating import BLOCKWISE, PRODUCTS
from graphprune.runtime.exact import moved, unsaturated
from graphprune.runtime.session import open_session
from tests.saturation import saturated, saturates

Array = np.ndarray
ZERO = {np.uint8: 3, np.int8: -2}
IMPORTS = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\ng '


def model(body: str, **weights: Array) -> ir.Model:
    """Integer graphs as text."""
    return ir.from_onnx_text(IMPORTS + body, initializers=[ir.tensor(w, name=n) for n, w in weights.items()])


def run(graph: ir.Model, feeds: dict[str, Array], optimise: bool = True) -> Array:
    return open_session(graph, exact=True, optimise=optimise).run(feeds)["y"]


def hard(kind: type, *shape: int) -> Array:
    """Bytes near the end of their range, so that pairs of products overflow sixteen bits."""
    rng = np.random.default_rng([5, *shape])
    return (rng.integers(200, 256, shape) if kind is np.uint8 else rng.integers(100, 128, shape)).astype(kind)


A, B = hard(np.uint8, 6, 34), hard(np.int8, 34, 8)
SCALES = np.array([2.0**-e for e in (7, 8, 9, 8, 7, 6, 9, 8)], np.float32)  # powers of 2: floats stay exact


def product(a: Array, b: Array, a_zero: int = 0, b_zero: int = 0) -> Array:
    return (a.astype(np.int64) - a_zero) @ (b.astype(np.int64) - b_zero)


def steps(values: Array, scale: float, zero: int, kind: type) -> Array:
    ends = np.iinfo(kind)
    return np.clip(np.round(values / scale) + zero, ends.min, ends.max).astype(kind)


def test_the_stub_is_the_kernel_where_this_cpu_saturates_and_else_the_kernel_is_exact():
    graph = model("(uint8[6,34] a) => (int32[6,8] y) { y = MatMulInteger(a, b) }", b=B)
    native = open_session(graph).run({"a": A})["y"]
    assert np.array_equal(native, saturated(A, B) if saturates() else product(A, B))
    assert not np.array_equal(saturated(A, B), product(A, B)), "these inputs would show nothing"


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("a", "b"), [*itertools.product(ZERO, ZERO)])
@pytest.mark.parametrize("zeros", [True, False])
def test_matmul_integer(a: type, b: type, zeros: bool, constant: bool):
    left, right = hard(a, 6, 34), hard(b, 34, 8)
    names = {np.uint8: "uint8", np.int8: "int8"}
    more = "" if constant else f", {names[b]}[34,8] b"
    body = f"({names[a]}[6,34] a{more}) => (int32[6,8] y) {{ y = MatMulInteger(a, b{', za, zb' * zeros}) }}"
    weights = {"b": right} if constant else {}
    points = {"za": np.array(ZERO[a], a), "zb": np.full(8, ZERO[b], b)} if zeros else {}
    feeds = {"a": left} if constant else {"a": left, "b": right}
    expected = product(left, right, ZERO[a], ZERO[b]) if zeros else product(left, right)
    assert np.array_equal(run(model(body, **weights, **points), feeds), expected)


def convolved(x: Array, w: Array, x_zero: int, w_zero: int) -> Array:
    """3x3, no padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64) - x_zero, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w.astype(np.int64) - w_zero)


@pytest.mark.parametrize(("x", "w"), [*itertools.product(ZERO, ZERO)])
def test_conv_integer(x: type, w: type):
    image, kernel = hard(x, 1, 5, 6, 6), hard(w, 4, 5, 3, 3)
    name = "uint8" if x is np.uint8 else "int8"
    body = f"({name}[1,5,6,6] x) => (int32[1,4,4,4] y) {{ y = ConvInteger(x, w, zx, zw) }}"
    graph = model(body, w=kernel, zx=np.array(3, x), zw=np.array(2, w))
    assert np.array_equal(run(graph, {"x": image}), convolved(image, kernel, 3, 2))


@pytest.mark.parametrize(
    ("domain", "x", "w"),
    [("", np.int8, np.int8), *itertools.product(["", "com.microsoft."], [np.uint8], ZERO)],
)
def test_qlinear_conv(domain: str, x: type, w: type):
    image, kernel = hard(x, 1, 5, 6, 6), hard(w, 4, 5, 3, 3)
    name = "uint8" if x is np.uint8 else "int8"
    body = f"""({name}[1,5,6,6] x) => ({name}[1,4,4,4] y) {{
        y = {domain}QLinearConv(x, one, zx, w, ws, zw, ys, zx)
    }}"""
    points = {"one": np.float32(1), "ys": np.float32(2**13), "zx": np.array(3, x), "zw": np.full(4, 2, w)}
    graph = model(body, w=kernel, ws=SCALES[:4] * 2**7, **points)
    expected = convolved(image, kernel, 3, 2) * (SCALES[:4] * 2**7)[:, None, None]
    assert np.array_equal(run(graph, {"x": image}), steps(expected, 2**13, 3, x))


QPRODUCTS = {
    "QLinearMatMul": "QLinearMatMul(a, one, za, b, bs, zb, ys, za)",
    "QGemm": 'com.microsoft.QGemm(a, one, za, b, bs, zb, "", ys, za)',
}


@pytest.mark.parametrize(
    ("op", "a"), [("QLinearMatMul", np.uint8), ("QLinearMatMul", np.int8), ("QGemm", np.uint8)]
)
def test_qlinear_products(op: str, a: type):
    left, name = hard(a, 6, 34), "uint8" if a is np.uint8 else "int8"
    call = QPRODUCTS[op].replace('""', "")
    graph = model(
        f"({name}[6,34] a) => ({name}[6,8] y) {{ y = {call} }}",
        b=B,
        bs=SCALES,
        zb=np.full(8, 5, np.int8),
        one=np.float32(1),
        ys=np.float32(2**6),
        za=np.array(3, a),
    )
    assert np.array_equal(run(graph, {"a": left}), steps(product(left, B, 3, 5) * SCALES, 2**6, 3, a))


@pytest.mark.parametrize("zero", [None, 5])
@pytest.mark.parametrize("per_column", [True, False])
def test_products_that_give_floats(zero: int | None, per_column: bool):
    scale = SCALES if per_column else SCALES[0]
    points = {} if zero is None else {"zb": np.full(np.shape(scale), zero, np.int8)}
    expected = product(A, B, 3, zero or 0) * scale
    last = ", zb" if points else ""
    head = "(uint8[6,34] a) => (float[6,8] y) "
    graph = model(
        head + f"{{ y = com.microsoft.MatMulIntegerToFloat(a, b, one, bs, za{last}) }}",
        b=B,
        bs=scale,
        one=np.float32(1),
        za=np.array(3, np.uint8),
        **points,
    )
    assert np.array_equal(run(graph, {"a": A}), expected)


def ranged(a: Array) -> Array:
    """Floats that a dynamic quantiser turns into these bytes: their range is 0 to 255."""
    whole = a.astype(np.float32)
    whole[0, :2] = 0, 255
    return whole


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("zero", [None, 5])
@pytest.mark.parametrize("fused", [True, False])
def test_dynamically_quantised_products(fused: bool, zero: int | None, optimise: bool):
    x, points = ranged(A), {} if zero is None else {"zb": np.full(8, zero, np.int8)}
    last = ", zb" if points else ""
    chain = f"""
        q, s, z = DynamicQuantizeLinear(x)
        i = MatMulInteger(q, b, z{last})
        f = Cast<to = 1>(i)
        t = Mul(s, bs)
        y = Mul(f, t)
    """
    one = f"y = com.microsoft.DynamicQuantizeMatMul(x, b, bs{last})"
    graph = model(
        f"(float[6,34] x) => (float[6,8] y) {{ {one if fused else chain} }}", b=B, bs=SCALES, **points
    )
    assert np.array_equal(run(graph, {"x": x}, optimise), product(x, B, 0, zero or 0) * SCALES)


WEIGHTS = {
    "initializer": "",
    "constant": "w = Constant<value = int8[34,8] {" + ",".join(map(str, B.ravel())) + "}>()",
    "transposed": "w = Transpose<perm = [1, 0]>(t)",
    "quantised in the graph": "w = QuantizeLinear<axis = 1>(floats, ws, wz)",
}


@pytest.mark.parametrize("a", ZERO)
@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("tail", [True, False])
def test_products_that_the_optimiser_fuses(a: type, form: str, tail: bool):
    zero = 0 if a is np.uint8 else -128
    end = "yq = QuantizeLinear(p, ys, az) y = DequantizeLinear(yq, ys, az)" if tail else "y = Mul(p, ys)"
    body = f"""(float[6,34] x) => (float[6,8] y) {{
        {WEIGHTS[form]}
        q = QuantizeLinear(x, one, az)
        d = DequantizeLinear(q, one, az)
        dw = DequantizeLinear<axis = 1>(w, ws, wz)
        p = MatMul(d, dw)
        {end}
    }}"""
    held = {"initializer": {"w": B}, "transposed": {"t": np.ascontiguousarray(B.T)}}.get(form, {})
    if form.startswith("quantised"):
        held = {"floats": B.astype(np.float32) * SCALES}
    one, ys = np.float32(1), np.float32(2**6)
    common = {"one": one, "ys": ys, "az": np.array(zero, a), "ws": SCALES, "wz": np.zeros(8, np.int8)}
    graph = model(body, **held, **common)
    expected = product(A, B) * SCALES
    expected = (steps(expected, 2**6, 0, np.uint8) if tail else expected) * 2.0**6
    assert np.array_equal(run(graph, {"x": A.astype(np.float32)}), expected)


def test_a_convolution_that_the_optimiser_fuses():
    image, kernel = hard(np.uint8, 1, 5, 6, 6), hard(np.int8, 4, 5, 3, 3)
    graph = model(
        """(float[1,5,6,6] x) => (float[1,4,4,4] y) {
            q = QuantizeLinear(x, one, az)
            d = DequantizeLinear(q, one, az)
            dw = DequantizeLinear<axis = 0>(w, ws)
            p = Conv(d, dw)
            yq = QuantizeLinear(p, ys, az)
            y = DequantizeLinear(yq, ys, az)
        }""",
        w=kernel,
        ws=SCALES[:4],
        one=np.float32(1),
        ys=np.float32(2**6),
        az=np.array(-128, np.int8),
    )
    expected = convolved(image, kernel, 0, 0) * SCALES[:4, None, None]
    found = run(graph, {"x": image.astype(np.float32)})
    assert np.array_equal(found, steps(expected, 2**6, 0, np.uint8) * 2.0**6)


def test_a_quantised_lstm():
    rng = np.random.default_rng(0)
    weights = {
        "w": hard(np.int8, 1, 32, 32),
        "r": rng.integers(-127, 128, (1, 8, 32)).astype(np.int8),
        "ws": np.full(1, 2e-4, np.float32),
        "rs": np.full(1, 1e-2, np.float32),
    }
    call = "com.microsoft.DynamicQuantizeLSTM<hidden_size = 8>(x, w, r, , , , , , ws, z, rs, z)"
    body = f"(float[5,2,32] x) => (float[5,1,2,8] y) {{ y = {call} }}"
    x = rng.uniform(0.2, 1, (5, 2, 32)).astype(np.float32)
    unsigned = {n: w.view(np.uint8) ^ 128 if w.dtype == np.int8 else w for n, w in weights.items()}
    expected = open_session(model(body, **unsigned, z=np.full(1, 128, np.uint8))).run({"x": x})["y"]
    assert np.array_equal(run(model(body, **weights, z=np.zeros(1, np.int8)), {"x": x}), expected)


def test_quantised_attention():
    tokens, w = hard(np.uint8, 1, 6, 32), hard(np.int8, 32, 96)
    call = "com.microsoft.QAttention<num_heads = 4>(x, w, b, s, s, , zx{})"
    body = "(uint8[1,6,32] x) => (float[1,6,32] y) {{ y = " + call + " }}"
    common = {"b": np.zeros(96, np.float32), "s": np.float32(0.01), "zx": np.array(0, np.uint8)}
    unsigned = model(body.format(", zw"), w=w.view(np.uint8) ^ 128, zw=np.array(128, np.uint8), **common)
    expected = open_session(unsigned).run({"x": tokens})["y"]
    assert np.array_equal(run(model(body.format(""), w=w, **common), {"x": tokens}), expected)


def test_products_in_branches_and_functions():
    inner = """(float[6,34] x, bool c) => (float[6,8] y) {
        y = If(c) <
            then_branch = t () => (float[6,8] u) { u = com.microsoft.DynamicQuantizeMatMul(x, b, bs) },
            else_branch = e () => (float[6,8] v) { v = MatMul(x, f) }>
    }"""
    feeds = {"x": ranged(A), "c": np.array(True)}
    graph = model(inner, b=B, bs=SCALES, f=np.zeros((34, 8), np.float32))
    assert np.array_equal(run(graph, feeds), product(feeds["x"], B) * SCALES)
    text = """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
    g (uint8[6,34] a) => (int32[6,8] y) { y = local.twice(a, b) }
    <opset_import: ["" : 21], domain: "local">
    twice (p, q) => (s) { r = MatMulInteger(p, q) s = Add(r, r) }"""
    graph = ir.from_onnx_text(text, initializers=[ir.tensor(B, name="b")])
    assert np.array_equal(run(graph, {"a": A}), 2 * product(A, B))


def test_a_scale_that_is_computed_gives_the_missing_zero_point_its_shape():
    body = """(float[6,34] x, float[8] bs) => (float[6,8] y) {
        h = Div(bs, two)
        y = com.microsoft.DynamicQuantizeMatMul(x, b, h)
    }"""
    feeds = {"x": ranged(A), "bs": 2 * SCALES}
    found = run(model(body, b=B, two=np.float32(2)), feeds)
    assert np.array_equal(found, product(feeds["x"], B) * SCALES)


def test_signed_values_that_others_read_stay_signed():
    graph = model(
        """(float[6,34] x) => (int8[6,34] q, float[6,8] y) {
            q = QuantizeLinear(x, one, az)
            r = Identity(q)
            d = DequantizeLinear(q, one, az)
            y = MatMul(d, w)
        }""",
        one=np.float32(1),
        az=np.array(-128, np.int8),
        w=np.eye(34, 8, dtype=np.float32),
    )
    feeds = {"x": A.astype(np.float32)}
    native = open_session(graph, extra_outputs=["r"]).run(feeds)
    found = open_session(graph, extra_outputs=["r"], exact=True).run(feeds)
    assert all(
        np.array_equal(native[name], found[name]) and native[name].dtype == found[name].dtype
        for name in native
    )


def test_blocks_of_four_bits_meet_activations_in_floats():
    rng = np.random.default_rng(0)
    call = "com.microsoft.MatMulNBits<K = 64, N = 8, bits = 4, block_size = 32, accuracy_level = {}>(x, w, s)"
    weights = {"w": rng.integers(0, 256, (8, 2, 16)).astype(np.uint8), "s": np.ones((8, 2), np.float32)}
    body = "(float[6,64] x) => (float[6,8] y) {{ y = " + call + " }}"
    x = rng.standard_normal((6, 64)).astype(np.float32)
    in_floats = open_session(model(body.format(1), **weights)).run({"x": x})["y"]
    assert np.array_equal(run(model(body.format(4), **weights), {"x": x}), in_floats)


def test_a_model_is_not_changed_and_one_of_floats_is_not_copied():
    graph = model("(uint8[6,34] a) => (int32[6,8] y) { y = MatMulInteger(a, b) }", b=B)
    assert moved(graph) == ("b",)
    assert moved(unsaturated(graph)) == ()
    quantised = model(
        """(float[2,4] x) => (int8[2,4] q, float[2,8] y) {
            q = QuantizeLinear <output_dtype = 3> (x, s)
            d = DequantizeLinear(q, s)
            y = com.microsoft.MatMulNBits
                <K = 4, N = 8, bits = 4, block_size = 16, accuracy_level = 4>(d, w, ws)
        }""",
        s=np.float32(1),
        w=np.zeros((8, 1, 8), np.uint8),
        ws=np.ones((8, 1), np.float32),
    )
    for each in (graph, quantised):
        before = ir.to_proto(each).SerializeToString()
        assert ir.to_proto(unsaturated(each)).SerializeToString() != before
        assert ir.to_proto(each).SerializeToString() == before
    floats = model("(float[2,4] x) => (float[2,8] y) { y = MatMul(x, w) }", w=np.ones((4, 8), np.float32))
    assert unsaturated(floats) is floats


NO_PRODUCT = {
    *(f"QLinear{name}" for name in ("Add", "LeakyRelu", "Mul", "Sigmoid", "Softmax", "Where")),
    *("DynamicQuantizeLinear", "QuantizeLinear", "GatherBlockQuantized", "MatMulBnb4", "MatMulFpQ4"),
    "GroupQueryAttention",
}
"""Kernels that take bytes and do not multiply two of them."""


def test_every_kernel_that_may_multiply_bytes_is_known():
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    words = ("Q", "Integer", "Conv", "MatMul", "Gemm", "Quant", "LSTM", "GRU", "RNN", "Attention", "MoE")
    found = {
        f"{kernel.domain}:{kernel.op_name}".removeprefix(":")
        for kernel in state.get_all_opkernel_def()
        if kernel.provider == "CPUExecutionProvider"
        and any("int8" in str(kind) for kinds in kernel.type_constraints.values() for kind in kinds)
        and any(word in kernel.op_name for word in words)
    }
    assert not {op for op in found - set(PRODUCTS) - BLOCKWISE if op.rpartition(":")[2] not in NO_PRODUCT}


@pytest.mark.parametrize("folder", ["proof", "prune", "statistics"])
def test_what_is_proved_or_measured_for_a_score_runs_exactly(folder: str):
    calls = [
        node
        for path in Path(graphprune.__file__).parent.joinpath(folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open_session"
    ]
    assert calls
    assert all("exact" in {keyword.arg for keyword in call.keywords} for call in calls)
