"""Every edit in every form that files give it: old and new operator sets, defaults, negative axes, halves."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Options
from graphprune.proof.prove import prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.inputs import runnable_inputs
from tests.axes.claims import proves, sketch
from tests.proof.building import cut, model

HALF = np.array(0.5, np.float32)
WIDE = "(float[2,5,4] x) => (float[2,5,3] y) {{ a = MatMul(x, u)\n {edit}\n y = MatMul(b, v) }}"

FORMS: dict[str, tuple[str, int, int, dict[str, object]]] = {
    # what is between two layers of 8 and `width` channels, its opset, the width, and its constants
    "pads of all axes": ("b = Pad(a, pads)", 11, 11, {"pads": np.array([0, 0, 1, 0, 0, 2])}),
    "pads of one axis": ("b = Pad(a, pads, half, last)", 18, 11,
                         {"pads": np.array([1, 2]), "half": HALF, "last": np.array([-1])}),
    "pads of two axes": ("c = Pad(a, pads, half, axes)\n b = Slice(c, zero, five, one)", 18, 11,
                         {"pads": np.array([0, 1, 1, 2]), "half": HALF, "axes": np.array([1, 2]),
                          "zero": np.array([0]), "five": np.array([5]), "one": np.array([1])}),
    "a choice of slots": ("b = Gather <axis = 2> (a, at)", 18, 5, {"at": np.array([7, -8, 0, 3, -1])}),
    "a choice from the end": ("b = Gather <axis = -1> (a, at)", 18, 3, {"at": np.array([6, 2, 4])}),
    "a mean that is kept": ("m = ReduceMean <axes = [2]> (a)\n b = Sub(a, m)", 11, 8, {}),
    "a mean by an input": ("m = ReduceMean(a, last)\n b = Sub(a, m)", 18, 8, {"last": np.array([-1])}),
    "a clamp and a halving": ("c = Clip(a, none, half)\n b = Mul(c, half)", 18, 8,
                              {"half": HALF, "none": np.array(-0.5, np.float32)}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_what_stands_between_two_layers_follows_their_width(name: str) -> None:
    edit, opset, width, numbers = FORMS[name]
    analysis = sketch(WIDE.format(edit=edit), opset=opset, u=(4, 8), v=(width, 3), **numbers)
    proves(analysis, adds=int("mean" in name))  # n'/n, which a mean is multiplied by


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("kept", [(1,), (0, 2)])
@pytest.mark.parametrize("named", [True, False])
def test_a_squeeze_drops_what_it_dropped_and_not_a_width_that_became_one(
    opset: int, kept: tuple[int, ...], named: bool
) -> None:
    written = "Squeeze(m)" if not named else "Squeeze(m, axes)" if opset >= 13 else "Squeeze <axes = [1]> (m)"
    analysis = sketch(
        f"(float[2,1,4] x) => (float[2,3] y) {{ m = MatMul(x, u)\n s = {written}\n y = MatMul(s, v) }}",
        opset=opset, u=(4, 3), v=(3, 3), **({"axes": np.array([1])} if named and opset >= 13 else {}),
    )  # fmt: skip
    (group,) = analysis.prunable
    plan = Plan(analysis.options, {group.id: kept}, {group.id: 3})
    pruned = rewrite(analysis.model, analysis, plan)
    proof = prove(analysis.model, analysis, plan, pruned, [runnable_inputs(analysis.model)])
    assert proof.ok, proof.details
    (squeeze,) = (node for node in pruned.graph if node.op_type == "Squeeze")
    written_down = "axes" in squeeze.attributes or len(squeeze.inputs) > 1
    assert written_down == (named or len(kept) == 1)


@pytest.mark.parametrize("written", ["", "<epsilon = 0.3>"])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_layer_norm_is_written_out_with_what_it_has(written: str, shifted: bool, dtype: type) -> None:
    """Of values so small that epsilon counts."""
    kind = "float" if dtype is np.float32 else "float16"
    draw = np.random.default_rng(0)
    weights = {
        "u": 0.3 * draw.standard_normal((6, 8)),
        "g": draw.uniform(0.5, 2, 8),
        "w": draw.standard_normal((8, 4)),
    }
    weights |= {"b": draw.standard_normal(8)} if shifted else {}
    dense = model(
        f"""({kind}[n,6] x) => ({kind}[n,4] y) {{ a = MatMul(x, u)
        n = LayerNormalization {written} (a, g{", b" if shifted else ""})\n y = MatMul(n, w) }}""",
        **{name: array.astype(dtype) for name, array in weights.items()},
    )
    proof = cut(dense, Options(layernorm="expand")).prove()
    assert proof.ok, proof.details
    assert not proof.inexact


@pytest.mark.parametrize("written", ["", "<epsilon = 0.3>"])
def test_an_rms_norm_keeps_its_epsilon_in_proportion(written: str) -> None:
    dense = model(
        f"""(float[n,6] x) => (float[n,4] y) {{ a = MatMul(x, u)\n n = RMSNormalization {written} (a, g)
        y = MatMul(n, w) }}""",
        opset=23, u=np.full((6, 8), 1e-3, np.float32) * np.arange(1, 9, dtype=np.float32), g=(8,), w=(8, 4),
    )  # fmt: skip
    case = cut(dense, share=0.25)
    assert case.prove().ok
    (norm,) = (node for node in case.pruned.graph if node.op_type == "RMSNormalization")
    assert norm.attributes["epsilon"].as_float() == pytest.approx(4 * (0.3 if written else 1e-5))


def test_nothing_is_left_of_a_shuffle_that_became_a_gather() -> None:
    """Neither its nodes nor the shapes that they read."""
    text = """(float[n,3,4,4] x) => (float[n,2,4,4] y) { a = Conv(x, w1)\n b = Reshape(a, s1)
        t = Transpose <perm = [0, 2, 1, 3, 4]> (b)\n c = Reshape(t, s2)
        d = Conv <group = 6> (c, w2)\n y = Conv(d, w3) }"""
    weights = {"w1": (6, 3, 1, 1), "w2": (6, 1, 1, 1), "w3": (2, 6, 1, 1)}
    shapes = {"s1": np.array([0, 2, 3, 4, 4]), "s2": np.array([0, 6, 4, 4])}
    pruned = cut(model(text, **weights, **shapes)).pruned
    assert [node.op_type for node in pruned.graph] == ["Conv", "Gather", "Conv", "Conv"]
    (slots,) = pruned.graph.initializers.keys() - weights.keys()
    assert [value and value.name for value in pruned.graph[1].inputs] == ["a", slots]
