"""Arrays between segments come back as they were, wherever they lay."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.statistics.held import Held, pool

from .oracle import draw


@pytest.mark.parametrize("limit", [0, 100, 10**9])
def test_what_is_held_comes_back(limit: int) -> None:
    held = Held(limit)
    arrays = {
        (batch, name): draw(batch + 1, 4, seed=batch)
        for batch in range(300)  # more than a process may have open files for one each
        for name in ("h", "m")
    }
    for (batch, name), array in arrays.items():
        held.put(batch, name, array)
    held.put(0, "flag", np.array([], np.bool_))
    for (batch, name), array in arrays.items():
        assert np.array_equal(held[batch][name], array)
    assert held[0]["flag"].shape == (0,)
    for batch in range(300):
        held.drop(batch, ["h", "absent"])
        assert sorted(set(held[batch]) - {"flag"}) == ["m"]
        assert np.array_equal(held[batch]["m"], arrays[batch, "m"])


def test_files_and_memory_are_given_back() -> None:
    held = Held(64)
    for batch in range(3):
        held.put(batch, "h", draw(4, 4))
    assert list(held._files) == ["h"]
    for batch in range(3):
        held.drop(batch, ["h"])
    assert (held._files, held._bytes) == ({}, 0)


def test_a_pool_holds_zeros_that_can_be_added_to() -> None:
    zeros = pool(10)
    one, two = zeros((2, 2)), zeros((6,))
    one += 1
    assert one.sum() == 4
    assert not two.any()
