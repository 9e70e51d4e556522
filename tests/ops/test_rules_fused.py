"""Fused operators, experts, control flow and operators that read axes by position."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Options, analyse
from graphprune.ir.normalise import normalise
from graphprune.ops import BY_OP, TABLE, record_of
from tests.ops.exotic_graphs import Case, NodeRow, analysed, floats, holds, reasons, scales, unsigned

MS = "com.microsoft:"
X, IMAGE = {"x": floats(2, 5, 7)}, {"x": floats(2, 3, 6, 6)}
INEXACT = Options(layernorm="slice", allow_inexact=True)
ENDS = {"w0": (7, 12), "w1": (12, 4)}


def between(*middle: NodeRow) -> list[NodeRow]:
    """x -> MatMul -> h, the middle, r -> MatMul -> y."""
    return [("MatMul", ["x", "w0"], ["h"], {}), *middle, ("MatMul", ["r", "w1"], ["y"], {})]


SKIP = {"w0": (7, 12), "wb": (7, 12), "g": (12,), "be": (12,), "bi": (12,), "w1": (12, 4), "w2": (12, 4)}
SIDE: list[NodeRow] = [("MatMul", ["x", "wb"], ["b"], {}), ("MatMul", ["s", "w2"], ["z"], {})]
SKIP_NORM = [
    SIDE[0],
    (MS + "SkipLayerNormalization", ["h", "b", "g", "be", "bi"], ["r", "", "", "s"], {"epsilon": 1e-5}),
    SIDE[1],
]
SKIP_RMS = [
    SIDE[0],
    (MS + "SkipSimplifiedLayerNormalization", ["h", "b", "g", "bi"], ["r", "", "", "s"], {"epsilon": 1e-3}),
    SIDE[1],
]
IDS = {"ids": np.arange(10, dtype=np.int32).reshape(2, 5), "seg": np.eye(2, 5, dtype=np.int32)}
FUSED = [
    Case(
        "FusedMatMul, BiasGelu, FastGelu",
        X,
        {"w0": (7, 12), "bb": (12,), "wm": (9, 12), "bf": (9,), "w1": (9, 4)},
        [
            (MS + "FusedMatMul", ["x", "w0"], ["h"], {"alpha": 0.5}),
            (MS + "BiasGelu", ["h", "bb"], ["h1"], {}),
            (MS + "FusedMatMul", ["h1", "wm"], ["g"], {"transB": 1}),
            (MS + "FastGelu", ["g", "bf"], ["r0"], {}),
            (MS + "QuickGelu", ["r0"], ["r"], {}),
            ("MatMul", ["r", "w1"], ["y"], {}),
        ],
        ["y"],
        [9, 12],
    ),
    Case(
        "FusedMatMul of two activations",
        X,
        {"w0": (7, 12), "wb": (7, 12), "w1": (5, 4)},
        [
            ("MatMul", ["x", "w0"], ["h"], {}),
            ("MatMul", ["x", "wb"], ["b"], {}),
            (MS + "FusedMatMul", ["h", "b"], ["r"], {"transB": 1}),
            ("MatMul", ["r", "w1"], ["y"], {}),
        ],
        ["y"],
        [12],
    ),
    Case(
        "FusedGemm",
        {"x": floats(5, 7)},
        {"w0": (12, 7), "b": (12,), "w1": (12, 4)},
        [
            (MS + "FusedGemm", ["x", "w0", "b"], ["r"], {"transB": 1, "activation": "Relu"}),
            ("MatMul", ["r", "w1"], ["y"], {}),
        ],
        ["y"],
        [12],
    ),
    Case("SkipLayerNormalization", X, SKIP, between(*SKIP_NORM), ["y", "z"], []),
    Case("SkipLayerNormalization, sliced", X, SKIP, between(*SKIP_NORM), ["y", "z"], [12], INEXACT),
    Case("SkipSimplifiedLayerNormalization", X, SKIP, between(*SKIP_RMS), ["y", "z"], [12]),
    Case(
        "EmbedLayerNormalization",
        IDS,
        {"we": (20, 12), "pe": (10, 12), "se": (2, 12), "g": (12,), "b": (12,), "w1": (12, 4)},
        [
            (MS + "EmbedLayerNormalization", ["ids", "seg", "we", "pe", "se", "g", "b"], ["r", "m"], {}),
            ("MatMul", ["r", "w1"], ["y"], {}),
        ],
        ["y"],
        [12],
        INEXACT,
    ),
    Case(
        "CausalConvWithState",
        X,
        {**ENDS, "w": (12, 1, 4), "b": (12,), "s": (2, 12, 3)},
        between(
            ("Transpose", ["h"], ["t"], {"perm": [0, 2, 1]}),
            (MS + "CausalConvWithState", ["t", "w", "b", "s"], ["c", "n"], {"activation": "silu"}),
            ("Transpose", ["c"], ["r"], {"perm": [0, 2, 1]}),
        ),
        ["y"],
        [12],
    ),
    Case(
        "GroupNorm",
        {"x": floats(2, 6, 6, 7)},
        {**ENDS, "g": (12,), "b": (12,)},
        between((MS + "GroupNorm", ["h", "g", "b"], ["r"], {"groups": 4, "activation": 1})),
        ["y"],
        [4],
        runs=False,
    ),
    Case(
        "BiasSplitGelu",
        X,
        {"w0": (7, 12), "b": (12,), "w1": (6, 4)},
        between((MS + "BiasSplitGelu", ["h", "b"], ["r"], {})),
        ["y"],
        [6],
        runs=False,
    ),
    Case(
        "NhwcConv",
        {"x": floats(2, 6, 6, 3)},
        {"w0": (8, 3, 3, 3), "b0": (8,), "w1": (4, 8, 1, 1)},
        [(MS + "NhwcConv", ["x", "w0", "b0"], ["h"], {}), (MS + "NhwcConv", ["h", "w1"], ["y"], {})],
        ["y"],
        [8],
        runs=False,
        shapes={"h": (2, 4, 4, 8), "y": (2, 4, 4, 4)},
    ),
]


@pytest.mark.parametrize("case", FUSED, ids=lambda case: case.name)
def test_fused_operators_are_the_sum_of_their_parts(case: Case) -> None:
    holds(case)


EXPERTS, HIDDEN, INNER = 6, 8, 10


def mixture(activation: str, fused: int = 0, third: bool = False) -> Case:
    rows = INNER * (2 if fused else 1)
    stacks = {
        "f1": (EXPERTS, rows, HIDDEN),
        "b1": (EXPERTS, rows),
        "f2": (EXPERTS, HIDDEN, INNER),
        "b2": (EXPERTS, HIDDEN),
        **({"f3": (EXPERTS, INNER, HIDDEN)} if third else {}),
    }
    router = {"w0": (7, HIDDEN), "wr": (7, EXPERTS), "w1": (HIDDEN, 4), "to": np.array([-1, EXPERTS])}
    attributes = {
        "k": 2,
        "activation_type": activation,
        "swiglu_fusion": fused,
        "normalize_routing_weights": 1,
    }
    nodes = between(
        ("MatMul", ["x", "wr"], ["p3"], {}),
        ("Reshape", ["p3", "to"], ["p"], {}),
        (MS + "MoE", ["h", "p", *stacks], ["r"], attributes),
    )
    # The CPU kernel refuses fc3 and the layout with gate and linear part side by side.
    runs = not third and fused < 2
    name = f"{activation} fused={fused} fc3={third}"
    return Case(name, X, router | stacks, nodes, ["y"], [EXPERTS, HIDDEN, HIDDEN, INNER], runs=runs)


@pytest.mark.parametrize(
    "case",
    [mixture("relu"), mixture("swiglu", 1), mixture("swiglu", 2), mixture("silu", 0, True)],
    ids=lambda case: case.name,
)
def test_experts_inner_width_and_both_hidden_widths(case: Case) -> None:
    holds(case)
    floors = {group.floor for group in analysed(case).prunable if group.size == EXPERTS}
    assert floors == {2}


def test_quantised_experts_go_whole() -> None:
    size = 32
    weights = {
        "w0": (7, size),
        "wr": (7, EXPERTS),
        "f1": unsigned(EXPERTS, size, size // 2),
        "s1": scales(EXPERTS, size),
        "f2": unsigned(EXPERTS, size, size // 2),
        "s2": scales(EXPERTS, size),
        "w1": (size, 4),
        "to": np.array([-1, EXPERTS]),
    }
    fused = (
        MS + "QMoE",
        ["h", "p", "f1", "s1", "", "f2", "s2"],
        ["r"],
        {"k": 2, "activation_type": "relu", "normalize_routing_weights": 1, "expert_weight_bits": 4},
    )
    nodes = between(("MatMul", ["x", "wr"], ["p3"], {}), ("Reshape", ["p3", "to"], ["p"], {}), fused)
    holds(Case("QMoE", X, weights, nodes, ["y"], [EXPERTS]))


POSITIONAL = [
    Case(
        "ReverseSequence",
        X,
        {**ENDS, "l": np.array([3, 2])},
        between(("ReverseSequence", ["h", "l"], ["r"], {"batch_axis": 0, "time_axis": 1})),
        ["y"],
        [12],
    ),
    Case(
        "Compress",
        X,
        {**ENDS, "c": np.array([1, 0, 1, 1, 0], bool)},
        between(("Compress", ["h", "c"], ["r"], {"axis": 1})),
        ["y"],
        [12],
    ),
    Case(
        "CenterCropPad",
        X,
        {**ENDS, "c": np.array([3])},
        between(("CenterCropPad", ["h", "c"], ["r"], {"axes": [1]})),
        ["y"],
        [12],
    ),
    Case(
        "Col2Im",
        {"x": floats(2, 3, 9)},
        {"w0": (24, 3, 1), "i": np.array([4, 4]), "b": np.array([2, 2]), "w1": (4, 6, 1, 1)},
        [
            ("Conv", ["x", "w0"], ["h"], {}),
            ("Col2Im", ["h", "i", "b"], ["r"], {}),
            ("Conv", ["r", "w1"], ["y"], {}),
        ],
        ["y"],
        [6],
    ),
    Case(
        "DeformConv",
        IMAGE,
        {"w0": (6, 3, 1, 1), "wd": (8, 6, 3, 3), "o": (2, 18, 4, 4), "b": (8,), "w1": (4, 8, 1, 1)},
        [
            ("Conv", ["x", "w0"], ["h"], {}),
            ("DeformConv", ["h", "wd", "o", "b"], ["r"], {}),
            ("Conv", ["r", "w1"], ["y"], {}),
        ],
        ["y"],
        [6, 8],
        opset=22,
    ),
    Case(
        "NonZero",
        X,
        ENDS,
        [("MatMul", ["x", "w0"], ["h"], {}), ("NonZero", ["h"], ["y"], {})],
        ["y"],
        [],
        runs=False,
    ),
    Case(
        "DFT",
        X,
        {"w0": (7, 12), "a": np.array(1)},
        [
            ("MatMul", ["x", "w0"], ["h0"], {}),
            ("Unsqueeze", ["h0", "last"], ["h"], {}),
            ("DFT", ["h", "", "a"], ["y"], {}),
        ],
        ["y"],
        [],
        runs=False,
    ),
]
POSITIONAL[-1].weights["last"] = np.array([3])  # type: ignore[index]


@pytest.mark.parametrize("case", POSITIONAL, ids=lambda case: case.name)
def test_only_axes_that_are_read_by_position_stay(case: Case) -> None:
    holds(case)


def text_model(text: str) -> ir.Model:
    return ir.from_onnx_text(text)


LOOP = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[2, 3] x, float[3, 4] w, float[3, 5] u, float[5, 2] v) => (float[2, 4] y, float[2, 2] z) {
    h = MatMul(x, w)
    n = Constant<value = int64 {2}>()
    go = Constant<value = bool {1}>()
    y = Loop(n, go, h) <body = b (int64 i, bool c, float[2, 4] a) => (bool d, float[2, 4] e) {
        d = Identity(c)
        e = Add(a, h)
    }>
    k = MatMul(x, u)
    z = MatMul(k, v)
}
"""
IF = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[2, 3] x, bool p) => (float[2, 2] y) {
    k = MatMul(x, u)
    y = If(p) <
        then_branch = a () => (float[2, 2] s) { s = MatMul(k, v) },
        else_branch = b () => (float[2, 2] t) { r = Relu(k)  t = MatMul(r, w) }
    >
}
"""


def with_weights(model: ir.Model, shapes: dict[str, tuple[int, ...]]) -> ir.Model:
    """Turns named inputs, or undefined names, into weights."""
    known = {value.name: value for value in model.graph.inputs}
    for name, shape in shapes.items():
        value = known[name]
        value.const_value = ir.Tensor(floats(*shape), name=name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


def test_a_loop_pins_what_it_captures_and_nothing_else() -> None:
    model = with_weights(text_model(LOOP), {"w": (3, 4), "u": (3, 5), "v": (5, 2)})
    analysis = analyse(model, Options(), normalise(model, record_of))
    assert {group.id: group.size for group in analysis.prunable} == {"u:1": 5}
    assert analysis.group("w:1").pin is not None


def test_branches_of_an_if_share_the_widths_they_read() -> None:
    text = IF.replace("bool p)", "bool p, float[3, 5] u, float[5, 2] v, float[5, 2] w)")
    model = with_weights(text_model(text), {"u": (3, 5), "v": (5, 2), "w": (5, 2)})
    analysis = analyse(model, Options(), normalise(model, record_of))
    (group,) = analysis.prunable
    assert (group.size, {touched.initializer for touched in group.slices}) == (5, {"u", "v", "w"})
    assert "a branch of If returns it" in reasons(analysis)


def test_every_operator_has_one_row() -> None:
    names = [name for row in TABLE for name in row.ops]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["TreeEnsembleClassifier", "Scaler", "LabelEncoder"])
def test_classical_models_are_frozen_with_a_reason(name: str) -> None:
    row = BY_OP[f"ai.onnx.ml:{name}"]
    assert row.exactness == "frozen"
