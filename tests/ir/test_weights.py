"""What a parameter is: every weight, however it is stored; no scale, zero point or index."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.ir.weights import find_weights, parameters
from graphprune.ops import record_of
from tests.proof.building import model, parsed

SIGNED = np.arange(-12, 12, dtype=np.int8).reshape(6, 4)
SCALE, SCALES = np.array(0.1, np.float32), np.full(4, 0.1, np.float32)
ZERO, ZEROS = np.array(0, np.int8), np.zeros(4, np.int8)
GRAPH = "(float[n,6] x) => (float[n,4] y) {{ {0} }}"


def counted(body: str, **weights: object) -> int:
    return parameters(built(body, **weights), record_of)


def built(body: str, **weights: object) -> ir.Model:
    return parsed(GRAPH.format(body), 21, np.float32, **weights)


FORMS: dict[str, tuple[str, dict[str, object], int]] = {
    "read directly": ("y = MatMul(x, w)", {"w": (6, 4)}, 24),
    "shared by two readers": ("a = MatMul(x, w)\n b = MatMul(x, w)\n y = Add(a, b)", {"w": (6, 4)}, 24),
    "a Constant node": (
        "w = Constant <value = float[6,4] {" + "1," * 23 + "1}> ()\n y = MatMul(x, w)",
        {},
        24,
    ),
    "behind Transpose": ("t = Transpose(w)\n y = MatMul(x, t)", {"w": (4, 6)}, 24),
    "float16 behind Cast": (
        "t = Cast <to = 1> (w)\n y = MatMul(x, t)",
        {"w": np.ones((6, 4), np.float16)},
        24,
    ),
    "weight norm": (
        "s = Mul(v, v)\n n = ReduceSum(s)\n r = Sqrt(n)\n u = Div(v, r)\n w = Mul(u, g)\n y = MatMul(x, w)",
        {"v": (6, 4), "g": (1, 4)},
        28,
    ),
    "int8 behind DequantizeLinear": (
        "w = DequantizeLinear(q, s, z)\n y = MatMul(x, w)",
        {"q": SIGNED, "s": SCALES, "z": ZEROS},
        24,
    ),
    "int8 behind Transpose and DequantizeLinear": (
        "t = Transpose(q)\n w = DequantizeLinear(t, s, z)\n y = MatMul(x, w)",
        {"q": SIGNED.T.copy(), "s": SCALE, "z": ZERO},
        24,
    ),
    "int8 behind Cast, Sub and Mul": (
        "c = Cast <to = 1> (q)\n d = Sub(c, z)\n w = Mul(d, s)\n y = MatMul(x, w)",
        {"q": SIGNED, "s": SCALES, "z": np.zeros(4, np.float32)},
        24,
    ),
    "an int32 bias with its scale": (
        "w = DequantizeLinear(q, s)\n c = DequantizeLinear(b, s)\n y = Gemm(x, w, c)",
        {"q": SIGNED, "s": SCALE, "b": np.arange(4, dtype=np.int32)},
        28,
    ),
    "a dynamically quantised product": (
        "xq, xs, xz = DynamicQuantizeLinear(x)\n p = MatMulInteger(xq, q, xz, z)\n f = Cast <to = 1> (p)\n"
        "a = Mul(xs, s)\n y = Mul(f, a)",
        {"q": SIGNED, "s": SCALE, "z": ZERO},
        24,
    ),
    "two of four bits in a byte": (
        "y = com.microsoft.MatMulNBits <K = 6, N = 4, bits = 4, block_size = 16> (x, q, s)",
        {"q": np.zeros((4, 1, 8), np.uint8), "s": SCALES},
        64,
    ),
    "one of eight bits in a byte": (
        "y = com.microsoft.MatMulNBits <K = 6, N = 4, bits = 8, block_size = 16> (x, q, s)",
        {"q": np.zeros((4, 1, 16), np.uint8), "s": SCALES},
        64,
    ),
    "indices and shapes": (
        "g = Gather <axis = 1> (x, i)\n r = Reshape(g, h)\n y = MatMul(r, w)",
        {"i": np.arange(6), "h": np.array([-1, 6]), "w": (6, 4)},
        24,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_counts_and_nothing_else(form: str) -> None:
    body, weights, elements = FORMS[form]
    assert counted(body, **weights) == elements


ROWS = "(int64[n] x) => (float[n,8] y) { y = com.microsoft.GatherBlockQuantized <bits = 4> (q, x, s) }"
EXPERTS = """(float[n,8] x, float[n,2] r) => (float[n,8] y)
    {{ y = com.microsoft.QMoE <k = 1, expert_weight_bits = {bits}> (x, r, p, sp, , q, sq) }}"""


def test_rows_of_a_table_in_blocks_count_every_number_that_shares_a_byte() -> None:
    table, scales = np.zeros((5, 4), np.uint8), np.ones((5, 1), np.float32)
    assert parameters(parsed(ROWS, 21, np.float32, q=table, s=scales), record_of) == 5 * 8


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_experts_say_how_many_numbers_share_a_byte(bits: int) -> None:
    stack, scales = np.zeros((2, 8, 8 * bits // 8), np.uint8), np.ones((2, 8), np.float32)
    body = EXPERTS.format(bits=bits)
    layer = parsed(body, 21, np.float32, p=stack, sp=scales, q=stack, sq=scales)
    assert parameters(layer, record_of) == 2 * (2 * 8 * 8)


def test_a_stored_tensor_counts_once_under_two_names() -> None:
    twin = built("a = MatMul(x, v)\n b = MatMul(x, w)\n y = Add(a, b)", v=(6, 4), w=(6, 4))
    values = twin.graph.initializers
    values["v"].const_value = values["w"].const_value
    assert parameters(twin, record_of) == 24


def test_a_weight_knows_the_operator_behind_its_constant_expression() -> None:
    dense = built(
        "t = Transpose(q)\n w = DequantizeLinear(t, s)\n y = Gemm(x, w, b)",
        q=SIGNED.T.copy(),
        s=SCALE,
        b=(4,),
    )
    ends = {
        v.name: [(r.node.op_type, r.position) for r in w.reads]
        for v, w in find_weights(dense, record_of).items()
    }
    assert ends == {"q": [("Gemm", 1)], "b": [("Gemm", 2)]}


def test_int4_counts_elements_not_bytes() -> None:
    dense = built("w = DequantizeLinear(q, s)\n y = MatMul(x, w)", q=SIGNED, s=SCALE)
    value = dense.graph.initializers["q"]
    value.const_value = ir.Tensor(np.zeros((6, 4), np.int8), dtype=ir.DataType.INT4, name="q")
    value.type = ir.TensorType(ir.DataType.INT4)
    assert parameters(dense, record_of) == 24


def test_weight_norm_becomes_the_weight_that_it_computes() -> None:
    """Its norm is of the whole row: left standing, it would keep the dense weight beside a cut one."""
    body = """(float[n,6] x) => (float[n,4] y) {
        r = ReduceL2 <keepdims = 1> (v, one)\n u = Div(v, r)\n w = Mul(u, g)\n h = MatMul(x, w)
        a = Relu(h)\n y = MatMul(a, o) }"""
    dense = model(body, 21, np.float32, v=(6, 16), g=(1, 16), o=(16, 4), one=np.array([0]))
    assert [node.op_type for node in dense.graph] == ["MatMul", "Relu", "MatMul"]
    assert parameters(dense, record_of) == 6 * 16 + 16 * 4
