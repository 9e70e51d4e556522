"""What would lead further is said where it applies, and only there."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir
import pytest

from graphprune.axes import analyse
from graphprune.tuning.denormals import Denormals, many, without
from graphprune.tuning.goal import Figures, parse
from graphprune.tuning.trial import Asked, History, Loss, Trial
from graphprune.tuning.ways import DENSE
from graphprune.tuning.why import Ending, helps, stopped
from tests.lowering.graphs import Net
from tests.lowering.test_rules import SHAPE, gelu_by_power

from .conftest import mlp

FIGURES = Figures(1.0, 1000, 1000, 4000)
SMALLER = Figures(0.5, 500, 500, 2000)


def ended(lost: float, decisions: bool) -> Ending:
    """A search whose only cut loses so much."""
    loss = Loss(lost, lost, lost, 0.0, "y")
    history = History(parse("latency"), 0.01, FIGURES, (Trial(1, Asked("obspa", 0.5), "", SMALLER, loss),))
    return Ending(history, None, "tried", 512, 1.0, 1.0, decisions)


def normal(weight: float = 1.0, many: int = 1) -> ir.Model:
    """The small model with some weights that are given."""
    model = mlp()
    value = model.graph.initializers["w1"]
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    array[0, :many] = weight
    value.const_value = ir.tensor(array, name="w1")
    return model


@pytest.mark.parametrize(
    ("lost", "decisions", "said"), [(0.5, True, True), (0.5, False, False), (0, True, False)]
)
def test_labels_help_where_classes_that_change_stood_in_the_way(
    lost: float, decisions: bool, said: bool
) -> None:
    lines = helps(ended(lost, decisions), analyse(normal()))
    assert any(line.startswith("labels: ") for line in lines) == said


@pytest.mark.parametrize(
    ("weight", "some", "count"), [(1e-40, 40, 40), (1e-40, 1, 0), (0.0, 40, 0), (1e-30, 40, 0)]
)
def test_denormal_weights_are_counted_and_can_be_left_out(weight: float, some: int, count: int) -> None:
    model = normal(weight, some)
    assert many(model) == count
    assert many(without(model)) == 0
    kept = model.graph.initializers["w2"].const_value
    assert kept is without(model).graph.initializers["w2"].const_value


@pytest.mark.parametrize(("gain", "said"), [(1.15, True), (1.0, False)])
def test_denormal_weights_are_named_where_they_are_felt(gain: float, said: bool) -> None:
    ending = replace(ended(0.0, False), denormals=Denormals(40, gain))
    lines = helps(ending, analyse(normal()))
    assert any("40 weights are denormal floats" in line and "1.15 times" in line for line in lines) == said


def test_a_search_without_time_for_a_cut_says_so_and_how_long_it_takes() -> None:
    model = Trial(0, Asked(DENSE, 1.0), "", FIGURES, Loss(0.0, 0.0, 0.0, 0.0, "y"), seconds=20.0)
    ending = Ending(History(parse("latency"), 0.01, FIGURES, (model,)), None, "time", 512, 60.0, 40.0)
    assert stopped(ending, analyse(normal())) == ("time: 60 s were enough for no cut in full",)
    assert any("took 20 s" in line and "--time 6m" in line for line in helps(ending, analyse(normal())))


@pytest.mark.parametrize(("opset", "said"), [(17, True), (20, False)])
def test_a_later_opset_is_named_where_lowering_would_use_it(opset: int, said: bool) -> None:
    net = Net(opset, "float", SHAPE)
    lines = helps(ended(0.0, False), analyse(net.model(gelu_by_power(net, net.conv("x")))))
    assert any("--opset auto raises 17 to 20, for gelu-node" in line for line in lines) == said
