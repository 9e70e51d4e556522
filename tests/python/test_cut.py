"""Units picked by hand go, with everything that depends on them, and the cut is proved like any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphprune
from graphprune.errors import ArgumentError, GraphpruneError
from graphprune.passes import Cut, Prune
from tests.pipeline.conftest import mlp
from tests.proof.building import model as built

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits_cnn" / "model.onnx"


def weights(result: graphprune.Result) -> dict[str, np.ndarray]:
    graph = result.model.graph
    return {
        name: value.const_value.numpy() for name, value in graph.initializers.items() if value.const_value
    }


def test_exactly_the_named_units_go() -> None:
    dense = mlp()
    before = {n: v.const_value.numpy() for n, v in dense.graph.initializers.items() if v.const_value}
    result = graphprune.cut(dense, {"w1:1": [0, 3, 5], "w3:1": np.arange(8)})
    after = weights(result)
    assert np.array_equal(after["w1"], np.delete(before["w1"], [0, 3, 5], 1))
    assert np.array_equal(after["w2"], np.delete(before["w2"], [0, 3, 5], 0))
    assert np.array_equal(after["w3"], before["w3"][:, 8:]) and np.array_equal(after["w4"], before["w4"][8:])
    assert result.report.passes[0].proof.ok
    assert result.plan_file.pipeline == 'cut(remove={"w1:1": [0, 3, 5], "w3:1": [0, 1, 2, 3, 4, 5, 6, 7]})'


@pytest.mark.parametrize("passes", ["cut", Cut(), Cut(remove={"w1:1": ()})])
def test_a_cut_of_nothing_is_a_mistake(passes: str | Cut, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cut names no Units"):
        graphprune.compile(mlp(), passes, tmp_path / "small.onnx")
    assert not [*tmp_path.iterdir()]


def test_a_cut_is_saved_and_replayed_like_any(tmp_path: Path) -> None:
    first = graphprune.cut(DIGITS, {"onnx::Conv_142:0": [0, 3, 5]}, tmp_path / "a.onnx")
    again = graphprune.compile(DIGITS, first.plan_file.pipeline, tmp_path / "b.onnx")
    replayed = graphprune.compile(DIGITS, plan=tmp_path / "a.plan.json", output=tmp_path / "c.onnx")
    assert len({(tmp_path / f"{name}.onnx").read_bytes() for name in "abc"}) == 1
    assert again.plans == first.plans and replayed.plans[0].cuts == first.plans[0].cuts


def test_calibration_repairs_what_is_behind_the_cut() -> None:
    dense = built(
        "(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w1)\n b = Relu(a)\n y = MatMul(b, w2) }",
        21,
        w1=(6, 16),
        w2=(16, 4),
    )
    data = np.random.default_rng(0).standard_normal((256, 6)).astype(np.float32)
    plain = graphprune.cut(dense, {"w1:1": range(6)}, calibration=data, repair="none")
    refitted = graphprune.cut(dense, {"w1:1": range(6)}, calibration=data)
    drops = [result.report.agreement.drop.value for result in (plain, refitted)]  # type: ignore[union-attr]
    assert drops[1] < drops[0]


def test_a_plan_made_in_python_is_carried_out() -> None:
    plan = graphprune.Plan(cuts={"w1:1": (1, 2, 4)})
    result = graphprune.compile(mlp(), plan=plan)
    assert weights(result)["w1"].shape == (6, 3) and result.report.passes[0].proof.ok
    decided = graphprune.compile(mlp(), Prune(ratio=0.5))
    repeated = graphprune.compile(mlp(), plan=decided.plans[0])
    assert repeated.report.after == decided.report.after


WRONG: dict[str, tuple[Callable[[], object], str, str]] = {
    "no group": (lambda: graphprune.cut(mlp(), {"w9:1": [0]}), "there is no group 'w9:1'", "did you mean"),
    "the tensor": (
        lambda: graphprune.cut(mlp(), {"w1": [0]}),
        "there is no group 'w1'",
        "did you mean 'w1:1'?",
    ),
    "no unit": (lambda: graphprune.cut(mlp(), {"w1:1": [8]}), "has no unit 8", "it has 8: 0 to 7"),
    "negative": (lambda: graphprune.cut(mlp(), {"w1:1": [-1]}), "has no unit -1", "0 to 7"),
    "all": (lambda: graphprune.cut(mlp(), {"w1:1": range(8)}), "0 units would be left", "at least 1"),
    "pinned": (lambda: graphprune.cut(mlp(), {"w4:1": [0]}), "is pinned: graph output 'y'", ""),
    "mask": (lambda: graphprune.cut(mlp(), {"w1:1": [True] * 8}), "remove: expected", "numpy.flatnonzero"),
    "array mask": (
        lambda: graphprune.cut(mlp(), {"w1:1": np.ones(8, bool)}),
        "remove: expected",
        "flatnonzero",
    ),
    "a list": (lambda: graphprune.cut(mlp(), [0, 1]), "remove: expected a mapping", ""),  # type: ignore[arg-type]
    "halves": (lambda: graphprune.cut(mlp(), {"w1:1": [0.5]}), "remove: expected", ""),  # type: ignore[list-item]
    "repair": (lambda: graphprune.cut(mlp(), {}, repair="refti"), "repair: expected", "'refit'"),  # type: ignore[arg-type]
    "plan of nothing": (
        lambda: graphprune.compile(mlp(), plan=graphprune.Plan(cuts={"w4:1": (0,)})),
        "the plan cuts group 'w4:1', which is not there or is pinned",
        "",
    ),
    "plan too far": (
        lambda: graphprune.compile(mlp(), plan=graphprune.Plan(cuts={"w1:1": (0, 99)})),
        "units of group 'w1:1' that are not among its 8",
        "",
    ),
    "plan and passes": (
        lambda: graphprune.compile(mlp(), "prune", plan=graphprune.Plan()),
        "give only one: passes or plan",
        "",
    ),
    "no plan": (lambda: graphprune.compile(mlp(), plan=3), "plan must be a path", ""),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_cut_is_named(case: str) -> None:
    call, message, hint = WRONG[case]
    with pytest.raises(GraphpruneError) as caught:
        call()
    assert message in caught.value.message and hint in caught.value.hint


def test_the_command_line_cuts_alike() -> None:
    from graphprune.pipeline.registry import read

    assert read('cut(remove={"w1:1": [5, 0, 3]})') == (Cut({"w1:1": (0, 3, 5)}),)
