"""A plan for another model is refused before anything is cut."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.errors import ArgumentError
from graphprune.prune.fits import require_fit
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from tests.properties.nets import net
from tools.relations import analysed

FOUND = analysed(net(("mlp",)).model)
GROUP = FOUND.prunable[0]


@pytest.mark.parametrize(
    ("plan", "what"),
    [
        (Plan(cuts={"nobody:0": (0,)}), "there is no group 'nobody:0'"),
        (Plan(cuts={GROUP.id: ()}), "keeps nothing"),
        (Plan(cuts={GROUP.id: (0, GROUP.size)}), f"not among its {GROUP.size}"),
        (Plan(cuts={GROUP.id: (0, GROUP.size - 1, GROUP.size)}), f"not among its {GROUP.size}"),
        (Plan(cuts={GROUP.id: (-1, 0)}), f"not among its {GROUP.size}"),
        (Plan(cuts={GROUP.id: (1, 1)}), "more than once"),
        (Plan(cuts={GROUP.id: (0,)}, widths={GROUP.id: 10**6}), "not 1000000"),
        (Plan(masks={"nobody": np.ones(3, bool)}), "there is no tensor 'nobody'"),
        (Plan(replaced={GROUP.slices[0].initializer: np.ones((1, 1, 1), np.float32)}), "not [1, 1, 1]"),
    ],
)
def test_a_plan_that_does_not_fit(plan: Plan, what: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        rewrite(FOUND.model, FOUND, plan)
    assert what in caught.value.message and "fits the model" in (caught.value.hint or "")


def test_the_first_and_the_last_unit_may_stay() -> None:
    kept = {GROUP.id: (0, GROUP.size - 1)}
    require_fit(FOUND, Plan(cuts=kept))
    require_fit(FOUND, Plan(cuts=kept, widths={GROUP.id: GROUP.size}))
