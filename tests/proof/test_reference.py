"""The masked reference: what stands for a removed slot, and which functions a plan changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Options, analyse
from graphprune.proof.reference import _filler, build_reference
from graphprune.proof.survivors import Survivors
from graphprune.prune.plan import Plan
from graphprune.runtime.session import open_session
from tests.prune.widths import Array

from .building import model

TWO = """(float[n,6] x) => (float[n,4] y, float[n,3] z) { a = MatMul(x, w1)
    [norm] b = LayerNormalization <epsilon = 0.1> (a, gamma, beta)\n y = MatMul(b, w2)
    c = MatMul(x, v1)\n d = Relu(c)\n z = MatMul(d, v2) }"""


@pytest.mark.parametrize("cut", ["w1", "v1"])
def test_only_norms_whose_slots_go_become_another_function(cut: str) -> None:
    dense = model(TWO, w1=(6, 8), gamma=(8,), beta=(8,), w2=(8, 4), v1=(6, 8), v2=(8, 3))
    analysis = analyse(dense, Options(layernorm="slice", allow_inexact=True))
    group = next(group for group in analysis.prunable if group.id.startswith(cut))
    survivors = Survivors(analysis, Plan(analysis.options, {group.id: tuple(range(4))}, {group.id: 8}))
    found = build_reference(dense, survivors)
    assert [node.name for node in found.inexact] == (["norm"] if cut == "w1" else [])
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)}
    masked, whole = (open_session(each).run(feeds) for each in (found.model, dense))
    same, other = ("z", "y") if cut == "w1" else ("y", "z")
    np.testing.assert_allclose(masked[same], whole[same], rtol=1e-5, atol=1e-6)
    assert np.abs(masked[other] - whole[other]).max() > 0.01


REDUCED = {
    "ReduceSum": lambda x: x.sum(axis=1),
    "ReduceMax": lambda x: x.max(axis=1),
    "ReduceMin": lambda x: x.min(axis=1),
}


@pytest.mark.parametrize("op", REDUCED)
@pytest.mark.parametrize("to", [ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_reduction_sees_only_what_stays_in_floats_and_in_integers(
    op: str, to: ir.DataType, sign: int
) -> None:
    """Zero does for a sum; the least and the largest number for a maximum and a minimum of either sign."""
    w1 = sign * np.arange(1, 9, dtype=np.float32).reshape(1, 8)
    dense = model(
        f"""(float[n,1] x) => (float[n,1] y) {{ a = MatMul(x, w1)\n i = Cast <to = {to.value}> (a)
        s = {op} <keepdims = 1> (i, axes)\n y = Cast <to = 1> (s) }}""",
        opset=18,
        w1=w1,
        axes=np.array([1]),
    )
    analysis = analyse(dense)
    (group,) = analysis.groups
    plan = Plan(analysis.options, {group.id: (2, 3, 4)}, {group.id: 8})
    found = open_session(build_reference(dense, Survivors(analysis, plan)).model).run(
        {"x": np.ones((2, 1), np.float32)}
    )
    expected: Array = REDUCED[op](w1[:, 2:5])
    np.testing.assert_array_equal(found["y"], np.tile(expected, (2, 1)))


@pytest.mark.parametrize(("op", "kept"), [("ReduceMax", False), ("ReduceMin", True)])
def test_a_reduction_of_truth_values_sees_only_what_stays(op: str, kept: bool) -> None:
    """The removed slots are what would decide it."""
    w1 = np.full((1, 8), float(not kept), np.float32)
    w1[:, 2:5] = kept
    dense = model(
        f"""(float[n,1] x) => (bool[n,1] y) {{ a = MatMul(x, w1)\n i = Cast <to = 9> (a)
        y = {op} <keepdims = 1> (i, axes) }}""",
        opset=20,
        w1=w1,
        axes=np.array([1]),
    )
    analysis = analyse(dense)
    (group,) = analysis.groups
    plan = Plan(analysis.options, {group.id: (2, 3, 4)}, {group.id: 8})
    reference = build_reference(dense, Survivors(analysis, plan)).model
    assert open_session(reference).run({"x": np.ones((1, 1), np.float32)})["y"].item() is kept


@pytest.mark.parametrize(
    ("kind", "least", "lowest", "highest"),
    [
        ("FLOAT", -1e9, float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)),
        ("FLOAT16", -65504, -65504, 65504),
        ("INT64", -(10**9), -(2**63), 2**63 - 1),
        ("INT8", -128, -128, 127),
        ("UINT8", 0, 0, 255),
        ("BOOL", 0, 0, 1),
    ],
)
def test_what_a_removed_slot_reads_as_is_a_number_of_its_type(
    kind: str, least: float, lowest: float, highest: float
) -> None:
    found = [_filler(fill, ir.DataType[kind]) for fill in ("zero", "-inf", "lowest", "highest")]
    assert found == [0, least, lowest, highest]
