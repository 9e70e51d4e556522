"""A removed expert takes its nodes along, and what it ended in reads on without it."""

from __future__ import annotations

from tests.axes.claims import cut
from tests.axes.test_experts import WEIGHTS, comparisons, graph


def test_an_expert_whose_tokens_are_scattered_goes_with_its_update() -> None:
    body, more = comparisons()
    analysis = graph(body, **WEIGHTS, **more)
    left = cut(analysis, wr=(0, 1, 3)).graph
    products = {v.name for node in left for v in node.inputs if v is not None and v.name in WEIGHTS}
    assert products == {name for name in WEIGHTS if not name.endswith("2")}
    assert sum(node.op_type == "ScatterND" for node in left) == 3
