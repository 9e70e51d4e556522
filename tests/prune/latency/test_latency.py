"""What is foreseen for a cut is what the profile says of the model that is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Analysis, Group, analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.pipeline.built import built
from graphprune.prune.allocate import Cuts
from graphprune.prune.latency import LatencyModel, follow
from graphprune.prune.plan import Plan
from graphprune.prune.select import Ladder, alignment, cuts_of, ladder
from graphprune.prune.widths import Allocation, Widths
from graphprune.runtime import pieces as running
from graphprune.runtime.device import Cost, DeviceProfile, this_machine
from graphprune.runtime.patterns import BLOCKED, block_width
from graphprune.runtime.pieces import Piece
from tests.axes.claims import sketch
from tests.prune.widths import convs, deep

HEADS = """(float[2,11,16] x) => (float[2,11,16] y) {
    q = MatMul(x, wq)\n k = MatMul(x, wk)\n v = MatMul(x, wv)
    q1 = Reshape(q, split)\n k1 = Reshape(k, split)\n v1 = Reshape(v, split)
    q2 = Transpose <perm = [0, 2, 1, 3]> (q1)\n k2 = Transpose <perm = [0, 2, 3, 1]> (k1)
    v2 = Transpose <perm = [0, 2, 1, 3]> (v1)
    s = MatMul(q2, k2)\n p = Softmax(s)\n o = MatMul(p, v2)
    o1 = Transpose <perm = [0, 2, 1, 3]> (o)\n o2 = Reshape(o1, merge)\n y = MatMul(o2, wo) }"""


JOINED = """(float[n,3,8,8] x) => (float[n,5,8,8] y) {
    a = Conv(x, w1)\n b = Conv(x, w2)\n c = Concat <axis = 1> (a, b)\n d = Relu(c)\n e = Conv(d, w3)
    f = Add(e, a)\n y = Conv(f, w4) }"""


def joined() -> ir.Model:
    """One width in a Concat and in a sum."""
    weights = {"w1": (64, 3, 1, 1), "w2": (96, 3, 1, 1), "w3": (64, 160, 1, 1), "w4": (5, 64, 1, 1)}
    return sketch(JOINED, **weights).model


RECURRENT = """(float[7,2,20] x) => (float[7,1,2,5] y) {
    l = LSTM <hidden_size = 24> (x, w, r)\n s = Squeeze(l, one)
    g = GRU <hidden_size = 18> (s, w2, r2)\n y = MatMul(g, w3) }"""


def recurrent() -> ir.Model:
    """Two recurrent widths, one after the other."""
    shapes = {"w": (1, 96, 20), "r": (1, 96, 24), "w2": (1, 54, 24), "r2": (1, 54, 18), "w3": (18, 5)}
    model = sketch(RECURRENT, **shapes, one=(1,)).model
    model.graph.initializers["one"].const_value = ir.tensor(np.array([1], np.int64), name="one")
    return model


def heads() -> ir.Model:
    model = sketch(HEADS, wq=(16, 32), wk=(16, 32), wv=(16, 32), wo=(32, 16), split=(4,), merge=(3,)).model
    for name, shape in (("split", [0, 0, 4, 8]), ("merge", [0, 0, 32])):
        model.graph.initializers[name].const_value = ir.tensor(np.array(shape, np.int64), name=name)
    return model


MODELS = {
    "mlp": deep(),
    "convs": convs(64, 96),
    "joined": joined(),
    "heads": heads(),
    "recurrent": recurrent(),
}


def nodes(analysis: Analysis, groups: Sequence[Group], cuts: Cuts) -> Sequence[Piece]:
    """Of the model that is left, with inputs of ones."""
    widths = {group.id: group.size for group in groups if group.id in cuts}
    model = built(analysis, Plan(analysis.options, cuts, widths)) if cuts else analysis.model
    feeds = {
        value.name or "": np.ones(
            [dim if isinstance(dim, int) else 2 for dim in value.shape or ()], np.float32
        )
        for value in model.graph.inputs
    }
    return running.pieces(model, feeds)


def profile_of(found: Sequence[Piece]) -> DeviceProfile:
    """Costs that rise with both widths, by amounts of their own per kind."""
    rng = np.random.default_rng(0)
    costs = {}
    for piece in sorted(found, key=lambda piece: piece.kind):
        axes = tuple(tuple(range(1, width + 1)) for width in piece.widths)
        if not piece.roles:
            (elements,) = piece.widths
            costs[piece.kind] = Cost(((1, elements),), (1e-9, 1e-6 * rng.random()), 0)
            continue
        grid = np.meshgrid(*(np.array(axis, float) for axis in axes), indexing="ij")
        seconds = (1e-8 * rng.random() * np.prod(grid, axis=0)).ravel()
        step = block_width() if BLOCKED in piece.kind else 1
        costs[piece.kind] = Cost(axes, tuple(seconds.tolist()), step)
    return DeviceProfile(this_machine(), costs, overhead=1e-6)


def foreseen(model: ir.Model) -> tuple[Analysis, list[Group], list[Ladder], DeviceProfile, LatencyModel]:
    analysis = analyse(model)
    groups = list(analysis.prunable)
    steps = [
        ladder(at, group, np.zeros(group.size), alignment(group, "auto"), 0.3)
        for at, group in enumerate(groups)
    ]
    profile = profile_of(nodes(analysis, groups, {}))
    found = follow(analysis, groups, steps, partial(nodes, analysis, groups), 0)
    return analysis, groups, steps, profile, LatencyModel(analysis, found, profile)


@pytest.mark.parametrize("name", MODELS)
def test_it_foresees_what_the_profile_says_of_the_model_that_is_left(name: str) -> None:
    analysis, groups, steps, profile, model = foreseen(MODELS[name])
    assert model.dense == pytest.approx(1e9 * profile.predict(nodes(analysis, groups, {})).seconds, rel=1e-3)
    chance, apart = np.random.default_rng(1), []
    for _ in range(6):
        gone = {each.group: int(chance.choice(each.removed)) for each in steps}
        cuts = cuts_of(gone, {each.group: each for each in steps}, groups)
        said = 1e9 * profile.predict(nodes(analysis, groups, cuts)).seconds
        apart.append(model.left(Kept(analysis, cuts)) / said - 1)
    assert np.max(np.abs(apart)) < 0.02, apart


@pytest.mark.parametrize("name", MODELS)
def test_the_solver_counts_the_same_time(name: str) -> None:
    analysis, groups, steps, _, model = foreseen(MODELS[name])
    counts = CostModel(analysis, {}, model)
    allocation = Allocation(analysis, counts, groups, {}, {}, lambda gone: {})
    chance = np.random.default_rng(2)
    every = [Widths(at, np.arange(group.size), np.zeros(group.size)) for at, group in enumerate(groups)]
    for _ in range(6):
        gone = {each.group: int(chance.choice(each.removed)) for each in steps}
        left = [np.array([group.size - gone[at]]) for at, group in enumerate(groups)]
        costs = allocation._costs(left, allocation._factors(every), {"latency": 0.0})
        kept = Kept(analysis, cuts_of(gone, {each.group: each for each in steps}, groups))
        assert costs.total(np.zeros(len(groups), np.int64), "latency") == pytest.approx(
            model.left(kept), abs=1
        )
