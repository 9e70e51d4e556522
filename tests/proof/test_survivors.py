"""Which plans may be carried out at all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from graphprune.axes.groups import Group, Pin
from graphprune.proof.survivors import illegal
from graphprune.prune.plan import Plan

WIDE = Group("g", np.arange(8), (), None, floor=3)
FIXED = replace(WIDE, pin=Pin("it is read outside", "y", ""))
BLOCKED = replace(WIDE, block=np.arange(8) % 2)


def words(group: Group, kept: tuple[int, ...]) -> str:
    analysis = SimpleNamespace(groups=(group,))
    return "; ".join(illegal(analysis, Plan(cuts={"g": kept}, widths={"g": 8})))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("group", "kept", "why"),
    [
        (WIDE, (0, 3, 7), ""),
        (WIDE, tuple(range(8)), ""),
        (WIDE, (0, 7), "keeps 2 units of group 'g', which needs 3"),
        (WIDE, (), "keeps 0 units of group 'g', which needs 3"),
        (WIDE, (0, 3, 8), "do not exist"),
        (WIDE, (-1, 0, 3), "do not exist"),
        (WIDE, (3, 0, 7), "in no order"),
        (WIDE, (0, 3, 3, 7), "in no order"),
        (FIXED, tuple(range(8)), ""),
        (FIXED, tuple(range(7)), "which is pinned: it is read outside"),
        (BLOCKED, (0, 1, 2, 3), ""),
        (BLOCKED, (0, 1, 2), "unequal blocks"),
        (BLOCKED, (0, 2, 4), "unequal blocks"),
        (replace(WIDE, id="h"), (0, 3, 7), "which the model does not have"),
    ],
)
def test_a_plan_keeps_enough_of_what_there_is_and_all_of_what_is_pinned(
    group: Group, kept: tuple[int, ...], why: str
) -> None:
    found = words(group, kept)
    assert (why in found) if why else not found
