"""Least loss within budgets: against everything there is, against today's greedy, and again at once."""

from __future__ import annotations

import time

import numpy as np
import pytest

from graphprune.prune.allocation import Axis, Costs, Layer, Solution, Table, Width, solve

from .instances import MEASURES, Instance, best, counted, greedy, instance

SEEDS = range(200)


def solved(given: Instance) -> Solution:
    return solve(given.losses, given.costs, given.targets)


def claims(given: Instance, found: Solution) -> None:
    """What a solution says of itself is so."""
    options = np.array([found.options])
    assert found.loss == pytest.approx(
        sum(each[o] for each, o in zip(given.losses, found.options, strict=True))
    )
    for measure, target in given.targets.items():
        left = counted(given.costs, measure, options)[0]
        assert found.costs[measure] == pytest.approx(left)
        assert not found.met or left <= target * (1 + 1e-8)


@pytest.mark.parametrize("staircase", [False, True])
def test_within_a_percent_of_the_best_on_95_of_100_networks(staircase: bool) -> None:
    close = []
    for seed in SEEDS:
        given = instance(seed, staircase=staircase)
        found, least = solved(given), best(given)
        claims(given, found)
        assert found.met == (least is not None)
        close.append(least is None or found.loss <= least * 1.01 + 1e-12)
    assert np.mean(close) >= 0.95


def test_never_worse_than_steps_in_the_order_of_loss_per_cost() -> None:
    for seed in SEEDS[::5]:
        given = instance(seed)
        start = greedy(given)
        if start is not None:
            least = sum(each[option] for each, option in zip(given.losses, start, strict=True))
            found = solve(given.losses, given.costs, given.targets, [start])
            assert found.met and found.loss <= least * (1 + 1e-9), seed
            assert solved(given).loss <= least * 1.001, seed


def test_the_same_input_gives_the_same_widths() -> None:
    for seed in range(5):
        assert solved(instance(seed)) == solved(instance(seed))


def test_a_budget_that_the_dense_model_meets_costs_nothing() -> None:
    given = instance(3)
    found = solve(given.losses, given.costs, dict.fromkeys(MEASURES, 1e12))
    assert found.met and found.loss == 0 and set(found.options) == {0}


def test_out_of_reach_it_says_the_nearest_that_can_be_had() -> None:
    given = instance(0)
    found = solve(given.losses, given.costs, {"macs": 1.0})
    smallest = np.array([[len(each) - 1 for each in given.losses]])
    assert not found.met
    assert found.costs["macs"] == pytest.approx(counted(given.costs, "macs", smallest)[0])


def test_steps_that_save_nothing_are_not_taken() -> None:
    """Four channels cost what eight do: the last step of a staircase is all loss."""
    widths = np.array([16.0, 12.0, 8.0, 4.0])
    axes = (Axis(0, {0: widths}), Axis(0, {1: widths}))
    steps = np.array([0.0, 1.0, 1.0, 1.5, 2.0])
    tables = [Table((Width((axis,)),), (4.0,), steps) for axis in (0, 1)]
    costs = Costs(axes, tuple(Layer("latency", (), table=table) for table in tables))
    loss = np.array([0.0, 1.0, 2.0, 2.1])
    found = solve([loss, loss * 10], costs, {"latency": 3.0})
    assert found.options == (2, 0)
    assert solve([loss, loss], costs, {"latency": 1.9}).met is False


def large(groups: int, options: int) -> Instance:
    """A deep chain with skips."""
    rng = np.random.default_rng(groups)
    widths = [np.linspace(w := float(rng.integers(32, 1024)), w / 10, options) for _ in range(groups)]
    layers = [
        Layer(measure, (group, (group + gap) % groups), float(rng.integers(1, 10)))
        for measure in MEASURES
        for gap in (1, 2)
        for group in range(groups)
    ]
    costs = Costs(tuple(Axis(0, {group: each}) for group, each in enumerate(widths)), tuple(layers))
    losses = [np.concatenate([[0.0], np.cumsum(np.sort(rng.exponential(size=options - 1)))]) for _ in widths]
    dense = np.zeros(groups, np.int64)
    return Instance(losses, costs, {m: costs.total(dense, m) / 2 for m in MEASURES})


def yardstick() -> None:
    """Looks choices up and counts them by small numpy calls, as the solver does."""
    sizes, scales, known = np.ones((9, 48)), np.ones((2, 8)), dict[bytes, int]()
    for number in range(40_000):
        at = (number + np.arange(8)) % 9
        found = sizes.take(at, axis=0)
        found *= sizes.take(at, axis=0)
        known[at.tobytes()] = int((scales @ found)[0].argmin())


A_SECOND = 2.7
"""In yardsticks of .37 seconds, where the bar was set: a machine may be half as fast a minute later."""


@pytest.mark.parametrize(("groups", "options"), [(50, 24), (200, 48)])
def test_two_budgets_of_a_deep_network_are_solved_in_a_second(groups: int, options: int) -> None:
    given = large(groups, options)
    found = solved(given)

    def ratio() -> float:
        start = time.process_time()
        yardstick()
        middle = time.process_time()
        assert solved(given) == found
        return (time.process_time() - middle) / (middle - start)

    assert any(ratio() < A_SECOND for _ in range(3))  # what else a machine does seldom slows the solver alone
    walked = greedy(given)
    assert found.met and walked is not None
    assert found.loss < sum(each[option] for each, option in zip(given.losses, walked, strict=True))


def test_a_width_between_two_measured_ones_costs_what_the_next_one_does() -> None:
    axes = (Axis(0, {0: np.array([3.0, 4.0, 5.0, 8.0, 9.0])}), Axis(2.5), Axis(3.0))
    table = Table((Width((0,)), Width((1, 2), 0.1)), (4.0, 0.5), np.arange(12.0).reshape(3, 4))
    costs = Costs(axes, (Layer("latency", (2,), 2.0, table),))
    found = [costs.total(np.array([option]), "latency") for option in range(5)]
    assert found == [6.0 * each for each in (4 + 2, 4 + 2, 8 + 2, 8 + 2, 8 + 2)]
