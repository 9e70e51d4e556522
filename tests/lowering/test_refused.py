"""What no rule may do, and where the second proof takes one back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

import graphprune
from graphprune.lowering.rule import Rewrite, Rule
from graphprune.lowering.rules import RULES
from graphprune.lowering.scene import Scene
from graphprune.proof.lowered import prove_lowered

from .graphs import Body, Net, lowered, operators
from .test_rules import SHAPE, hard_swish, prelu_turned, split_concat, unrolled


def other_bounds(net: Net, x: str) -> str:
    """Clip(x + 3, 0, 5) / 6 is no gate of one."""
    gate = net.clip(net.op("Add", x, net.number(3)), 0, 5)
    return net.op("Div", net.op("Mul", x, gate), net.number(6))


def of_another(net: Net, x: str) -> str:
    """The gate is another value's."""
    gate = net.clip(net.op("Add", net.op("Tanh", x), net.number(3)), 0, 6)
    return net.op("Div", net.op("Mul", x, gate), net.number(5))


def read_twice(net: Net, x: str) -> str:
    """Somebody else reads what is inside."""
    last = hard_swish(net, x)
    inside = net.nodes[-3].output[0]
    return net.op("Add", last, inside)


def an_output(net: Net, x: str) -> str:
    """What is inside is an output."""
    last = hard_swish(net, x)
    net.outputs.append(net.nodes[-3].output[0])
    return last


def branched(net: Net, *read: str) -> str:
    """An If of a value: its product with the second one, if there is one, or its negative."""
    bodies = {
        name: helper.make_graph(
            [helper.make_node(op, inputs, [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", 1, None)],
        )
        for name, op, inputs in (
            ("then_branch", "Mul" if read[1:] else "Neg", list(read)),
            ("else_branch", "Neg", list(read[:1])),
        )
    }
    condition = net.op("Greater", net.op("ReduceSum", "x", keepdims=0), net.number(0))
    return net.op("If", condition, **bodies)


def captured(net: Net, x: str) -> str:
    """A subgraph reads what is inside."""
    last = hard_swish(net, x)
    return net.op("Add", last, branched(net, net.nodes[-3].output[0]))


def larger_constant(net: Net, x: str) -> str:
    """What is added is larger than the value."""
    thin = net.op("ReduceMean", x, axes=[1], keepdims=1)
    return net.op("Max", net.op("Mul", thin, net.number(np.full((1, 8, 1, 1), 0.1))), thin)


def zero_slope(net: Net, x: str) -> str:
    """An infinity times zero were NaN."""
    wide = net.conv(x, rows=64)
    return net.op("PRelu", wide, net.number(np.linspace(0, 1, 64).reshape(64, 1, 1)))


def steep_slope(net: Net, x: str) -> str:
    """Above one the smaller of both were right."""
    return net.op("Max", x, net.op("Mul", x, net.number(2)))


def shift_before_padding(net: Net, x: str) -> str:
    """At the border there would be no shift."""
    return net.conv(net.op("Add", net.op("Relu", x), net.random(8, 1, 1)))


def shared_weight(net: Net, x: str) -> str:
    """Two layers have one weight."""
    weight = net.random(8, 8, 1, 1)
    one = net.op("Mul", net.op("Conv", x, weight), net.number([2]))
    return net.op("Add", one, net.op("Conv", net.op("Tanh", x), weight))


def along_the_width(net: Net, x: str) -> str:
    """The constant is one per column, not per channel."""
    return net.op("Mul", net.conv(x), net.random(6))


def norm_in_training(net: Net, x: str) -> str:
    """Its statistics are those of the batch."""
    given = [net.random(8) for _ in range(3)] + [net.random(8, low=0.5, high=2)]
    up = net.op("ConvTranspose", x, net.random(8, 8, 1, 1))
    return net.op("BatchNormalization", up, *given, training_mode=1)


def out_of_order(net: Net, x: str) -> str:
    """Two slices change places."""
    last = unrolled(net, x)
    names = net.nodes[-1].input
    names[0], names[1] = names[1], names[0]
    return last


def not_all(net: Net, x: str) -> str:
    """One slice is missing."""
    last = unrolled(net, x)
    del net.nodes[-1].input[-1]
    return last


def other_weights(net: Net, x: str) -> str:
    """One slice has a matrix of its own."""
    last = unrolled(net, x)
    product = next(node for node in net.nodes if node.op_type == "MatMul")
    product.input[1] = net.random(6, 5)
    return last


def parts_swapped(net: Net, x: str) -> str:
    """Parts of a Split in another order."""
    last = split_concat(net, x)
    concat = net.nodes[-2]
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]
    return last


def by_a_calculated(net: Net, x: str) -> str:
    """The scale is no constant."""
    return net.op("Mul", net.conv(x), net.op("ReduceMean", x, axes=[2, 3]))


def folded_anyway(net: Net, x: str) -> str:
    """ONNX Runtime folds this into the convolution before."""
    return net.conv(net.norm(net.conv(x)), kernel=1)


def pooled_in_blocks(net: Net, x: str) -> str:
    """The mean of channels that fill a block stays in the layout; the product is one position."""
    mean = net.op("GlobalAveragePool", net.conv(x, rows=16))
    return net.conv(net.op("Relu", mean), 8, 16, kernel=1)


def pooled_and_read(net: Net, x: str) -> str:
    """Something else reads the mean."""
    mean = net.op("GlobalAveragePool", x)
    return net.op("Mul", mean, net.op("Sigmoid", net.conv(mean, kernel=1)))


def cut_short(net: Net, x: str) -> str:
    """The last channel is left out, and every second row."""
    less = net.op("Slice", net.op("Relu", x), net.ints(0), net.ints(7), net.ints(1))
    return net.op("Slice", less, net.ints(0), net.ints(6), net.ints(2), net.ints(2))


def averaged_along_one(net: Net, x: str) -> str:
    """The mean of each row, not of each channel."""
    return net.conv(net.op("ReduceMean", net.op("Relu", x), axes=[3]), kernel=1, pads=False)


REFUSED: tuple[Body, ...] = (
    folded_anyway,
    other_bounds, of_another, read_twice, an_output, captured, larger_constant, zero_slope, steep_slope,
    shift_before_padding, shared_weight, along_the_width, norm_in_training, out_of_order, not_all,
    other_weights, parts_swapped, by_a_calculated, pooled_in_blocks, pooled_and_read, cut_short,
    averaged_along_one,
)  # fmt: skip


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body.__name__)
def test_it_is_left_as_it_is(body: Body) -> None:
    net = Net(14 if body is norm_in_training else 11, "float", SHAPE)
    model = net.model(body(net, "x"))
    rules = [rule.name for rule in RULES if rule.name != "prelu-split"]
    after, uses = lowered(model, rules)
    assert not uses
    assert operators(after) == operators(model)


def test_a_masked_weight_is_not_touched() -> None:
    net = Net(13, "float", SHAPE)
    model = net.model(net.op("Mul", net.conv("x"), net.number([2])))
    weight = next(node for node in model.graph if node.op_type == "Conv").inputs[1]
    assert weight is not None
    assert lowered(model)[1]
    assert not lowered(model, kept=[weight.name or ""])[1]


def test_nothing_moves_over_the_border_of_quantised_values() -> None:
    net = Net(13, "float", SHAPE)
    scale, zero = net.number(0.1), net.ints(0)
    net.weights[zero] = np.uint8(128).reshape(())
    coded = net.op("DequantizeLinear", net.op("QuantizeLinear", net.conv("x"), scale, zero), scale, zero)
    model = net.model(net.op("Mul", coded, net.number([2])))
    assert not lowered(model)[1]


def _wrong(node: ir.Node, scene: Scene) -> Rewrite | None:
    data = node.inputs[0]
    assert data is not None
    return Rewrite((node,), lambda to: to.op("LeakyRelu", data, attributes={"alpha": 0.3}))


def test_a_wrong_rule_is_taken_back_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule("max-zero", ("Relu",), "", "", "", "bits", _wrong, "")
    rules = (rule, *(each for each in RULES if each.name != "max-zero"))
    monkeypatch.setattr("graphprune.lowering.lower.RULES", rules)
    net = Net(13, "float", SHAPE)
    model = net.model(net.conv(net.op("Relu", hard_swish(net, net.conv("x")))))
    result = graphprune.lower(model)
    assert result.report.lowering is not None
    assert result.report.lowering.taken_back == ("max-zero",)
    assert [use.rule for use in result.report.lowering.uses] == ["hard-swish"]
    assert any("max-zero" in line for line in result.report.warnings)
    assert "max-zero" not in (result.plan_file.lowering or pytest.fail()).rules
    assert "Relu" in operators(result.model)


@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_the_second_proof_sees_what_only_infinities_show(number: float) -> None:
    """Max(x, 0 · x) is Relu(x), but at infinity; so is Clip without an upper bound in ONNX Runtime."""
    net = Net(13, "float", SHAPE)
    model = net.model(net.op("Tanh", net.op("Relu", "x")))
    other = Net(13, "float", SHAPE)
    wrong = other.op("Max", "x", other.op("Mul", "x", other.number(0), out="m"), out="v0")
    changed = other.model(other.op("Tanh", wrong, out="v1"))
    found = prove_lowered(model, changed, {"x": SHAPE})
    assert found.wrong == ("v0",)
    assert found.error == 0


def test_the_second_proof_sees_a_kink_out_of_place() -> None:
    one, two = Net(13, "float", SHAPE), Net(13, "float", SHAPE)
    model = one.model(one.op("Tanh", one.clip("x", 0, 6)))
    changed = two.model(two.op("Tanh", two.clip("x", 0, 5.9)))
    assert not prove_lowered(model, changed, {"x": SHAPE}).ok


def test_the_second_proof_sees_what_only_large_numbers_show() -> None:
    one, two = Net(13, "float", SHAPE), Net(13, "float", SHAPE)
    model = one.model(one.op("Tanh", one.op("Relu", "x")))
    clipped = two.op("Clip", "x", two.number(0), two.number(1e25), out="v0")
    changed = two.model(two.op("Tanh", clipped, out="v1"))
    assert prove_lowered(model, changed, {"x": SHAPE}).wrong == ("v0",)


def test_large_numbers_that_cancel_are_no_difference() -> None:
    """Three channels have the same large numbers, of which one row leaves nothing but rounding."""
    shape = (1, 3, 5, 101)
    net = Net(13, "float", shape)
    weight = np.tile([0.1, 0.2, 0.3], (8, 1))
    weight[0, 2] = -0.3
    sums = net.op("Conv", "x", net.number(weight.reshape(8, 3, 1, 1)))
    model = net.model(net.op("Tanh", net.op("Mul", sums, net.number([2.1]))))
    after, uses = lowered(model, ["affine-behind"])
    assert uses
    assert prove_lowered(model, after, {"x": shape}).ok


def test_equal_graphs_have_no_region() -> None:
    net = Net(13, "float", SHAPE)
    model = net.model(prelu_turned(net, net.conv("x")))
    assert prove_lowered(model, model.clone(), {"x": SHAPE}).regions == 0


@pytest.mark.parametrize("place", ["graph", "body"])
def test_the_second_proof_looks_into_bodies(place: str) -> None:
    net = Net(13, "float", SHAPE)
    model = net.model(branched(net, net.op("Tanh", "x"), net.number([2])))
    after = model.clone()
    (branch,) = (node.attributes["then_branch"].as_graph() for node in after.graph if node.op_type == "If")
    (product,) = branch
    factor = product.inputs[1]
    assert factor is not None and factor.const_value is not None
    assert prove_lowered(model, after, {"x": SHAPE}).regions == 0
    same = factor.const_value
    other = ir.Tensor(np.array([3], np.float32), name=factor.name)
    if place == "body":
        del after.graph.initializers[factor.name or ""]
        branch.register_initializer(factor)
    for content, ok in ((same, True), (ir.Tensor(same.numpy()), True), (other, False)):
        factor.const_value = content
        found = prove_lowered(model, after, {"x": SHAPE})
        assert found.ok is ok, found
        assert not found.skipped
