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
from graphprune.pipeline.compile import Job, Result
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.pipeline.settings import Settings
from graphprune.prune.plan import Plan
from tests.proof.building import parsed
from tests.prune.widths import deep

from .conftest import mlp


@dataclass(frozen=True)
class Boast(Pass):
    """Names budgets, removes one Unit, and says nothing of what is missing."""

    name: ClassVar[str] = "boast"

    params: float | None = None
    macs: float | None = None

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
