"""The zeroed twin computes what the cut model computes, in dense coordinates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Options
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.prune.zeroed import zeroed
from graphprune.runtime.session import open_session
from tests.axes.claims import sketch
from tests.ops.exotic_graphs import plans
from tests.properties.nets import CHAINS, net
from tools.fuzz.check import random_plan
from tools.relations import analysed

Array = np.ndarray


def with_weights(model: ir.Model, arrays: Mapping[str, Array]) -> ir.Model:
    """A copy with these initializers."""
    copy = model.clone()
    for name, array in arrays.items():
        copy.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return copy


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
@pytest.mark.parametrize("seed", range(4))
def test_the_zeroed_twin_equals_the_rewrite(chain: tuple[str, ...], seed: int) -> None:
    graph = net(chain, seed)
    analysis = analysed(graph.model, Options(layernorm="expand"))
    plan = random_plan(analysis, np.random.default_rng(seed))
    twin = with_weights(analysis.model, zeroed(analysis, plan.cuts))
    small = rewrite(analysis.model, analysis, plan)
    one, two = (open_session(model).run(graph.feeds) for model in (twin, small))
    assert not plan.empty
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-4 * np.abs(one[name]).max())


def test_a_tensor_with_two_uses_is_zeroed_where_both_lose_it() -> None:
    """The slots of y's use stay: zeroing them would change what is kept there."""
    analysis = sketch(
        """(float[n,4] x) => (float[n,3] y, float[n,3] z) {
        a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, v)\n c = Relu(x)\n d = MatMul(c, w)\n e = Tanh(d)
        z = MatMul(e, u) }""",
        Options(share="split"),
        w=(4, 6),
        v=(6, 3),
        u=(6, 3),
    )
    one, two = (g for g in analysis.prunable if any(s.initializer == "w" for s in g.slices))
    for kept in (range(6), (0, 1, 2, 3)):
        cuts = {one.id: (1, 2, 3), two.id: tuple(kept)}
        gone = {*range(6)} - {1, 2, 3} & {*range(6)} - set(kept)
        array = zeroed(analysis, cuts).get("w")
        expected = set() if array is None else {i for i in range(6) if not array[:, i].any()}
        assert expected == gone


def test_repaired_values_are_the_base() -> None:
    analysis = sketch(
        "(float[n,4] x) => (float[n,3] y) { a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, v) }",
        w=(4, 6),
        v=(6, 3),
    )
    new = np.arange(1, 19, dtype=np.float32).reshape(6, 3)
    arrays = zeroed(analysis, {analysis.prunable[0].id: (0, 5)}, {"v": new})
    np.testing.assert_array_equal(arrays["v"][[0, 5]], new[[0, 5]])
    assert not arrays["v"][1:5].any() and not arrays["w"][:, 1:5].any() and new.all()


def test_grouped_convolutions_lose_their_columns_per_block() -> None:
    analysis = sketch(
        """(float[n,3,6,6] x) => (float[n,4,6,6] y) { a = Conv(x, w)\n b = Relu(a)
        c = Conv <group = 2> (b, v)\n y = Conv(c, u) }""",
        w=(8, 3, 1, 1),
        v=(6, 4, 1, 1),
        u=(4, 6, 1, 1),
    )
    group = next(g for g in analysis.prunable if any(s.blocks == 2 for s in g.slices))
    array = zeroed(analysis, {group.id: (1, 2, 6, 7)})["v"][:, :, 0, 0]
    assert not array[:3, [0, 3]].any() and array[:3, [1, 2]].all()
    assert not array[3:, [0, 1]].any() and array[3:, [2, 3]].all()


def test_removed_elements_of_a_quantised_weight_are_its_zero_points() -> None:
    analysis = sketch(
        """(float[n,4] x) => (float[n,3] y) { w = DequantizeLinear <axis = 1> (q, s, z)
        a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, v) }""",
        q=np.full((4, 6), 100, np.uint8),
        s=np.ones(6, np.float32),
        z=np.arange(6, dtype=np.uint8),
        v=(6, 3),
    )
    for plan in plans(analysis):
        assert isinstance(plan, Plan)
        (kept,) = plan.cuts.values()
        expected = [100 if unit in kept else unit for unit in range(6)]
        found = zeroed(analysis, plan.cuts)["q"]
        assert found.dtype == np.uint8 and found.tolist() == [expected] * 4


def test_a_tensor_that_has_no_zero_leaves_the_others_to_be_zeroed() -> None:
    """What the integers add to removed channels does not matter, because their sink is zero."""
    analysis = sketch(
        """(float[n,4] x) => (float[n,3] y) { a = MatMul(x, u)\n b = Cast <to = 7> (a)\n c = Add(b, i)
        d = Cast <to = 1> (c)\n y = MatMul(d, v) }""",
        i=np.arange(6),
        u=(4, 6),
        v=(6, 3),
    )
    (group,) = analysis.prunable
    found = zeroed(analysis, {group.id: (0, 1, 2)})
    assert "i" not in found
    assert not found["u"][:, 3:].any() and not found["v"][3:].any() and found["v"][:3].all()
