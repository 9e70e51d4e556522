"""PAGCP: allowances with their oracles, the greedy search, and the pass on a net of two tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import analyse
from graphprune.errors import ArgumentError, PromiseError
from graphprune.prune.allowance import Commit, Search, efficient, growth
from graphprune.prune.finer import SLACK
from graphprune.prune.select import Ladder, ladder
from tests.proof.building import model

from .widths import convs

Cuts = Mapping[str, tuple[int, ...]]
DRAW = np.random.default_rng(5)
TWO = model(
    "(float[n,6] x) => (float[n,5] a, float[n,4] b) { h = MatMul(x, w)\n g = Relu(h)\n k = MatMul(g, v)\n"
    " l = Relu(k)\n a = MatMul(g, p)\n b = MatMul(l, q) }",
    w=(6, 40), v=(40, 20), p=0.1 * DRAW.standard_normal((40, 5)).astype(np.float32),
    q=0.02 * DRAW.standard_normal((20, 4)).astype(np.float32),
)  # fmt: skip
DATA = {"x": np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)}


def test_the_factor_solves_the_oracles() -> None:
    assert growth(2, 0.05, 1.155) == pytest.approx(2, abs=1e-12)
    assert growth(3, 0.05, 1.26) == pytest.approx(1.51863, abs=1e-5)
    assert growth(1, 0.05, 3) == 1


@pytest.mark.parametrize(("count", "total"), [(2, 1.06), (5, 1.1), (60, 1.3), (60, 6.0), (300, 5.0)])
def test_the_allowances_multiply_to_the_total(count: int, total: float) -> None:
    factor = growth(count, 0.05, total)
    assert np.prod(1 + 0.05 * factor ** np.arange(count)) == pytest.approx(total)


def test_an_allowance_above_the_total_is_refused() -> None:
    with pytest.raises(ArgumentError, match="tau must be more than"):
        growth(3, 0.2, 1.1)
    with pytest.raises(ArgumentError, match="tau must be more than"):
        growth(1, 0.25, 1.25)
    with pytest.raises(ArgumentError, match="tau must be more than"):
        graphprune.compile(TWO, "pagcp(delta0=0.5, tau=1.2)", calibration=DATA)


def search(slopes: Mapping[str, float], first: float, factor: float, **more: object) -> Search:
    """Losses that grow linearly with the removed share of each Group."""
    analysis = analyse(TWO)
    groups = analysis.prunable

    def losses(cuts: Cuts) -> dict[str, float]:
        gone = {g.id: 1 - len(cuts.get(g.id, range(g.size))) / g.size for g in groups}
        return {"one": 1 + sum(slopes[name] * share for name, share in gone.items()), "two": 1.0}

    ladders = [ladder(i, g, np.arange(g.size, dtype=float), 1, 0.0) for i, g in enumerate(groups)]
    kept = {g.id: g.size for g in groups}
    settings = {
        "macs": lambda cuts: sum(len(cuts.get(name, range(size))) for name, size in kept.items()),
        "over": lambda cuts: -1.0,
        **more,
    }
    return Search(ladders, groups, losses, first=first, factor=factor, **settings)  # type: ignore[arg-type]


def test_each_group_goes_as_far_as_its_own_allowance() -> None:
    """Slope 0.1: 5 % of loss allow half; the next allowance is twice that, relative to what was reached."""
    commits = search({"w:1": 0.1, "v:1": 0.5}, 0.05, 2.0).run()
    assert [(c.group, len(c.kept)) for c in commits] == [("w:1", 20), ("v:1", 16)]
    assert commits[0].loss == pytest.approx(0.05) and commits[0].saved == 20
    assert commits[1].loss == pytest.approx((0.05 + 0.5 * 0.2) / 1.05 - 0.05 / 1.05)


def test_a_group_that_never_fails_gives_all_it_may() -> None:
    """Upstream forgets to commit such a group."""
    commits = search({"w:1": 0.0, "v:1": 0.0}, 0.05, 1.0).run()
    assert [(c.group, len(c.kept)) for c in commits] == [("w:1", 2), ("v:1", 1)]


def test_a_group_that_fails_at_once_keeps_all_and_its_allowance_stays() -> None:
    commits = search({"w:1": 9.0, "v:1": 0.1}, 0.05, 0.1).run()
    assert [(c.group, len(c.kept)) for c in commits] == [("v:1", 10)]


@pytest.mark.parametrize(("slope", "kept"), [(0.9, 38), (0.4, 36), (0.06, 8), (0.05, 2)])
def test_shares_are_tried_in_steps_of_a_twentieth(slope: float, kept: int) -> None:
    """From 5 % to 95 % of 40 Units; the largest that costs no more than 0.05 is taken."""
    share = max(n for n in range(1, 20) if slope * n / 20 <= 0.05 + 1e-12)
    assert kept == 40 - 2 * share
    commits = search({"w:1": slope, "v:1": 9.0}, 0.05, 0.1).run()
    assert [(c.group, len(c.kept)) for c in commits] == [("w:1", kept)]


def test_the_search_stops_at_the_budget_with_the_smallest_step() -> None:
    over = lambda cuts: (31 - len(cuts.get("w:1", range(40)))) / 40  # noqa: E731
    found = search({"w:1": 0.1, "v:1": 0.1}, 0.05, 1.0, over=over).run()
    assert [(c.group, len(c.kept)) for c in found] == [("w:1", 30)]


def test_a_budget_that_is_met_exactly_is_met() -> None:
    over = lambda cuts: (32 - len(cuts.get("w:1", range(40)))) / 40  # noqa: E731
    found = search({"w:1": 0.1, "v:1": 0.1}, 0.05, 1.0, over=over).run()
    assert [(c.group, len(c.kept)) for c in found] == [("w:1", 32)]


@pytest.mark.parametrize(
    ("most", "finer", "kept"),
    [
        (31, [], 24),
        (31, [[8, 16, 24]], 24),
        (31, [[8, 16, 24], [4, 8, 12, 16]], 28),
        (31, [[8, 16, 24], [4, 8, 12, 16], [2, 4, 6, 8, 10, 12]], 30),
        (31, [[8, 16, 24], [4, 8, 12, 16], [2, 4, 6, 8, 10, 12], [9]], 30),
        (25, [[15]], 24),
        (31, [[20]], 24),
        (24, [], 24),
        (28, [[12]], 28),
    ],
    ids=["none", "no better", "better", "good", "enough", "at once", "no smaller", "exact", "exactly better"],
)
def test_a_last_step_that_goes_far_beyond_the_budget_is_made_finer(
    most: int, finer: list[list[int]], kept: int
) -> None:
    """Of 40 Units 16 go at a time; those that are left beyond the budget are shares of the model of 40."""
    over = lambda cuts: (most - len(cuts.get("w:1", range(40)))) / 40  # noqa: E731

    def levels(steps: Ladder) -> list[Ladder]:
        return [replace(steps, removed=np.array(removed)) for removed in finer]

    found = search({"w:1": 0.1, "v:1": 0.1}, 1.0, 1.0, over=over, finer=levels)
    wide = [replace(one, removed=np.array([16, 32])) for one in found.ladders[:1]]
    (commit,) = replace(found, ladders=wide).run()
    assert len(commit.kept) == kept


def test_a_share_of_the_cuts_is_rounded_up_but_not_above_a_whole_number() -> None:
    commits = [Commit(f"g{n}", (0,), 0.1, 1) for n in range(100)]
    assert [len(efficient(commits, share)) for share in (0.07, 0.071, 0.29, 1.0)] == [7, 8, 29, 100]


def test_the_cheapest_cuts_per_multiply_add_are_kept() -> None:
    commits = [Commit("a", (0,), 0.1, 10), Commit("b", (0,), 0.1, 1), Commit("c", (0,), 0.0, 5)]
    assert [c.group for c in efficient(commits, 0.6)] == ["a", "c"]
    assert efficient(commits, 1.0) == commits


def divergence(small: ir.Model) -> dict[str, float]:
    from graphprune.prune.divergence import Judge
    from graphprune.runtime.session import open_session

    judge = Judge(TWO, [DATA], open_session(TWO).run, "kl")
    return judge.losses(open_session(small).run)


def test_the_pass_keeps_every_task_within_the_total() -> None:
    result = graphprune.compile(TWO, "pagcp(align=1, tau=1.4, delta0=0.1)", calibration=DATA)
    assert result.report.after.params < 0.9 * result.report.before.params
    losses = divergence(result.model)
    assert losses.keys() == {"a", "b"} and all(1 + loss <= 1.4 + 1e-6 for loss in losses.values())


def test_a_larger_total_removes_more() -> None:
    sizes = [
        graphprune.compile(
            TWO, f"pagcp(align=1, delta0=0.02, tau={tau})", calibration=DATA
        ).report.after.params
        for tau in (1.05, 1.3, 2)
    ]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]


def test_a_budget_ends_the_search_or_is_missed_aloud() -> None:
    report = graphprune.compile(TWO, "pagcp(align=1, params=0.9, tau=3)", calibration=DATA).report
    assert 0.8 < report.after.params / report.before.params <= 0.9
    with pytest.raises(PromiseError, match="cannot be met within"):
        graphprune.compile(TWO, "pagcp(align=1, params=0.05, tau=1.1)", calibration=DATA)


def test_wide_steps_of_the_last_group_give_way_to_finer_ones() -> None:
    """At steps of 16 the first convolution of 32 would leave 0.51 of the parameters."""
    data = {"x": np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)}
    wide = graphprune.compile(
        convs(32, 32), "pagcp(params=0.77, align=16, tau=1e9, delta0=1e6)", calibration=data
    )
    fine = graphprune.compile(convs(32, 32), "pagcp(params=0.77, tau=1e9, delta0=1e6)", calibration=data)
    assert wide.report.budgets[0].left < 0.77 - SLACK <= fine.report.budgets[0].left <= 0.77
    assert any("has no smaller step, and those before it" in line for line in wide.report.warnings)
    assert not any("params=" in line for line in fine.report.warnings)


def test_it_needs_data() -> None:
    with pytest.raises(ArgumentError, match="pagcp needs calibration data"):
        graphprune.compile(TWO, "pagcp")
