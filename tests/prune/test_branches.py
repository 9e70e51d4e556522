"""A removed expert takes its nodes along, and what it ended in reads on without it."""

from __future__ import annotations

import numpy as np

from graphprune.axes import analyse
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import open_session
from tests.axes.claims import cut
from tests.axes.test_experts import WEIGHTS, comparisons, graph
from tests.proof.building import parsed


def test_an_expert_whose_tokens_are_scattered_goes_with_its_update() -> None:
    body, more = comparisons()
    analysis = graph(body, **WEIGHTS, **more)
    left = cut(analysis, wr=(0, 1, 3)).graph
    products = {v.name for node in left for v in node.inputs if v is not None and v.name in WEIGHTS}
    assert products == {name for name in WEIGHTS if not name.endswith("2")}
    assert sum(node.op_type == "ScatterND" for node in left) == 3


def test_a_setting_that_only_a_removed_sublayer_read_stays_with_its_default() -> None:
    """A caller may pass it, and one who does not need not begin to."""
    net = parsed(
        """(float[n,4] x, float most) => (float[n,4] y) { a = MatMul(x, u)\n b = Clip(a, least, most)
        c = MatMul(b, v)\n d = Add(x, c)\n e = MatMul(d, w)\n y = Tanh(e) }""",
        u=(4, 6),
        v=(6, 4),
        w=(4, 4),
        least=np.float32(0),
        most=np.float32(6),
    )
    normalise(net, record_of)
    assert [value.name for value in net.graph.inputs] == ["x", "most"]
    analysis = analyse(net)
    small = rewrite(net, analysis, Plan(analysis.options, {}, {}, bypassed=("c",)))
    assert not any(node.op_type == "Clip" for node in small.graph) and "u" not in small.graph.initializers
    assert [value.name for value in small.graph.inputs] == ["x", "most"]
    x = {"x": np.ones((2, 4), np.float32)}
    session = open_session(small)
    np.testing.assert_array_equal(
        session.run(x)["y"], session.run(x | {"most": np.array(1, np.float32)})["y"]
    )
