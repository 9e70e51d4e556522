"""A budget delivered is the budget asked for, whatever a pass foresaw, or exit 1 and no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import PromiseError
from graphprune.pipeline import compile
from graphprune.pipeline.job import Job
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.pipeline.result import Result
from graphprune.pipeline.settings import Settings
from graphprune.prune.plan import Plan
from tests.proof.building import parsed
from tests.prune.widths import convs, deep

from .conftest import mlp


@dataclass(frozen=True)
class Boast(Pass):
    """Names budgets, removes one Unit, and says nothing of what is missing."""

    name: ClassVar[str] = "boast"

    params: float | None = None
    macs: float | None = None
    bytes: float | None = None

    def decide(self, subject: Subject, context: Context) -> Plan:
        group = subject.analysis.prunable[0]
        return Plan(subject.options, {group.id: tuple(range(1, group.size))}, {group.id: group.size})


@dataclass(frozen=True)
class Grow(Pass):
    """Leaves a matrix of its own in the model, as a repair might."""

    name: ClassVar[str] = "grow"

    def transform(self, model: ir.Model, context: Context) -> ir.Model:
        tensor = ir.tensor(np.ones((9, 9), np.float32), name="own")
        value = ir.Value(name="own", shape=ir.Shape((9, 9)), type=ir.TensorType(ir.DataType.FLOAT))
        value.const_value = tensor
        model.graph.register_initializer(value)
        return model


def run(*passes: Pass, output: Path | None = None, **settings: object) -> Result:
    return compile.run(Job(mlp(), passes, output=output), Settings(bench=False, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", [{"params": 0.5}, {"macs": 0.5}])
def test_a_pass_that_misses_its_budget_in_silence_leaves_no_file(
    budget: dict[str, float], tmp_path: Path
) -> None:
    with pytest.raises(PromiseError, match=r"(params|macs)=0.5 is missed: 0\.9\d+ of the model's") as caught:
        run(Boast(**budget), output=tmp_path / "small.onnx")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missed_budget_may_be_written_and_is_said(tmp_path: Path) -> None:
    result = run(Boast(params=0.5), output=tmp_path / "small.onnx", allow_short=True)
    assert (tmp_path / "small.onnx").exists()
    assert any("params=0.5 is missed" in line for line in result.report.warnings)
    (budget,) = result.report.budgets
    assert not budget.met
    assert budget.left == result.report.after.params / result.report.before.params


@dataclass(frozen=True)
class Greedy(Boast):
    """Names a ratio, and removes more."""

    name: ClassVar[str] = "greedy"

    ratio: float | None = None


def test_a_pass_that_removes_more_than_its_ratio_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(PromiseError, match=r"ratio=0.01 is missed: the plan removes 0\.02\d of the Units"):
        run(Greedy(ratio=0.01), output=tmp_path / "small.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_ratio_is_told_as_asked_and_as_left() -> None:
    report = graphprune.compile(deep(), 'prune(ratio=0.5, ratios={"w3:1": 0.25})').report
    (budget,) = report.budgets
    kept = {group.id: group.kept / group.width for group in report.passes[0].groups if not group.pin}
    own = "w3:1"
    rest = [group for group in report.passes[0].groups if not group.pin and group.id != own]
    assert kept[own] == 0.75
    assert (budget.what, budget.asked, budget.met) == ("ratio", 0.5, True)
    assert budget.left == sum(group.kept for group in rest) / sum(group.width for group in rest)


def test_a_plan_ends_as_its_compile_did(tmp_path: Path) -> None:
    dense = convs(32, 32)
    first = graphprune.compile(dense, "prune(params=0.8, align=16)", tmp_path / "a.onnx").report
    again = graphprune.compile(dense, plan=tmp_path / "a.plan.json", output=tmp_path / "b.onnx").report
    assert again.budgets == first.budgets and again.warnings == first.warnings
    assert any("no smaller step than group" in line for line in again.warnings)
    assert (tmp_path / "b.plan.json").read_text() == (tmp_path / "a.plan.json").read_text()


def test_a_plan_that_misses_its_budget_is_written_only_where_that_is_allowed(tmp_path: Path) -> None:
    asked, short, output = "prune(params=0.02, align=1)", tmp_path / "a.onnx", tmp_path / "b.onnx"
    graphprune.compile(deep(), asked, short, allow_short=True)
    plan = tmp_path / "a.plan.json"
    with pytest.raises(PromiseError, match=r"params=0.02 is missed: 0\.\d+ of the model's") as caught:
        graphprune.compile(deep(), plan=plan, output=output)
    assert caught.value.exit_code == 1 and not output.exists()
    made = graphprune.compile(deep(), plan=plan, allow_short=True)
    assert not made.report.budgets[0].met


def test_a_plan_of_a_pass_that_is_not_installed_says_what_is_not_judged(tmp_path: Path) -> None:
    made = run(Boast(params=0.99))
    report = graphprune.compile(mlp(), plan=made.plan_file).report
    assert any("budgets of boast(params=0.99) are not judged" in line for line in report.warnings)


@pytest.mark.parametrize(
    "passes", ["prune(params=0.7), prune(params=0.5)", "prune(params=0.5), prune(params=0.9)"]
)
def test_what_another_pass_removed_is_no_step_too_wide(passes: str) -> None:
    assert not graphprune.compile(deep(), passes).report.warnings


def test_a_later_pass_that_grows_the_model_misses_the_budget_of_an_earlier_one() -> None:
    assert run(Boast(params=0.99)).report.budgets[0].met
    with pytest.raises(PromiseError, match=r"params=0\.99 is missed: 1\.157"):
        run(Boast(params=0.99), Grow())


def test_a_budget_is_a_share_of_the_model_as_given_whichever_pass_says_it() -> None:
    once = graphprune.compile(deep(), "prune(params=0.5)").report
    twice = graphprune.compile(deep(), "prune(params=0.5), prune(params=0.5)").report
    in_parts = graphprune.compile(deep(), "prune(params=0.7), prune(params=0.5)").report
    assert twice.after == once.after
    assert 0.45 * once.before.params <= in_parts.after.params <= 0.5 * once.before.params


def test_parameters_of_quantised_weights_are_what_a_budget_counts() -> None:
    codes = np.random.default_rng(0).integers(-99, 99, (24, 40), np.int8)
    dense = parsed(
        "(float[n,24] x) => (float[n,3] y) { w = DequantizeLinear(q, s, z)\n h = MatMul(x, w)\n"
        " r = Relu(h)\n y = MatMul(r, v) }",
        21,
        np.float32,
        q=codes,
        s=np.array(0.01, np.float32),
        z=np.array(0, np.int8),
        v=(40, 3),
    )
    report = graphprune.compile(dense, "prune(params=0.5)").report
    assert report.before.params == 24 * 40 + 40 * 3
    assert 0.47 * report.before.params <= report.after.params <= 0.5 * report.before.params


def test_macs_that_are_not_known_are_no_budget() -> None:
    dense = parsed(
        "(float[5] m, float[5,6] x) => (float[k,3] y) { h = MatMul(x, w)\n b = Cast <to = 9> (m)\n"
        " c = Compress <axis = 0> (h, b)\n y = MatMul(c, v) }",
        21,
        np.float32,
        w=(6, 16),
        v=(16, 3),
    )
    with pytest.raises(graphprune.GraphpruneError, match="multiply-adds of this model are not known"):
        graphprune.compile(dense, "prune(macs=0.5)")
    report = graphprune.compile(dense, "prune(params=0.5)").report
    assert report.before.macs is None
    assert report.after.params <= 0.5 * report.before.params


@pytest.mark.parametrize(
    "method", ["prune", "prune(scope=local)", "prune(scope=isomorphic, per=budget)", "prune(rounds=2)"]
)
@pytest.mark.parametrize(("params", "macs", "size"), [(0.6, 0.4, None), (0.4, 0.6, 0.5), (0.9, 0.9, 0.3)])
def test_of_several_budgets_all_hold_and_one_is_used_up(
    method: str, params: float, macs: float, size: float | None
) -> None:
    asked = {"params": params, "macs": macs} | ({} if size is None else {"bytes": size})
    text = ", ".join(f"{what}={share}" for what, share in asked.items())
    passes = f"{method.removesuffix(')')}{', ' if '(' in method else '('}align=1, {text})"
    report = graphprune.compile(convs(32, 40), passes).report
    assert {each.what: each.asked for each in report.budgets} == asked
    for budget in report.budgets:
        assert budget.left == getattr(report.after, budget.what) / getattr(report.before, budget.what)
        assert budget.met and budget.left <= asked[budget.what]
    assert any(asked[budget.what] - budget.left < 0.1 for budget in report.budgets)
    assert not report.warnings, "a budget that another one makes slack is no step too wide"


@pytest.mark.parametrize(
    "budget", ["params=4k", "params=4000", "bytes=16KB", "bytes=15KiB", "macs=0.25M", "macs=250k"]
)
def test_above_one_a_budget_is_an_amount(budget: str) -> None:
    dense = convs(32, 40)
    report = graphprune.compile(dense, f"prune({budget}, align=1)").report
    (found,) = report.budgets
    what, _, text = budget.partition("=")
    most = {"4k": 4000, "4000": 4000, "16KB": 16_000, "15KiB": 15_360, "0.25M": 250_000, "250k": 250_000}[
        text
    ]
    assert 0.9 * most < getattr(report.after, what) <= most
    assert found.asked == most / getattr(report.before, what) and found.met
    with pytest.raises(PromiseError, match=f"{what}={most} is missed: [0-9]+ "):
        run_missed(what, most, dense)


def run_missed(what: str, most: int, dense: ir.Model) -> None:
    """A pass that names a budget and misses it."""
    passes = (Boast(**{what: float(most)}),)
    compile.run(Job(dense, passes), Settings(bench=False))


def test_bytes_are_those_of_the_result_with_the_numbers_that_exact_cuts_add() -> None:
    """An exact LayerNorm of a cut width brings constants, which no count of weights foresees."""
    dense = parsed(
        "(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w1)\n b = LayerNormalization(a, g, c)\n"
        " y = MatMul(b, w2) }",
        21,
        np.float32,
        w1=(6, 40),
        g=(40,),
        c=(40,),
        w2=(40, 4),
    )
    whole = graphprune.compile(dense, "").report.before.bytes
    for target in range(whole // 2, whole // 2 + 60, 4):
        report = graphprune.compile(dense, f"prune(bytes={target}, layernorm=expand)").report
        assert target - 200 < report.after.bytes <= target


def test_replay_is_held_to_all_budgets_of_its_pass(tmp_path: Path) -> None:
    asked = "prune(params=0.5, macs=0.5, bytes=0.45, align=1)"
    first = graphprune.compile(convs(32, 40), asked, tmp_path / "a.onnx").report
    again = graphprune.compile(convs(32, 40), plan=tmp_path / "a.plan.json").report
    assert again.budgets == first.budgets and len(first.budgets) == 3


@pytest.mark.parametrize(
    ("passes", "said"),
    [
        ("prune(params=0.001, macs=0.002)", "params=0.001 cannot be met.*\n.*macs=0.002 cannot be met"),
        ("prune(params=20)", "params=20 cannot be met"),
    ],
)
def test_every_budget_out_of_reach_is_named(passes: str, said: str) -> None:
    with pytest.raises(PromiseError, match=said) as caught:
        graphprune.compile(deep(), passes)
    assert ("did you mean params=0.2" in caught.value.hint) == ("=20" in passes)
