"""A rewrite that is wrong in one place fails its proof, and the message names that place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Options
from graphprune.proof import Proof, prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite

from .building import Case, cut, model

EXPAND = Options(layernorm="expand")


def failed(proof: Proof, *words: str) -> bool:
    """Whether the proof failed with one line that holds all these words."""
    return not proof.ok and any(all(word in line for word in words) for line in proof.failures)


def test_the_correct_rewrite_passes(conv: Case) -> None:
    proof = conv.prove()
    assert proof.ok, proof.details


def flip(array: np.ndarray) -> np.ndarray:
    bits = array.view(np.uint32)
    bits.reshape(-1)[5] ^= 1
    return array


WRONG: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "one bit": ("w2", flip),
    "sign of zero": ("b1", lambda a: a * np.where(np.arange(a.size) == 0, -1, 1).astype(np.float32)),
    "columns swapped": ("w2", lambda a: a[:, [1, 0, *range(2, a.shape[1])]]),
    "rows swapped": ("w1", lambda a: a[[1, 0, *range(2, a.shape[0])]]),
    "scaled": ("gamma", lambda a: a * np.float32(1.001)),
    "zeroed": ("w1", np.zeros_like),
    "not a number": ("mean", lambda a: np.full_like(a, np.nan)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_changed_tensor_is_named(conv: Case, name: str) -> None:
    tensor, change = WRONG[name]
    conv.tensor(tensor, change)
    assert failed(conv.prove(), "tensor", repr(tensor), "differ from the plan")


def test_another_type_is_named(conv: Case) -> None:
    conv.tensor("b1", lambda a: a.astype(np.float64))
    assert failed(conv.prove(), "'b1'", "type became DOUBLE")


def test_a_whole_tensor_where_the_plan_cuts_is_named(conv: Case) -> None:
    dense = np.array(conv.dense.graph.initializers["beta"].const_value.numpy())
    conv.tensor("beta", lambda a: dense)
    assert failed(conv.prove(), "'beta'", "shape")


def test_another_choice_of_channels_fails(conv: Case) -> None:
    """Consistent shapes, right function of another plan: only the certificate can tell."""
    name = next(iter(conv.plan.cuts))
    other = tuple(sorted(set(range(conv.plan.widths[name])) - set(conv.plan.cuts[name])))
    wrong = rewrite(conv.dense, conv.analysis, replace(conv.plan, cuts={name: other}))
    proof = conv.prove(wrong)
    assert failed(proof, "'w1'") and failed(proof, "'w2'") and failed(proof, "output 'y'")


def test_an_attribute_that_nothing_declares_fails(conv: Case) -> None:
    conv.node("norm").attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.5)
    assert failed(conv.prove(), "attribute 'epsilon'", "'norm'")


def test_another_operator_fails(conv: Case) -> None:
    node = conv.node("act")
    node.op_type = "Sigmoid"
    assert failed(conv.prove(), "'act'", "no counterpart")


def test_a_node_that_is_bypassed_fails(conv: Case) -> None:
    conv.node("second").replace_input_with(0, conv.node("norm").outputs[0])
    assert failed(conv.prove(), "input 0", "'second'", "wired to something else")


def test_an_inserted_node_needs_a_declared_edit(conv: Case) -> None:
    act = conv.node("act")
    extra = ir.node("Neg", [act.outputs[0]], name="graphprune/Neg/1")
    extra.outputs[0].name = "graphprune/Neg/1"
    conv.pruned.graph.insert_after(act, extra)
    conv.node("second").replace_input_with(0, extra.outputs[0])
    assert failed(conv.prove(), "nothing declares")


DEPTHWISE = """(float[n,3,8,8] x) => (float[n,5,6,6] y) {
    [first] a = Conv(x, w1)
    [depth] b = Conv <group = 8> (a, w2)
    [last] y = Conv(b, w3)
}"""


def test_a_forgotten_group_attribute_is_named() -> None:
    case = cut(model(DEPTHWISE, w1=(8, 3, 1, 1), w2=(8, 1, 3, 3), w3=(5, 8, 1, 1)))
    case.node("depth").attributes["group"] = ir.AttrInt64("group", 8)
    assert failed(case.prove(), "attribute 'group'", "'depth'", "must be 4, not 8")


MEAN = """(float[n,6] x) => (float[n,9] y) {
    [wide] a = MatMul(x, w1)
    [mean] b = ReduceMean <axes = [1], keepdims = 1> (a)
    [act] c = Relu(b)
    [last] y = MatMul(c, w2)
}"""


def test_a_forgotten_mean_correction_fails_in_the_run() -> None:
    case = cut(model(MEAN, w1=(6, 8), w2=(1, 9)))
    assert case.prove().ok
    case.node("act").replace_input_with(0, case.node("mean").outputs[0])
    proof = case.prove()
    assert not proof.certificate.differences, "weights and attributes are as planned"
    assert failed(proof, "output 'y'", "relative difference")


RMS = """(float[n,6] x) => (float[n,4] y) {
    [wide] a = MatMul(x, w1)
    [norm] b = RMSNormalization <epsilon = 0.1> (a, gamma)
    [last] y = MatMul(b, w2)
}"""


@pytest.mark.parametrize("what", ["gamma", "epsilon"])
def test_a_forgotten_rms_compensation_is_named(what: str) -> None:
    case = cut(model(RMS, opset=23, w1=(6, 8), gamma=(8,), w2=(8, 4)))
    assert case.prove().ok
    if what == "gamma":
        case.tensor("gamma", lambda a: a / np.float32(np.sqrt(2)))
    else:
        case.node("norm").attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.1)
    assert failed(case.prove(), repr(what), "'norm'")


@pytest.mark.parametrize("steps", [3, 64, -3])
def test_a_compensated_weight_may_be_off_by_its_two_roundings_and_no_more(steps: int) -> None:
    """Just above a power of two a step is as large as it gets, relative to the number."""
    gamma = np.full(8, 1.01 / np.sqrt(0.5), np.float32)
    case = cut(model(RMS, opset=23, w1=(6, 8), gamma=gamma, w2=(8, 4)))
    assert case.prove().ok
    case.tensor("gamma", lambda a: np.where(np.arange(a.size) == 1, a + steps * np.spacing(a), a))
    assert failed(case.prove(), "'gamma'", "1 of 4 elements", "[1]")


def test_a_compensated_weight_of_zero_stays_zero() -> None:
    gamma = np.arange(8, dtype=np.float32)
    case = cut(model(RMS, opset=23, w1=(6, 8), gamma=gamma - gamma[case_kept()[0]], w2=(8, 4)))
    assert case.prove().ok
    case.tensor("gamma", lambda a: a + np.where(a == 0, np.float32(1e-30), np.float32(0)))
    assert failed(case.prove(), "'gamma'", "1 of 4 elements")


def case_kept() -> tuple[int, ...]:
    """The Units that such a cut keeps."""
    (kept,) = cut(model(RMS, opset=23, w1=(6, 8), gamma=(8,), w2=(8, 4))).plan.cuts.values()
    return kept


LAYERNORM = """(float[n,6] x) => (float[n,4] y) {
    [wide] a = MatMul(x, w1)
    [m1] m = ReduceMean <axes = [1]> (a)
    [centre] d = Sub(a, m)
    [square] s = Mul(d, d)
    [m2] v = ReduceMean <axes = [1]> (s)
    [add] e = Add(v, eps)
    [root] r = Sqrt(e)
    [unit] u = Div(d, r)
    [last] y = MatMul(u, w2)
}"""


def test_a_forgotten_variance_correction_fails_in_the_run() -> None:
    dense = model(LAYERNORM, w1=(6, 8), w2=(8, 4), eps=np.array(0.1, np.float32))
    case = cut(dense, EXPAND)
    assert case.prove().ok, case.prove().details
    case.node("add").replace_input_with(0, case.node("m2").outputs[0])
    assert failed(case.prove(), "output 'y'")


def test_plain_slicing_of_a_layernorm_is_not_its_exact_expansion() -> None:
    """The inexact rewrite of the same cut must fail the proof of the exact one."""
    text = """(float[n,6] x) => (float[n,4] y) {
        [wide] a = MatMul(x, w1)
        [norm] b = LayerNormalization(a, gamma, beta)
        [last] y = MatMul(b, w2)
    }"""
    dense = model(text, w1=(6, 8), gamma=(8,), beta=(8,), w2=(8, 4))
    sliced = cut(dense, Options(layernorm="slice", allow_inexact=True))
    exact = cut(dense, EXPAND, plan=replace(sliced.plan, options=EXPAND))
    assert sliced.prove().ok
    assert failed(exact.prove(sliced.pruned), "output 'y'")


SPLIT = """(float[n,6] x) => (float[n,4] y) {
    [wide] a = MatMul(x, w1)
    [split] b, c = Split <axis = 1> (a, sizes)
    [act] d = Sigmoid(b)
    [gate] e = Concat <axis = 1> (d, c)
    [last] y = MatMul(e, w2)
}"""


def test_wrong_split_sizes_are_named() -> None:
    case = cut(model(SPLIT, w1=(6, 12), w2=(12, 4), sizes=np.array([4, 8])), share=0.75)
    assert case.prove().ok, case.prove().details
    value = case.node("split").inputs[1]
    assert value is not None and value.const_value is not None
    sizes = np.array(value.const_value.numpy())
    value.const_value = ir.tensor(sizes + np.array([1, -1]), name=value.name)
    assert failed(case.prove(), "'sizes'", "'split'")


GROUPED = """(float[n,3,8,8] x) => (float[n,5,6,6] y) {
    [first] a = Conv(x, w1)
    [group] b = Conv <group = 2> (a, w2)
    [last] y = Conv(b, w3)
}"""


def test_a_block_that_reads_the_columns_of_another_is_named() -> None:
    case = cut(model(GROUPED, w1=(8, 3, 1, 1), w2=(12, 4, 3, 3), w3=(5, 12, 1, 1)))
    rows = case.node("group").inputs[1].const_value.shape[0]
    case.tensor("w2", lambda a: np.concatenate([a[: rows // 2], a[rows // 2 :, ::-1]]))
    assert failed(case.prove(), "'w2'", "differ from the plan")


def test_a_plan_that_is_not_legal_is_refused(conv: Case) -> None:
    name, kept = next(iter(conv.plan.cuts.items()))
    pinned = next(group for group in conv.analysis.groups if group.pin is not None)
    for cuts, word in (
        ({"nowhere:0": (0,)}, "does not have"),
        ({name: ()}, "which needs 1"),
        ({name: (*kept, 99)}, "do not exist"),
        ({pinned.id: (0,)}, "pinned"),
    ):
        plan = Plan(conv.plan.options, cuts, dict.fromkeys(cuts, 8))
        assert failed(prove(conv.dense, conv.analysis, plan, conv.pruned, conv.feeds), word)


def test_unequal_blocks_are_refused() -> None:
    case = cut(model(GROUPED, w1=(8, 3, 1, 1), w2=(12, 4, 3, 3), w3=(5, 12, 1, 1)))
    name = next(group.id for group in case.analysis.prunable if group.block is not None)
    plan = replace(case.plan, cuts={**case.plan.cuts, name: tuple(range(case.plan.widths[name] - 1))})
    assert failed(prove(case.dense, case.analysis, plan, case.pruned, case.feeds), "unequal blocks")


def test_no_inputs_prove_nothing(conv: Case) -> None:
    assert failed(prove(conv.dense, conv.analysis, conv.plan, conv.pruned, []), "no inputs")


def test_a_constant_output_proves_nothing() -> None:
    text = "(float[n,6] x) => (float[n,4] y) { h = MatMul(x, w1)\n r = Relu(h)\n y = MatMul(r, w2) }"
    proof = cut(model(text, w1=(6, 8), w2=np.zeros((8, 4), np.float32))).prove()
    assert failed(proof, "no output proves anything", "constant")


def test_an_output_that_is_not_finite_is_never_equal(conv: Case) -> None:
    feeds = [{"x": np.full((1, 3, 8, 8), np.inf, np.float32)}]
    assert failed(prove(conv.dense, conv.analysis, conv.plan, conv.pruned, feeds), "output 'y'", "NaN")


def test_a_pruned_model_that_does_not_run_fails_with_the_reason(conv: Case) -> None:
    conv.tensor("w2", lambda a: a[:, :-1])
    proof = conv.prove()
    assert failed(proof, "'w2'", "shape")
    assert failed(proof, "ONNX Runtime") or failed(proof, "does not run")


def test_the_proof_changes_neither_model(conv: Case) -> None:
    before = [ir.to_proto(m).SerializeToString() for m in (conv.dense, conv.pruned)]
    conv.prove()
    assert before == [ir.to_proto(m).SerializeToString() for m in (conv.dense, conv.pruned)]


def test_an_input_that_is_lost_is_named(conv: Case) -> None:
    conv.node("first").resize_inputs(2)
    assert failed(conv.prove(), "input 2 of Conv 'first' is not an initializer in both models")


def test_an_input_that_the_dense_node_leaves_out_stays_out() -> None:
    case = cut(
        model(
            """(float[n,4] x) => (float[n,3] y) { h = MatMul(x, w)\n [clip] c = Clip(h, , high)
            y = MatMul(c, v) }""",
            w=(4, 8),
            high=np.float32(0.5),
            v=(8, 3),
        )
    )
    clip = case.node("clip")
    clip.replace_input_with(1, clip.inputs[2])
    assert failed(case.prove(), "input 1 of Clip 'clip' is wired to something else")


def test_an_input_that_a_declared_edit_would_change_must_be_there() -> None:
    case = cut(
        model(
            """(float[n,4] x) => (float[n,3] y) { h = MatMul(x, w)\n [cut] a, b = Split <axis = 1> (h, sizes)
            c = Mul(a, b)\n y = MatMul(c, v) }""",
            w=(4, 8),
            sizes=np.array([4, 4]),
            v=(4, 3),
        )
    )
    assert case.prove().ok
    case.node("cut").resize_inputs(1)
    assert failed(case.prove(), "'sizes' at Split 'cut' must be")


def test_a_value_further_on_does_not_stand_for_the_one_it_is_made_of() -> None:
    """Only inserted nodes may lie between a value and its reader, not nodes of the model itself."""
    case = cut(
        model(
            """(float[n,4] x) => (float[n,3] y) { h = MatMul(x, w)\n a = Relu(h)\n b = Tanh(a)
            [sum] c = Add(a, b)\n y = MatMul(c, v) }""",
            w=(4, 8),
            v=(8, 3),
        )
    )
    total = case.node("sum")
    total.replace_input_with(0, total.inputs[1])
    assert failed(case.prove(), "input 0 of Add 'sum' is wired to something else")


def test_a_wrong_weight_behind_an_expanded_norm_is_named() -> None:
    case = cut(model(
        "(float[n,6] x) => (float[n,4] y) { [wide] a = MatMul(x, w1)\n"
        " [norm] b = LayerNormalization(a, g, s)\n [last] y = MatMul(b, w2) }",
        w1=(6, 8), g=(8,), s=(8,), w2=(8, 4),
    ), EXPAND)  # fmt: skip
    assert case.prove().certificate.compared == 4
    for name in ("g", "s"):
        wrong = cut(case.dense, EXPAND, plan=case.plan)
        wrong.tensor(name, lambda array: array * np.float32(1 + 1e-6))
        assert failed(wrong.prove(), f"tensor '{name}' of LayerNormalization 'norm'", "is not read")


SAYS_NOTHING = """(float[n,6] x) => (float[n,4] y) { [wide] a = MatMul(x, w1)\n [act] b = Relu(a)
    [last] y = MatMul(b, w2) }"""


def test_a_proof_of_outputs_that_never_vary_is_silent_unless_something_is_wrong() -> None:
    case = cut(model(SAYS_NOTHING, w1=(6, 8), w2=np.zeros((8, 4), np.float32)))
    proof = case.prove()
    assert not proof.ok and proof.silent and failed(proof, "no output proves anything")
    case.tensor("w1", flip)
    wrong = case.prove()
    assert not wrong.ok and not wrong.silent and failed(wrong, "'w1'")


def test_a_proof_that_holds_or_fails_is_not_silent(conv: Case) -> None:
    assert not conv.prove().silent
    conv.tensor("w2", lambda a: -a)
    assert not conv.prove().silent
