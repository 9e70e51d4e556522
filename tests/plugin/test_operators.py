"""An operator of somebody else is seen through, run and proved by what its package says of it."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ModelError, PluginError, PromiseError
from graphprune.runtime.session import open_session
from tests.axes.claims import sketch

from .installed import install, mlp, samples

NUMBERS = count()
SOURCE = """
from graphprune.plugin import Record, Shaping, Visit, broadcast, same
def rule(visit):
    {rule}
OP = Record(("org.{op}:Op",), rule, "as x", "{exactness}", shaping={shaping}, {more})
"""
BODY = 'body=\'<domain: "org.{op}", opset_import: ["": 18]> Op (x, a) => (y) {{ {steps} }}\''
SNAKE = "b = Mul(x, a) c = Sin(b) d = Mul(c, c) e = Div(d, a) y = Add(x, e)"
SLOTWISE = "visit.roles(1, 'scale'); visit.out(broadcast(visit, [0, 1]))"


def model(op: str) -> ir.Model:
    """A hidden layer of sixteen Units behind the operator."""
    text = "(float[n,8] x) => (float[n,4] y) { a = MatMul(x, up)\n b = Mul(a, s)\n y = MatMul(b, down) }"
    made = sketch(text, up=(8, 16), s=(16,), down=(16, 4)).model
    node = next(node for node in made.graph if node.op_type == "Mul")
    node.domain, node.op_type = f"org.{op}", "Op"
    made.opset_imports[f"org.{op}"] = 1
    return made


def products(op: str) -> ir.Model:
    """A hidden layer of sixteen Units whose two products are the operator."""
    made = mlp()
    for node in made.graph:
        if node.op_type == "MatMul":
            node.domain, node.op_type = f"org.{op}", "Op"
    made.opset_imports[f"org.{op}"] = 1
    return made


def installed(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    rule: str = SLOTWISE,
    steps: str = "",
    more: str = "",
    exactness: str = "parallel",
    shaping: str = "Shaping(same)",
) -> ir.Model:
    """The model of an operator that nothing else has described, and the package that does."""
    op = f"op{next(NUMBERS)}"
    more = BODY.format(op=op, steps=steps) if steps else more
    source = SOURCE.format(rule=rule, op=op, exactness=exactness, shaping=shaping, more=more)
    install(monkeypatch, folder, f"package_{op}", {f"ops org.{op}.Op": "OP"}, source)
    return model(op)


def arrays(made: ir.Model) -> dict[str, np.ndarray]:
    found = made.graph.initializers
    return {name: value.const_value.numpy() for name, value in found.items() if value.const_value is not None}


def test_it_is_cut_run_as_its_body_and_proved_on_its_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dense = installed(monkeypatch, tmp_path, steps=SNAKE)
    result = graphprune.compile(dense, "prune(ratio=0.5, align=1)", tmp_path / "small.onnx")
    proof = result.report.passes[0].proof
    assert proof is not None and proof.ok
    word = re.compile(r"org\.\w+:Op is taken for what the body in package_\w+ computes, on its word")
    assert list(filter(word.fullmatch, proof.details))
    small = ir.load(tmp_path / "small.onnx")
    assert not small.functions and [node.op_type for node in small.graph] == ["MatMul", "Op", "MatMul"]
    held, x = arrays(small), samples()["x"]
    assert held["s"].shape == (8,)
    a = x @ held["up"]
    expected = (a + np.sin(a * held["s"]) ** 2 / held["s"]) @ held["down"]
    for how in (small, tmp_path / "small.onnx"):
        np.testing.assert_allclose(open_session(how).run({"x": x})["y"], expected, rtol=1e-4, atol=1e-4)


def test_criteria_and_repair_run_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dense = installed(monkeypatch, tmp_path, steps=SNAKE)
    result = graphprune.compile(dense, "obspa(ratio=0.5, align=1)", calibration=samples())
    assert len(result.plans[0].cuts["up:1"]) == 8 and "down" in result.plans[0].replaced


def test_what_is_like_one_of_ours_is_scored_repaired_and_counted_like_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = "from graphprune.plugin import like\nOP = like('MatMul', 'org.like:Op', body=\"\"\"\n"
    source += '<domain: "org.like", opset_import: ["": 18]> Op (x, w) => (y) { y = MatMul(x, w) }""")'
    install(monkeypatch, tmp_path, "package_like", {"ops org.like.Op": "OP"}, source)
    results = []
    for renamed in (False, True):
        made = products("like") if renamed else mlp()
        results.append(graphprune.compile(made, "obspa(macs=0.5, align=1)", calibration=samples()))
    ours, theirs = (result.plans[0] for result in results)
    assert ours.cuts == theirs.cuts
    np.testing.assert_allclose(theirs.replaced["down"], ours.replaced["down"], rtol=1e-4, atol=1e-5)
    assert [result.report.after.macs for result in results] == [8 * 8 + 8 * 4] * 2


def test_a_rule_that_is_wrong_fails_the_proof(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dense = installed(monkeypatch, tmp_path, steps="b = Mul(x, a) y = Softmax <axis = 1>(b)")
    with pytest.raises(PromiseError, match=r"the proof of prune.* failed") as caught:
        graphprune.compile(dense, "prune(ratio=0.5, align=1)")
    suspects = r"probably the rule or body of org\.\w+:Op \(package_\w+\)"
    assert re.fullmatch(suspects, caught.value.hint)


@pytest.mark.parametrize("rule", ["pass", "visit.roles(1, 'scale')", "visit.axes(0); visit.axes(1)"])
def test_what_a_rule_leaves_unsaid_is_pinned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rule: str
) -> None:
    dense = installed(monkeypatch, tmp_path, rule, steps=SNAKE)
    with pytest.raises(PromiseError, match="the rule of Op does not say what its results are"):
        graphprune.compile(dense, "prune(ratio=0.5, align=1)")


def test_a_row_without_shapes_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dense = installed(monkeypatch, tmp_path, steps=SNAKE, shaping="None")
    with pytest.raises(PromiseError, match="its Record has no shaping"):
        graphprune.compile(dense, "prune(ratio=0.5, align=1)")


def test_a_body_is_that_of_its_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    head = 'body=\'<domain: "org.other", opset_import: ["": 18]> Op (x, a) => (y) { y = Mul(x, a) }\''
    dense = installed(monkeypatch, tmp_path, more=head)
    with pytest.raises(PluginError, match=r"has a body that defines org\.other:Op, not org\.op\d+:Op"):
        graphprune.compile(dense, "prune(ratio=0.5, align=1)")


@pytest.mark.parametrize(
    "steps", ["b = Mull(x, a) y = Add(x, b)", "b = Mul(x, none) y = Add(x, b)", "b = Mul(x, a)"]
)
def test_a_body_that_does_not_load_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: str
) -> None:
    dense = installed(monkeypatch, tmp_path, steps=steps)
    says = r"^operator 'org\.\w+\.Op' from 'package_\w+:OP' gives a body that ONNX Runtime does not load: "
    with pytest.raises(PluginError, match=says):
        graphprune.compile(dense, "prune(ratio=0.5, align=1)")


def test_a_body_that_fails_in_a_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps = "i = Constant <value_ints = [99]> () b = Gather <axis = 1> (x, i) c = Mul(x, a) y = Add(b, c)"
    dense = installed(monkeypatch, tmp_path, steps=steps)
    says = r"^operator 'org\.\w+\.Op' from 'package_\w+:OP' gives a body that fails .* idx=99 "
    for passes in ("prune(ratio=0.5, align=1)", "obspa(ratio=0.5, align=1)"):
        with pytest.raises(PluginError, match=says) as caught:
            graphprune.compile(dense, passes, calibration=samples())
        assert re.match(r"update or uninstall the package 'package_\w+'", caught.value.hint)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("(x, a, c) => (y) { b = Mul(x, a) y = Add(b, c) }", "3 inputs (x, a, c), but node 'act' has 2: "),
        ("(x) => (y) { y = Relu(x) }", "1 inputs (x), but node 'act' has 2: "),
    ],
)
def test_a_body_with_other_inputs_than_its_node_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, says: str
) -> None:
    dense = installed(monkeypatch, tmp_path, steps=SNAKE)
    source = next(tmp_path.glob("package_*.py"))
    source.write_text(re.sub(r"\(x, a\) => .*", body + "')", source.read_text()))
    next(node for node in dense.graph if node.op_type == "Op").name = "act"
    with pytest.raises(PluginError, match=re.escape(f" gives a body of {says}")):
        graphprune.compile(dense, "prune(ratio=0.5, align=1)")


def test_a_body_may_take_inputs_that_its_operators_can_do_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dense = installed(monkeypatch, tmp_path, steps=SNAKE)
    source = next(tmp_path.glob("package_*.py"))
    optional = "(x, a, c) => (y) { b = Mul(x, a) y = Clip(b, c) }')"
    source.write_text(re.sub(r"\(x, a\) => .*", optional, source.read_text()))
    assert graphprune.compile(dense, "prune(ratio=0.5, align=1)").report.passes[0].proof.ok


def test_a_good_body_is_not_blamed_for_the_rest_of_a_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dense = installed(monkeypatch, tmp_path, steps=SNAKE)
    dense.graph[-1].op_type = "MatMull"
    with pytest.raises(ModelError, match="MatMull"):
        open_session(dense)


def test_what_is_like_one_with_a_bias_takes_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = "from graphprune.plugin import like\nOP = like('Gemm', 'org.biasless:Op', body=\"\"\"\n"
    source += '<domain: "org.biasless", opset_import: ["": 18]> Op (x, w) => (y) { y = MatMul(x, w) }""")'
    install(monkeypatch, tmp_path, "package_biasless", {"ops org.biasless.Op": "OP"}, source)
    with pytest.raises(PluginError, match="has a body of 2 inputs, and a bias at input 2"):
        graphprune.compile(products("biasless"), "prune(ratio=0.5, align=1)")


def test_without_its_package_it_is_a_barrier(tmp_path: Path) -> None:
    with pytest.raises(PromiseError, match=r"operator org\.gone:Op is not known") as caught:
        graphprune.compile(model("gone"), "prune")
    assert caught.value.hint == "add a row for it (docs/plugins.md)"


def test_a_model_runs_no_code_of_packages_that_describe_other_operators(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, "package_armed", {"ops org.armed.Op": "OP"}, "raise SystemExit('ran')")
    with pytest.raises(PromiseError, match=r"operator org\.near:Op is not known"):
        graphprune.compile(model("near"), "prune")
    with pytest.raises(PluginError, match="does not load: SystemExit: ran"):
        graphprune.compile(model("armed"), "prune")


@pytest.mark.parametrize(
    ("rule", "more", "exactness", "says"),
    [
        (SLOTWISE, "", "parallel", "gives neither body nor library: .*ONNX Runtime knows no operator 'Op'"),
        (SLOTWISE, "library='/no/such.so'", "parallel", "gives a library that does not load: "),
        (
            SLOTWISE,
            "library=lambda: 1 / 0",
            "parallel",
            "does not load: ZeroDivisionError",
        ),
        (SLOTWISE, "body='Op (x'", "parallel", "gives a body that is no function: ValueError: "),
        (SLOTWISE, "", "contraction", "does not load: TypeError: the row .* counts no multiply-adds"),
        (SLOTWISE, "macs=lambda at: 1 / 0", "contraction", "fails: ZeroDivisionError"),
        (
            SLOTWISE,
            "",
            "slotwise",
            "does not load: TypeError: the row .* has the exactness 'slotwise': known: p",
        ),
        (
            SLOTWISE,
            "); OP = Record('org.x:Op', rule, '', 'parallel'",
            "parallel",
            "ops is the string 'org.x:Op'",
        ),
        (
            SLOTWISE,
            "); OP = Record(('o:Op',), rule, '', 'parallel', shaping=same",
            "parallel",
            "that is no Shaping",
        ),
        (SLOTWISE, "body=rule", "parallel", "a body that is no text: body is the text of an ONNX function"),
        ("visit.roles(1, 'scael')", "", "parallel", "fails: ValueError: no role 'scael' is known: source, "),
        ("visit.nothing()", "", "parallel", r"fails: AttributeError: .* \(in package_\w+\.py:4\)"),
        (
            SLOTWISE,
            "); OP = Record(('o:Op',), lambda v, w: None, '', 'parallel'",
            "parallel",
            r"has transfer\(v, w\): it is called as transfer\(visit\)",
        ),
        (
            SLOTWISE,
            "); OP = Record(('o:Op',), None, '', 'parallel'",
            "parallel",
            "transfer that is no function",
        ),
        (SLOTWISE, "); OP = (rule", "parallel", "is not a graphprune.plugin.Record"),
        (
            SLOTWISE,
            "); OP = Record(('org.other:Op',), rule, '', 'parallel'",
            "parallel",
            "org.other:Op",
        ),
    ],
)
def test_faults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rule: str, more: str, exactness: str, says: str
) -> None:
    dense = installed(monkeypatch, tmp_path, rule, more=more, exactness=exactness)
    with pytest.raises(PluginError, match=says) as caught:
        graphprune.compile(dense, "prune(ratio=0.5, align=1)")
    assert re.match(r"operator 'org\.\w+\.Op' from 'package_\w+:OP' ", caught.value.message)
    assert re.match(r"update or uninstall the package 'package_\w+'", caught.value.hint)
