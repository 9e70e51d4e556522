"""A gated dense model computes what the rewritten model computes, for every kind of structure."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Analysis, Options, analyse
from graphprune.axes.sublayers import find_sublayers
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.prune.gates import Candidates, gated
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import Feeds, open_session
from tests.prune.test_gates import restricted
from tools.fuzz.check import random_plan
from tools.relations import close

from .nets import CHAINS, net

OPTIONS = (Options(), Options(layernorm="expand"))


def agrees(analysis: Analysis, feeds: Feeds, plan: Plan) -> bool:
    """Whether the gates and the rewriter agree on a plan; whether the plan changes anything is asserted."""
    gates = gated(analysis, None, find_sublayers(analysis).found)
    assert not gates.refused
    session = Candidates(gates)
    cut = session.run(feeds, plan.cuts, plan.bypassed)
    small = open_session(rewrite(analysis.model, analysis, plan)).run(feeds)
    return close(restricted(analysis, plan.cuts, cut), small)


def a_plan(analysis: Analysis, seed: int) -> Plan:
    """Random Units and, by chance, sublayers go."""
    draw = np.random.default_rng([seed, 9])
    cuts = random_plan(analysis, draw)
    gone = tuple(item.name for item in find_sublayers(analysis).found if draw.random() < 0.4)
    return Plan(cuts.options, cuts.cuts, cuts.widths, bypassed=gone)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("options", OPTIONS)
def test_gates_compute_what_the_rewriter_leaves(chain: tuple[str, ...], options: Options) -> None:
    for seed in range(3):
        graph = net(chain, seed)
        model = graph.model.clone()
        analysis = analyse(model, options, normalise(model, record_of))
        assert agrees(analysis, graph.feeds, a_plan(analysis, seed))


@pytest.mark.parametrize("chain", CHAINS)
def test_open_gates_leave_the_dense_model(chain: tuple[str, ...]) -> None:
    graph = net(chain)
    model = graph.model.clone()
    analysis = analyse(model, None, normalise(model, record_of))
    session = Candidates(gated(analysis, None, find_sublayers(analysis).found))
    dense = open_session(model).run(graph.feeds)
    assert close(session.run(graph.feeds), dense, 1e-5)


def test_every_gate_moves_the_outputs() -> None:
    """A gate that is not connected would pass the test above."""
    graph = net(("residual", "excite", "parted"))
    model = graph.model.clone()
    analysis = analyse(model, None, normalise(model, record_of))
    session = Candidates(gated(analysis))
    dense = session.run(graph.feeds)
    for group in analysis.prunable:
        one = session.run(graph.feeds, {group.id: tuple(range(1, group.size))})
        assert any(np.abs(one[name] - dense[name]).max() > 0 for name in dense), group.id
