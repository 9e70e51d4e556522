"""Random graphs (tools.fuzz), lowered: equal region by region and as a whole, whatever stands in them."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.ir.check import check
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.agreement import agree
from graphprune.pipeline.settings import Comparing
from graphprune.proof.lowered import prove_lowered
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.session import open_session
from tests.properties.test_random_graphs import BLOCKS
from tools.fuzz.generate import generate

from .graphs import Net, feeds, lowered, runs
from .test_rules import (
    SHAPE,
    as_norm,
    chosen,
    gelu,
    half_tanh,
    hard_sigmoid,
    hard_swish,
    hard_swish_divided_first,
    leaky,
    max_zero,
    merged,
    norm_before,
    prelu_by_min,
    prelu_turned,
    relu_min,
    scale_before_padding,
    scaled_behind,
    silu,
    split_concat,
    unit_ramp,
    written_norm,
)


def differences(seed: int, blocks: tuple[str, ...] | None = None) -> list[str]:
    """What is not equal, by the label of the graph; and a line where nothing was rewritten."""
    made = generate(seed, blocks=blocks)
    normalise(made.model, record_of)
    after, uses = lowered(made.model)
    if not uses or not runs(made.model):
        return []
    check(after)
    feed = runnable_inputs(made.model)
    found = prove_lowered(made.model, after, {name: array.shape for name, array in feed.items()}, 1e-4)
    whole = agree(made.model, after, (feed,), Comparing(), optimise=False)
    wrong = [f"{made.label}: {name}" for name in found.wrong]
    return wrong if whole.ok else [*wrong, f"{made.label}: {whole.worst}"]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block(block: str) -> None:
    assert differences(1, (block,)) == []


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_chains(first: int) -> None:
    assert [line for seed in range(first, first + 20) for line in differences(seed)] == []


STEPS = (
    hard_swish, hard_swish_divided_first, hard_sigmoid, unit_ramp, prelu_turned, prelu_by_min, leaky, chosen,
    max_zero, relu_min, silu, half_tanh, gelu, scaled_behind, written_norm, norm_before, scale_before_padding,
    as_norm, merged, split_concat,
)  # fmt: skip
"""Patterns that leave the shape as it is."""


@pytest.mark.parametrize("seed", range(24))
def test_patterns_in_any_order_and_read_by_anybody(seed: int) -> None:
    random = np.random.default_rng(seed)
    net = Net(int(random.choice([11, 13, 18])), "float", SHAPE, seed=100 * seed)
    values = ["x"]
    for step in random.choice(len(STEPS), 6):
        made = STEPS[step](net, values[-1] if random.random() < 0.8 else str(random.choice(values)))
        values.append(net.op("Add", made, str(random.choice(values))) if random.random() < 0.3 else made)
    net.outputs += [name for name in values[1:-1] if random.random() < 0.1]
    model = net.model(net.op("Add", values[-1], values[-2]))
    after, uses = lowered(model)
    assert uses
    check(after)
    found = prove_lowered(model, after, {"x": SHAPE}, 1e-4)
    assert found.ok and not found.skipped, found
    feed = feeds(model, {"x": SHAPE})
    one, two = (open_session(each, optimise=False).run(feed) for each in (model, after))
    for name in one:
        assert np.abs(one[name] - two[name]).max() <= 1e-4 * max(1, np.abs(one[name]).max())
