"""Gates in other types than single precision: bytes read as their zero point, halves are scaled as halves."""

from __future__ import annotations

import numpy as np

from graphprune.axes import analyse
from graphprune.prune.gates import Candidates, gated, restricted
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import open_session
from tests.ops.exotic_graphs import analysed, plans
from tests.ops.test_rules_quantised import PRODUCTS
from tests.proof.building import model
from tools.relations import close


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
