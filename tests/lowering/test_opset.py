"""A later opset where a rule needs one: every node means the same there, or the file stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.cli.main import main
from graphprune.ir.opsets import changed, means_the_same
from graphprune.lowering.lower import opened
from graphprune.lowering.opset import raised
from graphprune.lowering.table import Table, table
from graphprune.proof.lowered import prove_lowered
from graphprune.runtime.session import open_session

from .graphs import Net, feeds, operators
from .test_rules import SHAPE, gelu_by_power, hard_swish


def opset(model: ir.Model) -> int:
    return model.opset_imports[""]


def gelus(at: int) -> ir.Model:
    net = Net(at, "float", SHAPE)
    return net.model(net.conv(gelu_by_power(net, net.conv("x"))))


def old_forms(at: int) -> ir.Model:
    """Operators whose attributes became inputs, in the form of an old opset."""
    net = Net(at, "float", SHAPE)
    wide = net.squeeze(net.mean(net.clip(gelu_by_power(net, net.conv("x")), -1, 2), -1), 3)
    parts = ["left", "right"]
    net.op("Split", wide, axis=1, out=parts[0])
    net.nodes[-1].output.append(parts[1])
    both = net.op("Mul", *parts)
    return net.model(net.op("Unsqueeze", both, axes=[0]) if at < 13 else both)


def same(one: ir.Model, two: ir.Model) -> None:
    feed = feeds(one, {"x": SHAPE})
    first, second = (open_session(model).run(feed)["y"] for model in (one, two))
    assert np.allclose(first, second, atol=1e-5)


def test_the_opset_is_raised_where_a_rule_needs_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = graphprune.lower(gelus(17), opset="auto")
    report = found.report.lowering
    assert report is not None and report.proof.ok and not report.taken_back
    assert (report.opset_before, report.opset_after, opset(found.model)) == (17, 20, 20)
    assert "Gelu" in operators(found.model)
    same(gelus(17), found.model)
    print(found.report)
    assert "opset 17 became 20" in capsys.readouterr().out


def test_it_stays_without_being_asked_and_where_nothing_is_gained() -> None:
    kept = graphprune.lower(gelus(17))
    assert (opset(kept.model), "Gelu" in operators(kept.model)) == (17, False)
    net = Net(12, "float", SHAPE)
    idle = graphprune.lower(net.model(hard_swish(net, net.conv("x"))), opset="auto")
    assert opset(idle.model) == 12 and "HardSigmoid" in operators(idle.model)
    assert opset(graphprune.lower(gelus(21)).model) == 21


@pytest.mark.parametrize("at", [8, 11, 13, 17])
def test_attributes_become_inputs(at: int) -> None:
    found = graphprune.lower(old_forms(at), opset="auto")
    assert opset(found.model) == 20
    report = found.report.lowering
    assert report is not None and report.proof.ok
    same(old_forms(at), found.model)


def test_a_node_that_would_mean_something_else_keeps_the_opset() -> None:
    net = Net(11, "float", SHAPE)
    model = net.model(net.op("Softmax", gelu_by_power(net, net.conv("x")), axis=1))
    found = graphprune.lower(model, opset="auto")
    assert opset(found.model) == 11
    assert not raised(model.clone(), 13)


def test_the_second_proof_sees_a_node_that_means_something_else() -> None:
    net = Net(11, "float", SHAPE)
    before = net.model(net.op("Softmax", net.conv("x"), axis=1))
    after = before.clone()
    after.opset_imports[""] = 13
    assert changed(before, 11, 13) >= {"Softmax"}
    found = prove_lowered(before, after, {"x": SHAPE})
    assert found.wrong and not found.ok


@pytest.mark.parametrize(
    ("op", "old", "new", "same"),
    [
        ("Softmax", 11, 13, False),
        ("Upsample", 9, 10, False),
        ("GridSample", 16, 20, False),
        ("Squeeze", 11, 13, False),
        ("Resize", 10, 11, False),
        ("Nothing", 11, 13, False),
        ("Relu", 6, 22, True),
        ("Conv", 1, 22, True),
        ("Reshape", 5, 21, True),
        ("MaxPool", 8, 22, True),
        ("LSTM", 7, 22, True),
    ],
)
def test_what_schemas_say(op: str, old: int, new: int, same: bool) -> None:
    node = ir.Node("", op, [ir.Value(name="x")], num_outputs=1)
    assert means_the_same(node, old, new) == same


def test_only_as_far_as_the_target_reads() -> None:
    assert opened("portable").opset == 0
    assert opened("portable", raising=True).opset == min(table().opsets.values())
    assert opened("avx512/1.32", raising=True).opset == table().opsets["avx512/1.32"]
    known = Table({"avx512/1.20": {}}, "", {}, {"avx512/1.20": 21})
    assert known.reads("native", "neon/1.32") == 0


def test_a_plan_raises_it_again(tmp_path: Path) -> None:
    source, one, two = tmp_path / "in.onnx", tmp_path / "one.onnx", tmp_path / "two.onnx"
    ir.save(gelus(17), source)
    line = [
        "compile",
        str(source),
        "--passes",
        "prune(ratio=0.25, align=1)",
        "-o",
        str(one),
        "--opset",
        "auto",
    ]
    assert main(line) == 0
    assert opset(ir.load(one)) == 20
    assert main(["compile", str(source), "--plan", str(tmp_path / "one.plan.json"), "-o", str(two)]) == 0
    assert one.read_bytes() == two.read_bytes()
    assert main(["lower", str(source), "-o", str(two), "--opset", "latest"]) == 2


def test_a_region_that_does_not_run_alone_hides_no_other() -> None:
    net = Net(11, "float", SHAPE)
    nothing = net.op("Mul", net.op("ReduceSum", "x", keepdims=0), net.number(0))
    sizes = net.op("Cast", net.op("Add", nothing, net.number([2, 8, 36])), to=7)
    net.outputs.append(net.op("Reshape", "x", sizes))
    before = net.model(net.op("Softmax", net.conv("x"), axis=1))
    after = before.clone()
    after.opset_imports[""] = 13
    found = prove_lowered(before, after, {"x": SHAPE})
    assert found.wrong and found.skipped
