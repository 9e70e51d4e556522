"""Rules inside the bodies of If: what stands there alone is rewritten, what reaches out of them is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

import graphprune
from graphprune.ir.check import check
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.proof.lowered import prove_lowered
from graphprune.runtime.session import open_session

from .graphs import lowered

SHAPE = (2, 8, 6, 6)
TEXT = """<ir_version: 8, opset_import: ["" : 14]>
g (float[2,8,6,6] x, bool c) => (float[2,8,6,6] y) <float s = {{0.3}}, float z = {{2}},
  float[8,8,1,1] w = {{{weight}}}> {{
  h = Relu(x)
  {outside}
  y = If(c) <
    then_branch = t () => (float[2,8,6,6] a) {{ {inside} }},
    else_branch = e () => (float[2,8,6,6] b) {{ k = Pow(h, z) {other} }}
  >
}}"""
ALONE = "p = Relu(h) m = Neg(h) n = Relu(m) q = Mul(n, s) r = Neg(q) l = Add(p, r) a = Pow(l, z)"


def model(inside: str, outside: str = "", other: str = "b = Sqrt(k)") -> ir.Model:
    """An If behind a Relu, with a Pow in its second branch."""
    weight = ",".join(f"0.{1 + at % 9}" for at in range(64))
    text = TEXT.format(inside=inside, outside=outside, other=other, weight=weight)
    found = ir.from_proto(onnx.parser.parse_model(text))
    normalise(found, record_of)
    return found


def bodies(found: ir.Model) -> list[list[str]]:
    return [[node.op_type for node in graph] for graph in found.graph.subgraphs()]


def run(found: ir.Model | Path, condition: bool) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    return open_session(found).run({"x": x, "c": np.array(condition)})["y"]


def test_both_branches_are_rewritten_and_proved(tmp_path: Path) -> None:
    before = model(ALONE)
    after, uses = lowered(before)
    check(after)
    assert sorted(use.rule for use in uses) == ["prelu-written", "square", "square"]
    assert sorted(bodies(after)) == [["LeakyRelu", "Mul"], ["Mul", "Sqrt"]]
    found = prove_lowered(before, after, {"x": SHAPE, "c": ()}, 2e-5)
    assert found.ok and found.regions and not found.skipped
    path = tmp_path / "out.onnx"
    report = graphprune.lower(model(ALONE), path).report.lowering
    assert report is not None and report.proof.ok and not report.taken_back
    for condition in (True, False):
        assert np.allclose(run(before, condition), run(path, condition), atol=1e-6)


@pytest.mark.parametrize(("other", "folded"), [("b = Sqrt(k)", True), ("b = Conv(k, w)", False)])
def test_a_weight_is_folded_into_where_one_branch_reads_it(other: str, folded: bool) -> None:
    before = model("i = Conv(h, w) a = Mul(i, s)", other=other)
    after, uses = lowered(before)
    check(after)
    assert [use.rule for use in uses] == (["affine-behind"] if folded else []) + ["square"]
    assert any(graph.initializers for graph in after.graph.subgraphs()) == folded
    for condition in (True, False):
        assert np.allclose(run(before, condition), run(after, condition), atol=1e-5)


@pytest.mark.parametrize(
    ("outside", "inside"),
    [("n = Neg(h)", "p = Relu(n) q = Neg(p) r = Relu(h) a = Add(q, r)"), ("e = Neg(x)", "a = Relu(e)")],
)
def test_a_pattern_that_begins_outside_is_left(outside: str, inside: str) -> None:
    before = model(inside, outside)
    after, uses = lowered(before)
    assert [use.rule for use in uses] == ["square"]
    assert bodies(after)[0] == bodies(before)[0]
