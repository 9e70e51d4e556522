"""The graphs that the label rules are tested on, contrib and quantised operators among them, in torch."""

from __future__ import annotations

import pytest

from tests.ops import test_rules_attention as attention
from tests.ops import test_rules_fused as fused
from tests.ops import test_rules_quantised as quantised
from tests.ops import test_rules_recurrent as recurrent
from tests.ops.exotic_graphs import Case
from tests.ops.torch.running import agrees

pytestmark = pytest.mark.zoo

TABLES = (
    attention.STANDARD,
    attention.CONTRIB,
    attention.GROUP_QUERY,
    attention.ROTATED,
    fused.FUSED,
    fused.POSITIONAL,
    quantised.CONVOLUTIONS,
    quantised.PRODUCTS,
    recurrent.CASES,
    [quantised.nbits(zeros, flat, []) for zeros in (False, True) for flat in (False, True)],
    [fused.mixture("relu"), fused.mixture("swiglu", 1)],
)


@pytest.mark.parametrize(
    "case", [case for table in TABLES for case in table if case.runs], ids=lambda case: case.name
)
def test_torch_computes_what_onnx_runtime_does(case: Case) -> None:
    agrees(case.model(), case.feeds)
