"""Two kinds of CPU, both on any machine: what they multiply may differ, what is proved of a model may not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import PromiseError
from graphprune.pipeline.agreement import Comparison
from graphprune.pipeline.report import AgreementReport
from graphprune.report.agreed import headline
from graphprune.report.compared import tables
from tests.saturation import NATIVE, on_a_cpu_that

WIDTH = 16
RNG = np.random.default_rng(3)
NARROW = RNG.integers(20, 60, (32, WIDTH)).astype(np.int8)  # pairs stay below sixteen bits: 255 * 2 * 60
WIDE = RNG.choice([5, 125], (WIDTH, 8)).astype(np.int8)  # 125 beside 125 saturates, beside 5 it does not
LAST = RNG.standard_normal((8, 4)).astype(np.float32)


def network(order: np.ndarray | None = None) -> ir.Model:
    """Two layers as dynamic quantisation writes them, with the hidden units in some order."""
    order = np.arange(WIDTH) if order is None else order
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[6,32] x) => (float[6,4] y) {
        q, s, z = DynamicQuantizeLinear(x)
        i = MatMulInteger(q, w1, z)
        f = Cast<to = 1>(i)
        h = Mul(f, s)
        b = Add(h, bias)
        r = Relu(b)
        p, t, u = DynamicQuantizeLinear(r)
        j = MatMulInteger(p, w2, u)
        g = Cast<to = 1>(j)
        m = Mul(g, t)
        y = MatMul(m, w3)
    }"""
    bias = np.linspace(-20, 20, WIDTH, dtype=np.float32)
    weights = {"w1": NARROW[:, order], "bias": bias[order], "w2": WIDE[order], "w3": LAST}
    tensors = [ir.tensor(np.ascontiguousarray(array), name=name) for name, array in weights.items()]
    return ir.from_proto(ir.to_proto(ir.from_onnx_text(text, initializers=tensors)))


FEEDS = {"x": RNG.uniform(0, 1, (6, 32)).astype(np.float32)}


def compared() -> Comparison:
    """A model and the same with its hidden units in another order: equal in exact arithmetic."""
    other = np.random.default_rng(1).permutation(WIDTH)
    return graphprune.validate(network(), network(other), FEEDS)


def test_validate_is_of_this_cpu_with_the_exact_figure_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_cpu_that("saturates", monkeypatch)
    found = compared()
    assert not found.ok and found.outputs[0].relative > 1e-3
    assert found.exact[0].ok and found.exact[0].relative < 1e-6
    assert found.saturation.startswith("in exact arithmetic they agree")
    assert "this CPU saturates" in found.saturation and found.saturation.endswith("here those with 'w2'")
    table, line = tables(found)
    assert table.columns[4] == ">exact" and line.rows == ((found.saturation,),)


def test_where_this_cpu_multiplies_exactly_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_cpu_that("is exact", monkeypatch)
    found = compared()
    assert found.ok and found.exact[0].ok and not found.saturation
    assert len(tables(found)) == 1


def test_models_of_floats_have_no_second_figure() -> None:
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[6,32] x) => (float[6,32] y) { y = Relu(x) }"""
    )
    found = graphprune.validate(model, model, FEEDS)
    assert found.ok and not found.exact and ">exact" not in tables(found)[0].columns


@pytest.mark.parametrize("kind", NATIVE)
def test_a_cut_is_proved_on_either_cpu_and_is_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = "prune(criterion=wanda, ratio=0.3, align=1)"  # leaves other pairs
    expected = graphprune.compile(network(), cut, calibration=FEEDS, inputs=FEEDS)
    on_a_cpu_that(kind, monkeypatch)
    found = graphprune.compile(network(), cut, calibration=FEEDS, inputs=FEEDS)
    assert found.report.passes[0].proof.ok and found.report.passes[0].proof.error == 0
    assert found.proto().SerializeToString() == expected.proto().SerializeToString()


def test_what_was_lost_is_of_this_cpu_with_the_exact_drop_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(**bound: float) -> AgreementReport:
        cut, judged = "prune(ratio=0.5, align=1)", {"y": "values"}
        result = graphprune.compile(network(), cut, calibration=FEEDS, inputs=FEEDS, outputs=judged, **bound)
        found = result.report.agreement
        assert found is not None and found.drop is not None and found.exact is not None
        return found

    on_a_cpu_that("saturates", monkeypatch)
    found = compiled()
    assert found.drop.value > 0.05 > found.exact.value
    assert f", {found.exact.value:.3f} in exact arithmetic" in headline(found)
    with pytest.raises(
        PromiseError, match=r"(?s)--max-drop 0\.05.*in exact arithmetic: this CPU saturates.*'w2'"
    ):
        compiled(max_drop=0.05)
    monkeypatch.undo()
    on_a_cpu_that("is exact", monkeypatch)
    found = compiled(max_drop=0.05)
    assert found.drop == found.exact and not found.saturation


def test_a_check_is_of_this_cpu_and_says_where_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    other = network(np.random.default_rng(1).permutation(WIDTH))
    asked = {"inputs": FEEDS, "outputs": {"y": "values"}, "max_drop": 1e-6}
    on_a_cpu_that("saturates", monkeypatch)
    found = graphprune.check(network(), other, **asked)  # type: ignore[arg-type]
    exact = found.judged[0].figure.exact
    assert not found.ok and exact is not None and exact < 1e-6
    assert [line for line in found.notes if "this CPU saturates" in line and line.endswith("'w2'")]
    monkeypatch.undo()
    on_a_cpu_that("is exact", monkeypatch)
    found = graphprune.check(network(), other, **asked)  # type: ignore[arg-type]
    assert found.judged[0].verdict != "fail" and not found.notes
