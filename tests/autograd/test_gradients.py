"""Gradients of values, per sample, of gradients, and of the gates of Groups."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import analyse
from graphprune.errors import ArgumentError, DataError
from graphprune.ir.normalise import normalise
from graphprune.labels.options import Options
from graphprune.ops import record_of
from graphprune.prune.gates import gated
from tests.autograd.nets import fed, mlp
from tests.ops.exotic_graphs import Case, floats

pytestmark = pytest.mark.zoo


def loss(outputs):  # type: ignore[no-untyped-def]
    return outputs["y"].pow(3).sum()


def exact():  # type: ignore[no-untyped-def]
    """A small net in double precision, with its inputs."""
    import torch

    from graphprune.autograd import Differentiable

    case = mlp()
    return Differentiable(case.model(), precision="float64"), {
        name: torch.from_numpy(array).double() for name, array in fed(case).items()
    }


def test_gradients_reach_parameters_inputs_and_values_as_the_formula_says() -> None:
    import torch

    from graphprune.autograd.gradients import gradients

    net, feeds = exact()
    found = gradients(net, feeds, loss, ["w", "r1", "x", "y"])
    y, r1 = net.run(feeds, ["y"])["y"], net.run(feeds, ["r1"])["r1"]
    at_y = 3 * y**2
    assert torch.allclose(found["y"], at_y)
    assert torch.allclose(found["w"], r1.mT @ at_y)
    assert torch.allclose(found["r1"], at_y @ net.parameters["w"].mT)
    step = torch.zeros_like(feeds["x"])
    step[1, 2] = 1e-6
    ahead, behind = (float(loss(net.run({"x": feeds["x"] + s}))) for s in (step, -step))
    assert float(found["x"][1, 2]) == pytest.approx((ahead - behind) / 2e-6, rel=1e-6)
    assert not any(tensor.requires_grad for tensor in net.parameters.values())
    with pytest.raises(DataError, match="no value named 'q'"):
        gradients(net, feeds, loss, ["q"])


@pytest.mark.parametrize("vectorised", [False, True])
def test_samples_by_themselves_sum_to_the_batch(vectorised: bool) -> None:
    import torch

    from graphprune.autograd.gradients import gradients, per_sample

    net, feeds = exact()
    each = per_sample(net, feeds, loss, ["w0", "w"], vectorised=vectorised)
    whole = gradients(net, feeds, loss, ["w0", "w"])
    second = gradients(net, {"x": feeds["x"][1:2]}, loss, ["w0"])
    assert each["w0"].shape == (4, 6, 6)
    assert all(torch.allclose(each[name].sum(0), whole[name]) for name in whole)
    assert torch.allclose(each["w0"][1], second["w0"])
    with pytest.raises(ArgumentError, match="'v'"):
        per_sample(net, feeds, loss, ["v"])


def test_the_hessian_times_a_vector_is_how_the_gradient_changes_along_it() -> None:
    import torch

    from graphprune.autograd.gradients import gradients, hessian_vector

    net, feeds = exact()
    draw = torch.Generator().manual_seed(0)
    vector = {
        name: torch.randn(net.parameters[name].shape, generator=draw, dtype=torch.float64)
        for name in ("w0", "w")
    }
    found = hessian_vector(net, feeds, loss, vector)
    sides = []
    for sign in (1, -1):
        for name, along in vector.items():
            net.parameters[name].add_(sign * 1e-6 * along)
        sides.append(gradients(net, feeds, loss, vector))
        for name, along in vector.items():
            net.parameters[name].sub_(sign * 1e-6 * along)
    for name in vector:
        expected = (sides[0][name] - sides[1][name]) / 2e-6
        assert torch.allclose(found[name], expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_gates_of_groups_have_gradients_that_say_what_closing_them_does() -> None:
    import torch

    from graphprune.autograd import Differentiable
    from graphprune.autograd.gradients import gradients

    nodes = [
        ("Conv", ["x", "a"], ["h"], {}),
        ("Relu", ["h"], ["r"], {}),
        ("Conv", ["r", "b"], ["y"], {}),
    ]
    weights: dict[str, np.ndarray | tuple[int, ...]] = {"a": (5, 3, 3, 3), "b": (4, 5, 1, 1)}
    case = Case("conv", {"x": floats(2, 3, 6, 6)}, weights, nodes, ["y"], [5])
    model = case.model()
    analysis = analyse(model, Options(), normalise(model, record_of))
    (group,) = analysis.prunable
    gates = gated(analysis)
    net = Differentiable(gates.model, precision="float64")
    feeds = {
        name: torch.from_numpy(np.array(a)).double() for name, a in {**case.feeds, **gates.gates()}.items()
    }
    name = gates.groups[group.id]
    slope = gradients(net, feeds, lambda outputs: outputs["y"].sum(), [name])[name]
    open_sum = net.run(feeds)["y"].sum()
    for unit in range(5):
        shut = gates.gates({group.id: tuple(np.delete(np.arange(5), unit).tolist())})
        closed = net.run({**feeds, name: torch.from_numpy(shut[name]).double()})["y"].sum()
        assert float(open_sum - closed) == pytest.approx(float(slope[unit]), rel=1e-9)  # linear in every gate


def test_what_a_loss_does_not_depend_on_has_no_gradient() -> None:
    import torch

    from graphprune.autograd.gradients import gradients, hessian_vector

    net, feeds = exact()
    ones = {name: torch.ones_like(net.parameters[name]) for name in ("w", "w0")}
    constant = gradients(net, feeds, lambda outputs: torch.ones(()), ["w", "x"])
    assert not any(slope.any() for slope in constant.values())
    straight = hessian_vector(net, feeds, lambda outputs: outputs["y"].sum(), {"w": ones["w"]})
    assert not straight["w"].any()
    inner = gradients(net, feeds, lambda outputs: outputs["y"].detach().sum(), ["w0"])
    assert not inner["w0"].any()
    flat = hessian_vector(net, feeds, lambda outputs: torch.ones(()), ones)
    assert not any(slope.any() for slope in flat.values())
