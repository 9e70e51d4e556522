"""What one Group saves, counted from what it touches, is what the whole count says."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from tests.axes import (
    test_rules_attention,
    test_rules_fused,
    test_rules_quantised,
    test_rules_recurrent,
)

from .exotic_graphs import Case, analysed

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
