"""A gated slot of an integer product reads as the zero point of its tensor, so that it adds nothing."""

from __future__ import annotations

from graphprune.prune.gates import Candidates, gated, restricted
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import open_session
from tests.axes.exotic_graphs import analysed, plans
from tests.axes.test_rules_quantised import PRODUCTS
from tools.relations import close


def test_a_slot_of_unsigned_bytes_that_is_gone_reads_as_the_zero_point() -> None:
    case = next(case for case in PRODUCTS if case.name == "MatMulInteger")
    analysis = analysed(case)
    session = Candidates(gated(analysis))
    for plan in plans(analysis):
        small = open_session(rewrite(analysis.model, analysis, plan)).run(case.feeds)
        assert close(restricted(analysis, plan.cuts, session.run(case.feeds, plan.cuts)), small)
