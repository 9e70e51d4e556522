"""Discontinuous operators: positions are renumbered; rounding may tip a decision without failing a proof."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.proof.compare import Comparison, _renumbered
from graphprune.proof.decisions import Decision, find_decisions, unexplained
from graphprune.proof.declared import declare
from graphprune.proof.pairing import pair
from graphprune.proof.reference import build_reference
from graphprune.proof.rounding import Bounds
from graphprune.proof.survivors import Survivors

from .building import Case, cut, model

ROUTED = """(float[n,6] x) => (float[n,4] y) {
    [router] r = MatMul(x, wr)
    [best] i = ArgMax <axis = 1, keepdims = 0> (r)
    [pick] e = Gather <axis = 0> (table, i)
    [last] y = MatMul(e, w2)
}"""
GATED = """(float[n,6] x) => (float[n,4] y, float[n,3] z) {
    [wide] a = MatMul(x, w1)
    [test] b = Greater(a, limit)
    [mask] c = Where(b, a, limit)
    [last] y = MatMul(c, w2)
    [plain] z = MatMul(x, w3)
}"""


def routed() -> Case:
    return cut(model(ROUTED, wr=(6, 8), table=(8, 5), w2=(5, 4)))


def gated() -> Case:
    return cut(model(GATED, w1=(6, 8), limit=np.array(0.1, np.float32), w2=(8, 4), w3=(6, 3)))


def comparison(case: Case) -> Comparison:
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    decisions, _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    assert [decision.node.op_type for decision in decisions] == ["Greater"]
    return Comparison(survivors, case.dense, decisions, Bounds(1e-4))


@pytest.mark.parametrize("make", [routed, gated])
def test_decisions_agree(make) -> None:
    proof = make().prove()
    assert proof.ok, proof.details


def test_a_table_that_is_not_renumbered_fails() -> None:
    case = routed()
    case.tensor("table", lambda a: a[::-1])
    assert any("'table'" in line for line in case.prove().failures)


def test_a_wrong_decision_is_found_where_its_output_hides_it() -> None:
    """The inputs of a comparison are compared although only booleans leave it."""
    case = gated()
    survivors = Survivors(case.analysis, case.plan)
    kept = survivors.mask(case.analysis.values[case.dense.graph.node("wide").outputs[0]][1])
    assert kept is not None
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 8)).astype(np.float32)
    y, z = np.ones((2, 4), np.float32), rng.standard_normal((2, 3)).astype(np.float32)
    reference = {"a": a, "b": a > 0.1, "y": y * rng.random((2, 4)).astype(np.float32), "z": z}
    good = {**reference, "a": a[:, kept], "b": (a > 0.1)[:, kept]}
    same = comparison(case)
    same.add(reference, good)
    assert not same.failures()

    shifted = comparison(case)
    shifted.add(reference, {**good, "a": good["a"] + 0.01})
    assert any("input 'a' of Greater 'test'" in line for line in shifted.failures())


def test_rounding_that_tips_a_tie_hides_what_follows_it() -> None:
    case = gated()
    survivors = Survivors(case.analysis, case.plan)
    kept = survivors.mask(case.analysis.values[case.dense.graph.node("wide").outputs[0]][1])
    assert kept is not None
    rng = np.random.default_rng(0)
    a = np.full((1, 8), 3, np.float32)
    first = int(np.flatnonzero(kept)[0])
    a[0, first] = 0.1
    reference = {"a": a, "b": a > 0.1, "y": rng.random((1, 4)), "z": rng.random((1, 3))}
    nudged = a.copy()
    nudged[0, first] += 1e-6
    other = {**reference, "a": nudged[:, kept], "b": (nudged > 0.1)[:, kept], "y": rng.random((1, 4))}
    found = comparison(case)
    found.add(reference, other)
    assert not found.failures()
    assert any("rounding tipped Greater" in note for note in found.notes())
    assert any("output 'y' was never compared" in note for note in found.notes())

    wrong = comparison(case)
    wrong.add(reference, {**other, "b": ~other["b"]})
    assert any("not at ties" in line for line in wrong.failures())


def test_a_search_may_only_tip_between_ties() -> None:
    case = routed()
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    (decision,), _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    scores, picks = decision.inputs[0].reference, decision.outputs[0].reference
    values = np.array([[1.0, 1.0, 0.0]])
    a = {scores: values, picks: np.array([0])}
    assert not unexplained(decision, a, {scores: values, picks: np.array([1])}, 1e-4)
    assert "not at ties" in unexplained(decision, a, {scores: values, picks: np.array([2])}, 1e-4)
    assert "not there" in unexplained(decision, a, {scores: values, picks: np.array([7])}, 1e-4)
    for apart, tied in ((1.5, True), (2.5, False)):  # each of the two may be off by the gap
        near = {scores: np.array([[1.0, 1.0 - apart * 1e-4, 0.0]]), picks: np.array([0])}
        assert tied == (not unexplained(decision, near, {**near, picks: np.array([1])}, 1e-4))


JUMPS = {
    **dict.fromkeys(("Round", "Floor", "Ceil", "Sign", "Hardmax"), "{op}(a)"),
    **dict.fromkeys(("Less", "LessOrEqual", "GreaterOrEqual", "Equal"), "{op}(a, limit)"),
    **dict.fromkeys(("ArgMax", "ArgMin"), "{op} <axis = 1> (a)"),
    "Cast": "Cast <to = 6> (a)",
    "CastLike": "CastLike(a, kind)",
    "NonZero": "NonZero(a)",
    "QuantizeLinear": "QuantizeLinear(a, limit)",
}


@pytest.mark.parametrize("op", JUMPS)
def test_what_goes_into_an_operator_that_jumps_is_compared(op: str) -> None:
    """And what comes out of it: a kernel that takes the other side of a step shows there alone."""
    text = f"""(float[2,6] x) => (float[2,6] y) {{ [up] p = MatMul(x, w1)\n [down] a = MatMul(p, w2)
        [jump] b = {JUMPS[op].format(op=op)}\n c = Cast <to = 1> (b)\n y = MatMul(c, w3) }}"""
    rows, weight = {"ArgMax": (1, 6), "ArgMin": (1, 6), "NonZero": (12, 6)}.get(op, (6, 6)), (6, 8)
    held = {"limit": np.array(0.5, np.float32), "kind": np.array(0, np.int32)}
    held = {name: array for name, array in held.items() if name in text}
    text = text.replace("y = MatMul", "y = MatMul" if op != "NonZero" else "y = Gemm <transA = 1>")
    case = cut(model(text, w1=weight, w2=(8, 6), w3=(2, 6) if op == "NonZero" else rows, **held))
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    found, _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    assert [(each.node.op_type, [tap.value.name for tap in each.inputs]) for each in found] == [(op, ["a"])]
    assert [tap.value.name for tap in found[0].outputs] == ["b"]


def test_every_piece_of_an_output_that_is_a_sequence_is_compared() -> None:
    case = cut(model(
        """(float[4,6] x) => (seq(float[2,4]) y) { a = MatMul(x, w1)\n b = MatMul(a, w2)
        y = SplitToSequence <axis = 0> (b, two) }""",
        w1=(6, 8), w2=(8, 4), two=np.int64(2),
    ))  # fmt: skip
    proof = case.prove()
    assert proof.ok, proof.details
    assert set(proof.errors) == {"y[0]", "y[1]"}
    case.tensor("w2", lambda array: -array)
    assert {line.partition(":")[0] for line in case.prove().failures if line.startswith("output")} == {
        "output 'y[0]'",
        "output 'y[1]'",
    }


def test_decisions_that_the_plan_cannot_sway_are_not_tapped() -> None:
    text = """(float[n,6] x) => (float[n,4] y) {
        t = Greater(x, limit)
        u = Where(t, x, limit)
        a = MatMul(u, w1)
        y = MatMul(a, w2)
    }"""
    case = cut(model(text, limit=np.array(0.0, np.float32), w1=(6, 8), w2=(8, 4)))
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    decisions, hidden = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    assert not decisions and not hidden
    assert case.prove().ok


def test_a_branch_is_certified_and_noted() -> None:
    text = """(float[n,6] x, bool c) => (float[n,4] y) {
        h = MatMul(x, w1)
        y = If (c) <
            then_branch = t () => (float[n,4] p) { u = Round(h)
                p = MatMul(u, w2) },
            else_branch = e () => (float[n,4] q) { q = MatMul(h, w3) }
        >
    }"""
    case = cut(model(text, w1=(6, 8), w2=(8, 4), w3=(8, 4)))
    proof = case.prove()
    assert proof.ok, proof.details
    assert proof.certificate.compared == 3
    assert any("inside a branch" in note for note in proof.notes)
    name = next(n for n, v in case.pruned.graph.initializers.items() if n == "w3")
    case.tensor(name, lambda a: -a)
    wrong = case.prove()
    assert any("'w3'" in line for line in wrong.failures), "the branch that is not taken is certified too"


def test_replaced_weights_make_a_model_swayable() -> None:
    case = gated()
    plan = replace(case.plan, cuts={}, widths={}, replaced={"w1": np.ones((6, 8), np.float32)})
    survivors = Survivors(case.analysis, plan)
    reference = build_reference(case.dense, survivors)
    value = reference.model.graph.initializers["w1"].const_value
    assert isinstance(value, ir.Tensor) and np.array_equal(value.numpy(), np.ones((6, 8)))
    assert case.dense.graph.initializers["w1"].const_value is not value


@pytest.mark.parametrize(("apart", "tied"), [(0.0, True), (0.5, True), (0.625, False)])
@pytest.mark.parametrize("kind", ["comparison", "search"])
def test_a_decision_may_tip_up_to_twice_the_gap_and_no_further(kind: str, apart: float, tied: bool) -> None:
    """Each side of a tie may be off by the gap, here a quarter: numbers without rounding."""
    case = gated() if kind == "comparison" else routed()
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    (decision,), _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    given, result = decision.inputs[0].reference, decision.outputs[0].reference
    if kind == "comparison":
        decision = replace(decision, constants=(np.zeros(()),))
        values, one, two = np.array([-apart]), np.array([False]), np.array([True])
    else:
        values, one, two = np.array([[0.0, -apart]]), np.array([0]), np.array([1])
    found = unexplained(decision, {given: values, result: one}, {given: values, result: two}, 0.25)
    assert (not found) == tied


@pytest.mark.parametrize(
    ("op", "attributes", "axis"),
    [
        ("ArgMax", {}, 0),
        ("ArgMin", {"axis": 1}, 1),
        ("ArgMax", {"axis": -1}, 2),
        ("TopK", {}, 2),
        ("TopK", {"axis": 0}, 0),
    ],
)
@pytest.mark.parametrize("keeps", [True, False])
def test_a_search_is_judged_along_its_own_axis(
    op: str, attributes: dict[str, int], axis: int, keeps: bool
) -> None:
    """Slots 0 and 1 tie along this axis alone; all other neighbours are far apart."""
    draw = np.random.default_rng(1)
    values = draw.permutation(3 * 4 * 5).reshape(3, 4, 5).astype(np.float32)
    first = [slice(None)] * 3
    first[axis] = slice(0, 1)
    second = [slice(None)] * 3
    second[axis] = slice(1, 2)
    values[tuple(second)] = values[tuple(first)] + 0.25
    case = routed()
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    (decision,), _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    decision = replace(decision, node=ir.node(op, [ir.val("s")], attributes))
    given, picks = decision.inputs[0].reference, decision.outputs[0].reference
    zeros = np.zeros_like(values[tuple(first)], np.int64)
    for slot, tied in ((1, True), (2, False)):
        one, two = zeros, np.full_like(zeros, slot)
        if not keeps and op != "TopK":
            one, two = one.squeeze(axis), two.squeeze(axis)
        found = unexplained(decision, {given: values, picks: one}, {given: values, picks: two}, 0.25)
        assert (not found) == tied
    beyond = np.full_like(zeros, values.shape[axis])
    found = unexplained(decision, {given: values, picks: beyond}, {given: values, picks: zeros}, 0.25)
    assert "a position that is not there" in found


def test_all_that_differs_must_be_at_ties() -> None:
    """One tie among two results that differ excuses itself alone."""
    case = gated()
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    (decision,), _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    given, result = decision.inputs[0].reference, decision.outputs[0].reference
    decision = replace(decision, constants=(np.zeros(()),))
    values, one, two = np.array([0.0, 3.0]), np.array([False, True]), np.array([True, False])
    found = unexplained(decision, {given: values, result: one}, {given: values, result: two}, 0.25)
    assert "not at ties" in found


@pytest.mark.parametrize("cast", ["Cast <to = 10> (a)", "CastLike(a, half)"])
def test_a_cast_between_floats_decides_nothing(cast: str) -> None:
    half = {"half": np.array(0, np.float16)} if "half" in cast else {}
    text = f"""(float[2,6] x) => (float16[2,6] y) {{ p = MatMul(x, w1)\n a = MatMul(p, w2)\n y = {cast} }}"""
    case = cut(model(text, w1=(6, 8), w2=(8, 6), **half))
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    reference = build_reference(case.dense, survivors)
    assert find_decisions(case.dense, survivors, reference, pairing) == ([], [])


ROUNDED = ("Round", "Floor", "Ceil", "Cast", "CastLike", "QuantizeLinear", "DynamicQuantizeLinear")


@pytest.mark.parametrize("op", ROUNDED)
@pytest.mark.parametrize(("steps", "explained"), [(1, True), (-1, True), (2, False)])
def test_rounding_explains_one_step_and_no_more(op: str, steps: int, explained: bool) -> None:
    """Also in unsigned bytes, whose differences wrap."""
    decision = replace(
        only_decision(routed()), node=ir.node(op, [ir.val("s")], {"to": 3} if op == "Cast" else {})
    )
    given, result = decision.inputs[0].reference, decision.outputs[0].reference
    one, two = np.array([[9, 7]], np.uint8), np.array([[9 + steps, 7]], np.uint8)
    a, b = ({given: np.zeros((1, 2)), result: array} for array in (one, two))
    assert (not unexplained(decision, a, b, 0.25)) == explained == (not unexplained(decision, b, a, 0.25))


@pytest.mark.parametrize("op", ["NonZero", "NonMaxSuppression", "Round", "TopK"])
def test_only_what_counts_its_results_may_give_more_of_them(op: str) -> None:
    decision = replace(only_decision(routed()), node=ir.node(op, [ir.val("s")]))
    given, result = decision.inputs[0].reference, decision.outputs[0].reference
    a, b = ({given: np.zeros((1, 2)), result: np.zeros((1, count), np.int64)} for count in (2, 3))
    assert (not unexplained(decision, a, b, 0.25)) == op.startswith("Non")


def only_decision(case: Case) -> Decision:
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    (decision,), _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    return decision


TWICE = """(float[n,6] x) => (float[n,4] y, float[n,3] z) {
    a = MatMul(x, w1)\n p = MatMul(a, w2)\n [first] b = Greater(p, limit)\n c = Where(b, p, limit)
    [second] d = Less(c, p)\n e = Cast <to = 1> (d)\n y = MatMul(e, w3)\n z = MatMul(x, w4) }"""


@pytest.mark.parametrize("tipped", [True, False])
def test_a_decision_of_what_was_tipped_is_not_compared_though_its_other_side_was_not(tipped: bool) -> None:
    case = cut(model(TWICE, w1=(6, 8), w2=(8, 5), w3=(5, 4), w4=(6, 3), limit=np.array(0.1, np.float32)))
    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    decisions, _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    assert [each.node.name for each in decisions] == ["first", "second"]
    found = Comparison(survivors, case.dense, decisions, Bounds(1e-4))
    kept = survivors.mask(case.analysis.values[decisions[0].node.inputs[0]][1])  # type: ignore[index]
    assert kept is not None
    p, near = np.full((1, 5), 3.0, np.float32), np.arange(5) == np.flatnonzero(kept)[0]
    p[0, near] = np.float32(0.1) + (1e-6 if tipped else 1.0)
    draw = np.random.default_rng(0)
    reference = {"p": p, "b": p > 0.1, "c": p, "d": p < 0, "y": draw.random((1, 4)), "z": draw.random((1, 3))}
    cut_ones = {"p": p - np.float32(2e-6) * tipped, "b": (p > 0.1) & ~(near & tipped), "c": p - 1, "d": p > 0}
    other = {
        **reference,
        **{name: array[:, kept] for name, array in cut_ones.items()},
        "y": draw.random((1, 4)),
    }
    found.add(reference, other)
    assert bool(found.failures()) != tipped
    assert any("rounding tipped Greater 'first'" in note for note in found.notes()) == tipped


def test_functions_of_positions_are_numbered_anew() -> None:
    """Slots 0, 2 and 3 of four stay; a table says what is made of a position, and may hold halves."""
    number, table = np.array([0, -1, 1, 2]), np.array([0.5, 1.5, 2.5, 3.5])
    found = _renumbered(np.array([[0.5, 2.5], [3.5, 1.5], [0.5, 3.5]], np.float32), number, table)
    assert found.tolist() == [[0.5, 1.5], [2.5, -1.0], [0.5, 2.5]] and found.dtype == np.float32
    assert _renumbered(np.array(2.4), number, table) == 1.5, "the nearest entry"
    assert _renumbered(np.array([3, 0]), number, np.arange(4)).tolist() == [2, 0]
