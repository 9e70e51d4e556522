"""Gates in other types than single precision: bytes read as their zero point, halves are scaled as halves."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Analysis, Options, analyse
from graphprune.axes.kept import Kept
from graphprune.axes.sublayers import find_sublayers
from graphprune.prune.gates import Candidates, Cuts, competing, gated
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import Outputs, open_session
from tests.ops.exotic_graphs import analysed, plans
from tests.ops.test_rules_quantised import PRODUCTS
from tests.proof.building import model
from tools.relations import close


def restricted(analysis: Analysis, cuts: Cuts, outputs: Outputs) -> Outputs:
    """Dense outputs without the slots that a cut takes from their axes."""
    kept = Kept(analysis, cuts)
    result = dict(outputs)
    for value in analysis.model.graph.outputs:
        name, labels = value.name or "", analysis.values.get(value, ())
        for axis, label in enumerate(labels):
            if name in result and kept.touches(label):
                result[name] = np.compress(kept.mask(label), result[name], axis=axis)
    return result


def test_a_slot_of_unsigned_bytes_that_is_gone_reads_as_the_zero_point() -> None:
    case = next(case for case in PRODUCTS if case.name == "MatMulInteger")
    analysis = analysed(case)
    session = Candidates(gated(analysis))
    for plan in plans(analysis):
        small = open_session(rewrite(analysis.model, analysis, plan)).run(case.feeds)
        assert close(restricted(analysis, plan.cuts, session.run(case.feeds, plan.cuts)), small)


def test_gates_are_cast_to_the_half_precision_of_what_they_gate() -> None:
    body = "(float16[n,4] x) => (float16[n,3] y) { a = MatMul(x, u)\n b = Sigmoid(a)\n y = MatMul(b, v) }"
    analysis = analyse(model(body, dtype=np.float16, u=(4, 8), v=(8, 3)))
    feeds = {"x": np.linspace(-1, 1, 8).reshape(2, 4).astype(np.float16)}
    session = Candidates(gated(analysis))
    for plan in plans(analysis):
        (small,) = open_session(rewrite(analysis.model, analysis, plan)).run(feeds).values()
        (found,) = session.run(feeds, plan.cuts).values()
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, small, atol=5e-3)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_sublayer_is_switched_off_in_its_own_precision(kind: type[np.floating]) -> None:
    name = {np.float16: "float16", np.float32: "float"}[kind]
    body = f"""({name}[n,4] x) => ({name}[n,4] y) {{ a = MatMul(x, u)\n b = Sigmoid(a)\n c = MatMul(b, v)
        d = Add(x, c)\n y = Tanh(d) }}"""
    analysis = analyse(model(body, dtype=kind, u=(4, 8), v=(8, 4)))
    feeds = {"x": np.linspace(-1, 1, 8).reshape(2, 4).astype(kind)}
    session = Candidates(gated(analysis, (), find_sublayers(analysis).found))
    off, on = session.run(feeds, bypassed=("c",))["y"], session.run(feeds)["y"]
    assert off.dtype == on.dtype == kind
    np.testing.assert_allclose(off, np.tanh(feeds["x"]), atol=2e-3)
    np.testing.assert_allclose(on, open_session(analysis.model).run(feeds)["y"], atol=2e-3)
    assert np.abs(on - off).max() > 0.05


def test_outputs_lose_the_slots_of_heads_that_are_cut_from_a_cache() -> None:
    """All axes that a cut touches, and no other output; what did not run is not asked for."""
    text = """(float[1,2,6] x, float[1,4,p,3] past) =>
        (float[1,2,12] y, float[1,4,t,3] present, float[1,2,6] z) {
        k0 = MatMul(x, wk)\n k1 = Reshape(k0, split)\n k2 = Transpose <perm = [0, 2, 1, 3]> (k1)
        present = Concat <axis = 2> (past, k2)\n q0 = MatMul(x, wq)\n q1 = Reshape(q0, split)
        q = Transpose <perm = [0, 2, 1, 3]> (q1)\n kt = Transpose <perm = [0, 1, 3, 2]> (present)
        s = MatMul(q, kt)\n p0 = Softmax <axis = -1> (s)\n o0 = MatMul(p0, present)
        o1 = Transpose <perm = [0, 2, 1, 3]> (o0)\n o = Reshape(o1, join)
        y = MatMul(o, wo)\n z = Relu(x) }"""
    wide = dict.fromkeys(("wk", "wq"), (6, 12))
    analysis = analyse(
        model(text, split=np.array([0, 0, 4, 3]), join=np.array([0, 0, 12]), wo=(12, 12), **wide)
    )
    sizes = {group.size: group.id for group in analysis.prunable}
    draw = np.random.default_rng(0)
    shapes = {"y": (1, 2, 12), "present": (1, 4, 7, 3), "z": (1, 2, 6)}
    outputs = {name: draw.standard_normal(shape) for name, shape in shapes.items()}
    found = restricted(analysis, {sizes[4]: (0, 3), sizes[3]: (1, 2)}, outputs)
    assert found.keys() == outputs.keys() and found["y"] is outputs["y"] and found["z"] is outputs["z"]
    np.testing.assert_array_equal(found["present"], outputs["present"][:, [0, 3]][..., [1, 2]])
    np.testing.assert_array_equal(outputs["present"].shape, (1, 4, 7, 3))
    assert restricted(analysis, {sizes[4]: (0, 3)}, {"z": outputs["z"]}).keys() == {"z"}


TWO = """(float[n,4] x) => (float[n,3] y) { [first] a = MatMul(x, u)\n [mid] n = LayerNormalization(a, g)
    [second] b = MatMul(n, v)\n c = Relu(b)\n y = MatMul(c, w) }"""


def test_groups_whose_removal_is_more_than_a_gate_get_none_and_others_do() -> None:
    analysis = analyse(
        model(TWO, u=(4, 8), g=(8,), v=(8, 6), w=(6, 3)), Options(layernorm="slice", allow_inexact=True)
    )
    made = gated(analysis)
    assert dict(made.refused) == {"u:1": "LayerNormalization 'mid' would compute another function"}
    assert set(made.groups) == {"v:1"} and not made.sublayers
    assert gated(analysis, [analysis.group("u:1")]).groups == {}


def test_gates_are_one_for_what_stays_and_zero_for_what_goes() -> None:
    analysis = analyse(
        model(TWO.replace("LayerNormalization(a, g)", "Tanh(a)"), u=(4, 8), v=(8, 6), w=(6, 3))
    )
    made = gated(analysis)
    one, two = made.groups["u:1"], made.groups["v:1"]
    every = {name: array.tolist() for name, array in made.gates().items()}
    assert every == {one: [1] * 8, two: [1] * 6}
    some = {name: array.tolist() for name, array in made.gates({"v:1": (0, 5)}, ["unknown"]).items()}
    assert some == {one: [1] * 8, two: [1, 0, 0, 0, 0, 1]}
    assert {value.name: value.shape for value in made.model.graph.inputs[1:]} == {one: (8,), two: (6,)}


@pytest.mark.parametrize(
    ("between", "rivals"),
    [
        ("c = Relu(a)", []),
        ("m = ReduceMax <axes = [1]> (a)\n c = Sub(a, m)", ["u:1"]),
        ("m = ReduceSum(a, one)\n c = Add(a, m)", []),
    ],
)
def test_units_compete_where_zero_would_win(between: str, rivals: list[str]) -> None:
    one = {"one": np.array([1])} if "one" in between else {}
    body = f"(float[2,4] x) => (float[2,3] y) {{ a = MatMul(x, u)\n {between}\n y = MatMul(c, w) }}"
    analysis = analyse(model(body, u=(4, 8), w=(8, 3), **one))
    assert [group.id for group in competing(analysis, analysis.prunable)] == rivals
    assert [group.id for group in analysis.prunable] == ["u:1"]
