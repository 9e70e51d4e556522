"""Whether repaired codes help the whole model: every output by what it varies, on all data together."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Analysis
from graphprune.prune.repair.worth import helps
from tests.axes.claims import sketch

Array = np.ndarray
DRAW = np.random.default_rng(0)
W1, W2, W3 = (DRAW.standard_normal(shape).astype(np.float32) for shape in ((4, 8), (8, 3), (8, 2)))
DATA = [{"x": DRAW.standard_normal((count, 4)).astype(np.float32)} for count in (40, 25)]
KEPT = (0, 1, 2, 4, 5, 7)


def two() -> Analysis:
    """Two outputs, the first a thousand times larger, and one of integers."""
    return sketch(
        """(float[n,4] x) => (float[n,3] y, float[n,2] z, int64[n] best) { a = MatMul(x, w1)\n r = Tanh(a)
        y = MatMul(r, w2)\n z = MatMul(r, w3)\n best = ArgMax <axis = 1, keepdims = 0> (y) }""",
        w1=W1, w2=1000 * W2, w3=W3,
    )  # fmt: skip


def refitted(weight: Array) -> Array:
    """Least squares on the data for what is left."""
    rows = np.tanh(np.concatenate([feed["x"] for feed in DATA]) @ W1)
    found = np.zeros_like(weight)
    found[list(KEPT)] = np.linalg.lstsq(rows[:, list(KEPT)], rows @ weight, rcond=None)[0]
    return found


def verdict(replaced: dict[str, Array], biases: dict[str, Array] | None = None) -> bool:
    analysis = two()
    (group,) = analysis.prunable
    return helps(analysis, {group.id: KEPT}, replaced, biases or {}, DATA)


def test_nothing_changed_does_not_help() -> None:
    assert not verdict({})


def apart(two: Array, three: Array) -> float:
    """Squared error of both outputs over what they vary, batch by batch, without the Units that go."""
    total = 0.0
    for dense, now in ((1000 * W2, two), (W3, three)):
        rows = [np.tanh(feed["x"].astype(float) @ W1) for feed in DATA]
        kept = np.isin(np.arange(8), KEPT)[:, None]
        errors = sum(float(((row @ dense - row @ (now * kept)) ** 2).mean()) for row in rows)
        total += errors / sum(float((row @ dense).var()) for row in rows)
    return total


@pytest.mark.parametrize("first", [-1.0, 0.0, 0.02, 1.0])
@pytest.mark.parametrize("second", [-1.0, 0.0, 0.02, 1.0])
def test_outputs_count_by_what_they_vary_and_not_by_their_size(first: float, second: float) -> None:
    """On the way from the cut weights to their refit, and the other way."""
    one = 1000 * (W2 + first * (refitted(W2) - W2))
    two = W3 + second * (refitted(W3) - W3)
    better = apart(one, two) < apart(1000 * W2, W3)
    assert verdict({"w2": one, "w3": two}) == (better and (first, second) != (0, 0))


def test_biases_are_part_of_what_is_judged() -> None:
    rows = np.tanh(np.concatenate([feed["x"] for feed in DATA]) @ W1)
    missing = rows @ W3 - rows[:, list(KEPT)] @ W3[list(KEPT)]
    assert verdict({}, {"z": missing.mean(axis=0)})
    assert not verdict({}, {"z": -missing.mean(axis=0)})
