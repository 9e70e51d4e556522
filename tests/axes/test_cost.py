"""What one Group saves, counted from what it touches, is what the whole count says."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
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
