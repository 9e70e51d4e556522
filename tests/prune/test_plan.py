"""A plan is a value: it survives JSON, repeats on another checkpoint, refuses what it does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import Options
from graphprune.errors import ArgumentError, PromiseError
from graphprune.prune.plan import Plan
from tests.axes.claims import weight

from .widths import convs, deep, plan_of

PLAN = Plan(
    Options(layernorm="expand", share="tie"),
    {"w:0": (0, 2, 5)},
    {"w:0": 6},
    {"w:0": (1.0, 0.25, 3.0, 0.0, 1e-9, 7.0)},
)


def test_json_round_trip() -> None:
    assert Plan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN


def test_json_round_trip_with_tensors() -> None:
    array, mask = np.arange(6.0), np.arange(6) % 2 == 0
    plan = Plan(cuts={}, replaced={"w": array}, masks={"v": mask})
    again = Plan.from_json(plan.to_json(), {"replaced/w": array, "masks/v": mask})
    np.testing.assert_array_equal(again.replaced["w"], array)
    np.testing.assert_array_equal(again.masks["v"], mask)
    assert not again.empty


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.pop("groups"),
        lambda d: d["groups"]["w:0"].update(kept=[0, 6]),
        lambda d: d["groups"]["w:0"].update(kept=[-1]),
        lambda d: d["groups"]["w:0"].update(kept=[]),
        lambda d: d["groups"]["w:0"].update(kept=[0, 0, 1]),
        lambda d: d["groups"]["w:0"].update(kept="all"),
        lambda d: d.update(groups=[]),
        lambda d: d.update(options={"colour": "red"}),
        lambda d: d.update(replaced=["w"]),
        lambda d: d.update(replaced={}),
        lambda d: d.update(masks="w"),
        lambda d: d.update(bypassed="w"),
        lambda d: d.update(options=[]),
    ],
)
def test_a_document_that_is_not_a_plan_is_refused(break_it: object) -> None:
    document = json.loads(json.dumps(PLAN.to_json()))
    break_it(document)  # type: ignore[operator]
    with pytest.raises(ArgumentError, match="the plan cannot be read"):
        Plan.from_json(document)


def test_the_first_and_the_last_unit_may_stay() -> None:
    document = json.loads(json.dumps(PLAN.to_json()))
    document["groups"]["w:0"].update(kept=[5, 0])
    assert Plan.from_json(document).cuts == {"w:0": (0, 5)}


@pytest.mark.parametrize("part", ["replaced", "masks", "biases"])
def test_a_plan_that_only_changes_numbers_is_not_empty(part: str) -> None:
    assert not Plan(**{part: {"w": np.ones(2)}}).empty  # type: ignore[arg-type]
    assert not Plan(bypassed=("y",)).empty and Plan().empty


def test_a_whole_plan_is_empty() -> None:
    assert Plan(cuts={"w:0": (0, 1)}, widths={"w:0": 2}).empty
    assert not PLAN.empty


def test_a_plan_can_be_restricted_to_some_groups() -> None:
    plan = plan_of(deep(), "prune(ratio=0.5, scope=local)")
    assert set(plan.restricted({"w2:1"}).cuts) == {"w2:1"}


def test_a_plan_file_repeats_the_cut_on_another_checkpoint(tmp_path: Path) -> None:
    first, second = convs(16, 32), convs(16, 32)
    for value in second.graph.initializers.values():
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * 0.5 + 0.1, name=value.name)
    one = graphprune.compile(first, "prune(ratio=0.5)", tmp_path / "one.onnx")
    two = graphprune.compile(second, plan=tmp_path / "one.plan.json")
    assert two.plans[0].cuts == one.plans[0].cuts
    dense, kept = weight(second, "w1"), list(one.plans[0].cuts["w1:0"])
    np.testing.assert_array_equal(weight(two.model, "w1"), dense[kept])


def test_a_plan_for_another_width_is_refused(tmp_path: Path) -> None:
    graphprune.compile(convs(16, 32), "prune(ratio=0.5)", tmp_path / "one.onnx")
    with pytest.raises(PromiseError, match="the plan was made for another graph"):
        graphprune.compile(convs(16, 48), plan=tmp_path / "one.plan.json")
