"""A plan is a value: it survives JSON, repeats on another checkpoint, refuses what it does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
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


UNITS, OBJECTS, LISTS = "keeps units that it does not have", "is not an object", "is not a list"


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda d: d.pop("groups"), "groups"),
        (lambda d: d.pop("options"), "options"),
        (lambda d: d["groups"]["w:0"].pop("kept"), "kept"),
        (lambda d: d["groups"]["w:0"].pop("width"), "width"),
        (lambda d: d["groups"]["w:0"].update(kept=[0, 6]), UNITS),
        (lambda d: d["groups"]["w:0"].update(kept=[-1]), UNITS),
        (lambda d: d["groups"]["w:0"].update(kept=[]), UNITS),
        (lambda d: d["groups"]["w:0"].update(kept=[0, 0, 1]), UNITS),
        (lambda d: d["groups"]["w:0"].update(kept="all"), "'kept' is not a list"),
        (lambda d: d["groups"]["w:0"].update(width="wide"), "'width' is not a whole number"),
        (lambda d: d["groups"]["w:0"].update(scores=["high"]), "in 'scores' is not a number"),
        (lambda d: d.update(groups=[]), OBJECTS),
        (lambda d: d.update(options=[]), OBJECTS),
        (lambda d: d.update(options={"colour": "red"}), "colour"),
        (lambda d: d.update(replaced=["w"]), "replaced tensor of 'w'"),
        (lambda d: d.update(masks=["w"]), "masks tensor of 'w'"),
        (lambda d: d.update(biases=["w"]), "biases tensor of 'w'"),
        (lambda d: d.update(replaced={}), LISTS),
        (lambda d: d.update(masks="w"), LISTS),
        (lambda d: d.update(biases=0), LISTS),
        (lambda d: d.update(bypassed="w"), LISTS),
    ],
)
def test_a_document_that_is_not_a_plan_is_refused_and_says_why(break_it: object, words: str) -> None:
    document = json.loads(json.dumps(PLAN.to_json()))
    break_it(document)  # type: ignore[operator]
    with pytest.raises(ArgumentError, match=f"the plan .*{words}"):
        Plan.from_json(document)


def test_what_an_older_version_did_not_write_is_nothing() -> None:
    document = json.loads(json.dumps(PLAN.to_json()))
    for name in ("replaced", "masks", "biases", "bypassed"):
        del document[name]
    del document["groups"]["w:0"]["scores"]
    assert Plan.from_json(document) == replace(PLAN, scores={"w:0": ()})


def test_what_a_plan_holds_comes_back() -> None:
    """In every field, several of a kind, and the tensors under their own names."""
    draw = np.random.default_rng(0)
    arrays = {name: draw.standard_normal(3) for name in "abcdef"}
    plan = Plan(
        Options(
            layernorm="expand", allow_inexact=True, share="split", io="fixed", shuffle="keep", dequantize=True
        ),
        {"w:0": (0, 2, 5), "v:1": (1,)},
        {"w:0": 6, "v:1": 2},
        {"w:0": (1.0, 0.25, 3.0, 0.0, 1e-9, 7.0), "v:1": (2.0, 0.5)},
        replaced={name: arrays[name] for name in "ab"},
        masks={name: arrays[name] > 0 for name in "cd"},
        biases={name: arrays[name] for name in "ef"},
        bypassed=("z", "y"),
    )
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())), plan.tensors)
    for field in ("options", "cuts", "widths", "scores", "bypassed"):
        assert getattr(again, field) == getattr(plan, field)
    for field in ("replaced", "masks", "biases"):
        one, two = getattr(plan, field), getattr(again, field)
        assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("kind", "whole"), [("INT4", np.int8), ("UINT4", np.uint8), ("INT8", np.int8), ("UINT8", np.uint8)]
)
def test_small_integers_are_stored_in_whole_bytes(kind: str, whole: type) -> None:
    array = np.array([1, 7, 0]).astype(ir.DataType[kind].numpy())
    stored = Plan(replaced={"w": array}).tensors["replaced/w"]
    assert stored.dtype == whole and stored.tolist() == [1, 7, 0]


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
