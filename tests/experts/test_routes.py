"""What sums over tokens say about experts, with numbers worked out by hand (docs/methods.md#pass-experts)."""

from __future__ import annotations

import numpy as np

from graphprune.experts.routes import Routes, summed

INDEX = np.array([[0, 1], [0, 2]])
GATES = np.array([[0.9, 0.1], [0.6, 0.4]])
NORMS = np.array([[1.0, 20], [5, 1]])
COSINES = np.array([0.5, 0.9])


def routes() -> Routes:
    routed, gates, added = np.zeros((2, 4), bool), np.zeros((2, 4)), np.zeros((2, 4))
    np.put_along_axis(routed, INDEX, True, 1)
    np.put_along_axis(gates, INDEX, GATES, 1)
    np.put_along_axis(added, INDEX, GATES * NORMS, 1)
    return summed(routed, gates, added, 1 - COSINES, np.zeros((2, 4)))


def test_easy_ep_reap_and_gate_sum_have_the_values_of_the_oracle() -> None:
    found = routes()
    assert np.allclose(found.turned, [0.75, 1.00, 0.04, 0])
    assert np.allclose(found.gate, [1.5, 0.1, 0.4, 0])
    assert np.allclose(found.mean_added, [1.95, 2.0, 0.4, 0])
    assert found.count.tolist() == [2, 1, 1, 0]
    assert set(np.argsort(-found.turned)[:2].tolist()) == {0, 1}
    assert set(np.argsort(-found.gate)[:2].tolist()) == {0, 2}


def test_experts_of_one_token_are_chosen_together() -> None:
    together = routes().together
    assert together[0].tolist() == [2, 1, 1, 0] and together[1, 2] == 0


def test_two_batches_are_one() -> None:
    one = routes()
    both = one + one
    assert both.tokens == 4 and np.allclose(both.turned, 2 * one.turned)
    assert np.allclose(both.mean_added, one.mean_added) and both.scores.shape == (4, 4)


def test_a_layer_that_lengthens_the_stream_does_not_count_as_turning_it() -> None:
    """1 - cos may come out as -1e-16."""
    found = summed(
        np.ones((1, 1), bool), np.ones((1, 1)), np.ones((1, 1)), np.array([-1e-9]), np.zeros((1, 1))
    )
    assert found.turned.tolist() == [0]
