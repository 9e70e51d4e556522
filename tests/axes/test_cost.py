"""What one Group saves, counted from what it touches, is what the whole count says."""

from __future__ import annotations

import re

import numpy as np
import pytest

from graphprune.axes.cost import CostModel, cost, require_known
from graphprune.axes.kept import Kept
from graphprune.errors import ModelError
from graphprune.prune.rewrite import rewrite
from tests.ops import (
    test_rules_attention,
    test_rules_fused,
    test_rules_quantised,
    test_rules_recurrent,
)
from tests.ops.exotic_graphs import Case, analysed, counts_as_foreseen, plans

from .claims import sketch

CASES = [
    *test_rules_attention.STANDARD,
    *test_rules_attention.CONTRIB,
    *test_rules_attention.GROUP_QUERY,
    *test_rules_fused.FUSED,
    *test_rules_quantised.CONVOLUTIONS,
    *test_rules_quantised.PRODUCTS,
    *test_rules_recurrent.CASES,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_group_alone_saves_what_the_whole_count_says(case: Case) -> None:
    analysis = analysed(case)
    model = CostModel(analysis, {})
    for number, group in enumerate(analysis.groups):
        units = np.arange(group.size)[: group.size // 2]
        kept = Kept(analysis, {group.id: units})
        whole = model.dense_params - model.params(kept), model.dense_macs - model.macs(kept)
        assert model.saved(number, units) == whole


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_cut_leaves_what_was_foreseen(case: Case) -> None:
    analysis = analysed(case)
    for plan in plans(analysis):
        counts_as_foreseen(analysis, plan, rewrite(analysis.model, analysis, plan), case.adds)


PLAIN: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "convolutions": (
        """(float[2,3,9,8] x) => (float[2,5,7,6] y) { a = Conv(x, u)\n b = Relu(a)\n c = Conv(b, v)
        d = Relu(c)\n y = Conv(d, w) }""",
        {"u": (6, 3, 1, 1), "v": (8, 6, 3, 2), "w": (5, 8, 1, 2)},
    ),
    "in groups": (
        """(float[2,3,9,8] x) => (float[2,5,9,8] y) { a = Conv(x, u)\n b = Conv <group = 3> (a, v)
        c = Conv <group = 9> (b, t)\n y = Conv(c, w) }""",
        {"u": (6, 3, 1, 1), "v": (9, 2, 1, 1), "t": (9, 1, 1, 1), "w": (5, 9, 1, 1)},
    ),
    "transposed": (
        """(float[2,3,9,8] x) => (float[2,5,12,10] y) { a = Conv(x, u)\n b = ConvTranspose(a, v)\n c = Relu(b)
        d = ConvTranspose(c, t)\n y = Conv(d, w) }""",
        {"u": (6, 3, 1, 1), "v": (6, 8, 3, 2), "t": (8, 4, 2, 2), "w": (5, 4, 1, 1)},
    ),
    "transposed in groups": (
        """(float[2,3,9,8] x) => (float[2,5,11,9] y) { a = Conv(x, u)\n b = ConvTranspose <group = 3> (a, v)
        y = Conv(b, w) }""",
        {"u": (6, 3, 1, 1), "v": (6, 4, 3, 2), "w": (5, 12, 1, 1)},
    ),
    "products": (
        """(float[2,5,3] x) => (float[2,5,4] y) { a = MatMul(x, u)\n b = Relu(a)\n c = MatMul(b, v)
        y = MatMul(c, w) }""",
        {"u": (3, 7), "v": (7, 9), "w": (9, 4)},
    ),
    "weights on the left": (
        """(float[3,5] x) => (float[4,5] y) { a = MatMul(u, x)\n b = Relu(a)\n c = MatMul(v, b)
        y = MatMul(w, c) }""",
        {"u": (7, 3), "v": (9, 7), "w": (4, 9)},
    ),
    "of activations": (
        """(float[5,3] x) => (float[5,4] y) { q = MatMul(x, u)\n k = MatMul(x, v)
        t = Transpose <perm = [1, 0]> (k)\n s = MatMul(q, t)\n z = MatMul(x, r)
        a = MatMul(s, z)\n y = MatMul(a, w) }""",
        {"u": (3, 7), "v": (3, 7), "r": (3, 6), "w": (6, 4)},
    ),
    "affine": (
        """(float[5,3] x) => (float[5,4] y) { a = Gemm <transB = 1> (x, u)\n b = Relu(a)\n c = Gemm(b, v)
        y = Gemm(c, w) }""",
        {"u": (7, 3), "v": (7, 9), "w": (9, 4)},
    ),
    "affine of columns": (
        """(float[3,5] x) => (float[5,4] y) { a = Gemm(u, x)
        y = Gemm <transA = 1> (a, w) }""",
        {"u": (7, 3), "w": (7, 4)},
    ),
    "einsums": (
        """(float[2,5,3] x) => (float[2,5,4] y) { a = Einsum <equation = "bsc,cd->bsd"> (x, u)\n b = Relu(a)
        c = Einsum <equation = "bsd,ed->bse"> (b, v)\n y = Einsum <equation = "bse,ef->bsf"> (c, w) }""",
        {"u": (3, 7), "v": (9, 7), "w": (9, 4)},
    ),
    "an einsum of three": (
        """(float[5,3] x) => (float[5,4] y) { a = MatMul(x, u)\n b = MatMul(x, v)
        y = Einsum <equation = "sc,sc,cf->sf"> (a, b, w) }""",
        {"u": (3, 7), "v": (3, 7), "w": (7, 4)},
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_cut_of_plain_layers_leaves_what_was_foreseen(name: str) -> None:
    """Sizes that all differ, so that every axis that a count is proportional to is its own."""
    body, weights = PLAIN[name]
    analysis = sketch(body, **weights)
    assert analysis.prunable and not CostModel(analysis, {}).unknown
    for plan in plans(analysis):
        counts_as_foreseen(analysis, plan, rewrite(analysis.model, analysis, plan))


def test_a_single_key_head_leaves_value_dims_that_are_counted_as_they_are_cut() -> None:
    analysis = sketch(
        """(float[2,5,6] x) => (float[2,5,3] y) { q = MatMul(x, wq)\n k = MatMul(x, wk)\n v = MatMul(x, wv)
        a, s = com.microsoft.LinearAttention <q_num_heads = 1, kv_num_heads = 1, update_rule = "linear">
        (q, k, v)\n y = MatMul(a, wo) }""",
        wq=(6, 4),
        wk=(6, 4),
        wv=(6, 5),
        wo=(5, 3),
    )
    for plan in plans(analysis):
        counts_as_foreseen(analysis, plan, rewrite(analysis.model, analysis, plan))
    assert any(plan.cuts for plan in plans(analysis))


BODY = """(float[5,4] x, bool c) => (float[5,4] y) {{
    [again] y = Loop (n, yes, x) <body = body (int64 i, bool go, float[5,4] h)
    => (bool more, float[5,4] t) {{ {step} more = Identity(go) }}> }}"""


@pytest.mark.parametrize(
    ("step", "macs"),
    [
        ("t = MatMul(h, w)", 3 * 5 * 4 * 4),
        ("u = MatMul(h, w) t = MatMul(u, w)", 2 * 3 * 5 * 4 * 4),
        (
            """t = If (c) <then_branch = a () => (float[5,4] p) { p = MatMul(h, w) },
            else_branch = b () => (float[5,4] q) { q = Identity(h) }>""",
            None,
        ),
        ("t = Relu(h)", 0),
    ],
    ids=["once", "twice", "in one of two ways", "never"],
)
def test_a_body_counts_what_it_multiplies_as_often_as_it_runs(step: str, macs: int | None) -> None:
    numbers = {"n": np.array(3), "yes": np.array(True)}
    analysis = sketch(BODY.format(step=step), **numbers, **({"w": (4, 4)} if "w)" in step else {}))
    found = cost(analysis.model, {})
    assert found.macs == macs
    (node,) = analysis.model.graph
    assert dict(found.per_node) == ({} if macs == 0 else {node.name or "Loop": macs})
    unknown = CostModel(analysis, {}).unknown
    assert unknown == ((node.name or "Loop",) if macs is None else ())


def test_nodes_of_unknown_work_are_called_by_name_or_by_operator() -> None:
    """And what they would add to is unknown as a whole, whatever the others do."""
    analysis = sketch(
        """(float[5,6] x) => (float[k,3] y, float[l,3] z) { i = NonZero(x)\n t = Transpose(i)
        f = Cast <to = 1> (t)\n [named] y = MatMul(f, w)\n z = Gemm(f, w)\n v = MatMul(x, u) }""",
        w=(2, 3),
        u=(6, 4),
    )
    for node in analysis.model.graph:
        node.name = "named" if node.op_type == "MatMul" and node.inputs[1].name == "w" else ""  # type: ignore[union-attr]
    assert CostModel(analysis, {}).unknown == ("named", "Gemm")
    found = cost(analysis.model, {})
    assert dict(found.per_node) == {"named": None, "Gemm": None, "MatMul": 5 * 6 * 4} and found.macs is None


def test_a_model_of_unknown_work_is_refused_by_up_to_three_names() -> None:
    require_known(())
    for count, told in ((1, "'n0' are"), (3, "'n0', 'n1', 'n2' are"), (4, "'n0', 'n1', 'n2', ... are")):
        with pytest.raises(ModelError, match=re.escape(told)):
            require_known([f"n{number}" for number in range(count)])
