"""Gradients pass straight through rounding, within the range of the codes; scales get LSQ's."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.exotic_graphs import Case, floats
from tests.ops.test_rules_quantised import CONVOLUTIONS

pytestmark = pytest.mark.zoo

SCALE, ZERO = np.float32(0.05), np.int8(10)


def pair() -> Case:
    """x, to codes and back."""
    nodes = [("QuantizeLinear", ["x", "s", "z"], ["q"], {}), ("DequantizeLinear", ["q", "s", "z"], ["y"], {})]
    weights = {"s": np.array(SCALE), "z": np.array(ZERO)}
    return Case("pair", {"x": 4 * floats(3, 40)}, weights, nodes, ["y"], [])


def test_inside_the_gradient_is_one_and_outside_none() -> None:
    import torch

    from graphprune.autograd import Differentiable

    case = pair()
    x = torch.from_numpy(case.feeds["x"].copy()).requires_grad_()
    Differentiable(case.model()).run({"x": x})["y"].sum().backward()
    codes = np.round(case.feeds["x"] / SCALE) + ZERO
    inside = (codes >= -128) & (codes <= 127)
    assert 0.2 < inside.mean() < 1 and np.array_equal(x.grad.numpy(), inside.astype(np.float32))


def test_the_scale_gets_what_rounding_left_over_inside_and_the_bound_outside() -> None:
    from graphprune.autograd import Differentiable

    case = pair()
    net = Differentiable(case.model())
    scale = net.trainable(["s"])["s"]
    net.run(case.feeds)["y"].sum().backward()
    ratio = case.feeds["x"].astype(np.float64) / SCALE
    codes = np.round(ratio)
    bounded = np.clip(codes + int(ZERO), -128, 127) - int(ZERO)
    expected = np.where(bounded == codes, codes - ratio, bounded).sum()
    assert float(scale.grad) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: case.name)
def test_through_a_quantised_net_a_gradient_reaches_its_input(case: Case) -> None:
    import torch

    from graphprune.autograd import Differentiable

    feeds = {name: torch.from_numpy(array.copy()) for name, array in case.feeds.items()}
    leaves = [t.requires_grad_() for t in feeds.values() if t.is_floating_point()]
    outputs = Differentiable(case.model()).run(feeds)
    sum(y.sum() for y in outputs.values() if y.is_floating_point()).backward()
    assert leaves and all(bool(leaf.grad.abs().sum() > 0) for leaf in leaves)
