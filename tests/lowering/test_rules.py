"""Every rule leaves the same function, at kinks, infinities, NaN and large numbers, in any opset and type."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.ir.check import check
from graphprune.lowering.rules import BY_NAME, RULES
from graphprune.proof.lowered import prove_lowered
from graphprune.runtime.session import open_session

from .graphs import TYPES, Body, Net, feeds, lowered, operators, runs

SHAPE = (2, 8, 6, 6)


def hard_swish(net: Net, x: str) -> str:
    gate = net.clip(net.op("Add", x, net.number(3)), 0, 6)
    return net.op("Div", net.op("Mul", x, gate), net.number(6))


def hard_swish_divided_first(net: Net, x: str) -> str:
    gate = net.clip(net.op("Add", net.number([3]), x), 0, 6)
    return net.op("Mul", gate, net.op("Mul", x, net.number(1 / 6)))


def hard_sigmoid(net: Net, x: str) -> str:
    return net.op("Mul", net.clip(net.op("Add", x, net.number(3)), 0, 6), net.number(1 / 6))


def unit_ramp(net: Net, x: str) -> str:
    return net.clip(net.op("Add", net.op("Mul", x, net.number(0.2)), net.number(0.5)), 0, 1)


def prelu_turned(net: Net, x: str) -> str:
    below = net.op("Relu", net.op("Neg", x))
    return net.op("Add", net.op("Relu", x), net.op("Mul", net.random(8, 1, 1, low=-1, high=-0.1), below))


def prelu_subtracted(net: Net, x: str) -> str:
    below = net.op("Neg", net.op("Relu", net.op("Neg", x)))
    return net.op("Sub", net.op("Relu", x), net.op("Mul", net.number(-0.3), below))


def prelu_by_min(net: Net, x: str) -> str:
    below = net.op("Min", x, net.number(0))
    return net.op("Add", net.op("Mul", below, net.random(8, 1, 1, low=0.1)), net.op("Relu", x))


def leaky(net: Net, x: str) -> str:
    return net.op("Max", net.op("Mul", x, net.number(0.1)), x)


def chosen(net: Net, x: str) -> str:
    above = net.op("Greater", x, net.number(0))
    return net.op("Where", above, x, net.op("Mul", x, net.random(8, 1, 1, low=0.1)))


def chosen_below(net: Net, x: str) -> str:
    below = net.op("Less", x, net.number(0))
    return net.op("Where", below, net.op("Mul", x, net.number(0.2)), x)


def prelu_one(net: Net, x: str) -> str:
    return net.op("PRelu", x, net.number([[[0.25]]]))


def prelu(net: Net, x: str) -> str:
    wide = net.conv(x, rows=64)
    return net.op("PRelu", wide, net.random(64, 1, 1, low=-0.5, high=-0.1))


def prelu_any(net: Net, x: str) -> str:
    wide = net.conv(x, rows=64)
    return net.op("PRelu", wide, net.number(np.linspace(0, 2, 64).reshape(64, 1, 1)))


def max_zero(net: Net, x: str) -> str:
    return net.op("Max", net.number(0), x)


def relu_min(net: Net, x: str) -> str:
    return net.op("Min", net.op("Relu", x), net.number(6))


def sigmoid(net: Net, x: str) -> str:
    exp = net.op("Exp", net.op("Neg", x))
    return net.op("Div", net.number(1), net.op("Add", net.number(1), exp))


def sigmoid_reciprocal(net: Net, x: str) -> str:
    exp = net.op("Exp", net.op("Mul", x, net.number(-1)))
    return net.op("Reciprocal", net.op("Add", exp, net.number(1)))


def silu(net: Net, x: str) -> str:
    return net.op("Div", x, net.op("Add", net.number(1), net.op("Exp", net.op("Neg", x))))


def half_tanh(net: Net, x: str) -> str:
    tanh = net.op("Tanh", net.op("Mul", x, net.number(0.5)))
    return net.op("Add", net.op("Mul", tanh, net.number(0.5)), net.number(0.5))


def gelu(net: Net, x: str) -> str:
    cube = net.op("Mul", x, net.op("Mul", x, net.op("Mul", net.number(0.044715), x)))
    inner = net.op("Mul", net.number(0.7978845608), net.op("Add", x, cube))
    gate = net.op("Mul", net.number(0.5), net.op("Add", net.number(1), net.op("Tanh", inner)))
    return net.op("Mul", x, gate)


def gelu_by_power(net: Net, x: str) -> str:
    cube = net.op("Mul", net.number(0.044715), net.op("Pow", x, net.number(3)))
    inner = net.op("Mul", net.op("Add", x, cube), net.number(0.7978845608))
    gate = net.op("Add", net.op("Tanh", inner), net.number(1))
    return net.op("Mul", net.op("Mul", x, net.number(0.5)), gate)


def scaled_behind(net: Net, x: str) -> str:
    return net.op("Add", net.op("Mul", net.number([2.1]), net.conv(x)), net.number([0.3]))


def written_norm(net: Net, x: str) -> str:
    centred = net.op("Sub", net.conv(x, bias=False), net.random(8, 1, 1))
    scaled = net.op("Div", centred, net.random(8, 1, 1, low=0.5, high=2))
    return net.op("Add", net.op("Mul", scaled, net.random(1, 8, 1, 1)), net.random(8, 1, 1))


def norm_behind_transposed(net: Net, x: str) -> str:
    up = net.op("ConvTranspose", x, net.random(8, 2, 2, 2), kernel_shape=[2, 2], strides=[2, 2], group=2)
    return net.norm(up, 4)


def turned_gemm(net: Net, x: str) -> str:
    flat = net.op("Flatten", x)
    made = net.op("Gemm", flat, net.random(5, 288), net.random(5), transB=1, alpha=0.5, beta=2.0)
    return net.op("Sub", net.number(1), net.op("Mul", made, net.random(5)))


def norm_before(net: Net, x: str) -> str:
    return net.conv(net.norm(x), kernel=1)


def scale_before_padding(net: Net, x: str) -> str:
    return net.conv(net.op("Mul", net.op("Relu", x), net.random(8, 1, 1)))


def scale_before_grouped(net: Net, x: str) -> str:
    scaled = net.op("Mul", net.op("Relu", x), net.random(8, 1, 1))
    return net.op("Conv", scaled, net.random(8, 4, 3, 3), kernel_shape=[3, 3], group=2)


def before_matmul(net: Net, x: str) -> str:
    return net.op("MatMul", net.op("Mul", x, net.random(6)), net.random(6, 5))


def shift_before_gemm(net: Net, x: str) -> str:
    flat = net.op("Add", net.op("Flatten", x), net.random(288))
    return net.op("Gemm", flat, net.random(288, 3), net.random(3))


def as_norm(net: Net, x: str) -> str:
    act = net.op("Relu", x)
    return net.conv(net.op("Add", net.op("Mul", act, net.number([0.4])), net.number([-0.2])))


def merged(net: Net, x: str) -> str:
    act = net.op("Relu", x)
    scaled = net.op("Div", net.op("Mul", act, net.number(3)), net.random(8, 1, 1, low=0.5))
    return net.op("Add", net.op("Sub", net.op("Mul", scaled, act), net.number(1)), net.random(8, 1, 1))


def squeezed(net: Net, x: str) -> str:
    line = net.op("Reshape", x, net.ints(2, 8, 1, 36))
    thin = net.squeeze(net.conv(line, kernel=1), 2)
    return net.op("Relu", net.op("Add", thin, net.random(1, 8, 1)))


def squeezed_second(net: Net, x: str) -> str:
    line = net.op("Reshape", x, net.ints(2, 8, 36, 1))
    thin = net.squeeze(net.conv(line, kernel=1), 3)
    return net.op("Sub", net.random(8, 1), thin)


def unrolled(net: Net, x: str) -> str:
    rows = net.op("Reshape", x, net.ints(4, 24, 6))
    weight, bias = net.random(6, 5), net.random(5)
    lanes = []
    for place in range(4):
        row = net.squeeze(net.slice(rows, place), 0)
        made = net.op("Tanh", net.op("Add", net.op("MatMul", row, weight), bias))
        lanes.append(net.squeeze(made, 0, "Unsqueeze"))
    return net.op("Concat", *lanes, axis=0)


def split_concat(net: Net, x: str) -> str:
    act = net.op("Relu", x)
    parts = [f"part{len(net.nodes)}_{i}" for i in range(2)]
    net.op("Split", act, axis=1, out=parts[0])
    net.nodes[-1].output.append(parts[1])
    if net.opset >= 18:
        net.nodes[-1].attribute.add(name="num_outputs", type=2, i=2)
    return net.op("Sigmoid", net.op("Concat", *parts, axis=1))


def uncut(net: Net, x: str) -> str:
    act = net.op("Relu", net.conv(x))
    if net.opset < 10:
        return net.conv(net.op("Slice", act, starts=[0], ends=[8], axes=[1]))
    ends = net.ints(np.iinfo(np.int64).max, 8)
    return net.conv(net.op("Slice", act, net.ints(0, 0), ends, net.ints(-1, 1)))


def pooled(net: Net, x: str) -> str:
    mean = net.op("GlobalAveragePool", net.op("Relu", net.conv(x, rows=24)))
    squeezed = net.op("Relu", net.conv(mean, 4, 24, kernel=1))
    return net.op("HardSigmoid", net.conv(squeezed, 24, 4, kernel=1), alpha=0.2, beta=0.5)


def pooled_shifted(net: Net, x: str) -> str:
    mean = net.op("GlobalAveragePool", net.conv(x, rows=20))
    made = net.op("Add", net.conv(mean, 6, 20, kernel=1, bias=False), net.random(1, 6, 1, 1))
    return net.op("Sigmoid", net.op("Add", net.random(6, 1, 1), net.op("Tanh", made)))


def averaged(net: Net, x: str) -> str:
    act = net.op("Relu", net.conv(x, rows=16))
    return net.op("Sigmoid", net.conv(net.mean(act, -1, 2), 5, 16, kernel=1))


def summed_norm(net: Net, x: str) -> str:
    both = net.op("Add", x, net.op("Relu", x))
    return net.op("LayerNormalization", both, net.random(6), net.random(6), axis=-1)


def summed_norm_written(net: Net, x: str) -> str:
    both = net.op("Add", net.conv(x), x)
    centred = net.op("Sub", both, net.mean(both, -1))
    spread = net.op("Add", net.mean(net.op("Mul", centred, centred), -1), net.number(1e-5))
    return net.op("Div", centred, net.op("Sqrt", spread))


def rms_by_reciprocal(net: Net, x: str) -> str:
    mean = net.mean(net.op("Pow", x, net.number(2)), -1)
    inverse = net.op("Reciprocal", net.op("Sqrt", net.op("Add", net.number(1e-6), mean)))
    return net.op("Mul", net.random(6), net.op("Mul", inverse, x))


def rms_of_product(net: Net, x: str) -> str:
    root = net.op("Sqrt", net.op("Add", net.mean(net.op("Mul", x, x), 3), net.number([1e-5])))
    return net.op("Mul", net.op("Mul", x, net.op("Div", net.number(1), root)), net.random(6))


def rms_by_quotient(net: Net, x: str) -> str:
    root = net.op("Sqrt", net.op("Add", net.mean(net.op("Mul", x, x), -1), net.number(1e-5)))
    return net.op("Mul", net.op("Div", x, root), net.random(6))


def square(net: Net, x: str) -> str:
    return net.op("Sqrt", net.op("Add", net.number(1), net.op("Pow", net.conv(x), net.number([2]))))


CASES: tuple[tuple[str, Body, int], ...] = (
    ("hard-swish", hard_swish, 7),
    ("hard-swish", hard_swish_divided_first, 7),
    ("hard-sigmoid", hard_sigmoid, 7),
    ("unit-ramp", unit_ramp, 7),
    ("prelu-written", prelu_turned, 7),
    ("prelu-written", prelu_subtracted, 7),
    ("prelu-written", prelu_by_min, 8),
    ("leaky-relu", leaky, 7),
    ("prelu-chosen", chosen, 9),
    ("prelu-chosen", chosen_below, 9),
    ("prelu", prelu_one, 7),
    ("prelu", prelu, 7),
    ("prelu-split", prelu_any, 8),
    ("max-zero", max_zero, 8),
    ("relu-min", relu_min, 8),
    ("sigmoid-written", sigmoid, 7),
    ("sigmoid-written", sigmoid_reciprocal, 7),
    ("sigmoid-written", silu, 7),
    ("half-tanh", half_tanh, 7),
    ("gelu-tanh", gelu, 7),
    ("gelu-node", gelu, 20),
    ("gelu-node", gelu_by_power, 20),
    ("affine-behind", scaled_behind, 7),
    ("affine-behind", written_norm, 7),
    ("affine-behind", norm_behind_transposed, 7),
    ("affine-behind", turned_gemm, 7),
    ("affine-before", norm_before, 7),
    ("affine-before", scale_before_padding, 7),
    ("affine-before", scale_before_grouped, 7),
    ("affine-before", before_matmul, 7),
    ("affine-before", shift_before_gemm, 7),
    ("affine-norm", as_norm, 7),
    ("affine-merged", merged, 7),
    ("squeeze-sinks", squeezed, 7),
    ("squeeze-sinks", squeezed_second, 7),
    ("unrolled", unrolled, 7),
    ("split-concat", split_concat, 7),
    ("slice-all", uncut, 7),
    ("pooled-gemm", pooled, 7),
    ("pooled-gemm", pooled_shifted, 7),
    ("pooled-gemm", averaged, 7),
    ("add-norm", summed_norm, 17),
    ("add-norm", summed_norm_written, 8),
    ("rms-norm", rms_by_reciprocal, 7),
    ("rms-norm", rms_of_product, 7),
    ("rms-norm", rms_by_quotient, 7),
    ("square", square, 7),
)
TOLERANCES = {"float": 2e-5, "float16": 1e-2, "double": 1e-9}


@pytest.mark.parametrize("kind", TOLERANCES)
@pytest.mark.parametrize(("rule", "body", "since"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_the_function_stays(rule: str, body: Body, since: int, kind: str) -> None:
    for opset in {since, max(since, 13), 26} if kind == "float" else {max(since, 11)}:
        _require_same(rule, body, opset, kind)


@pytest.mark.full
@pytest.mark.parametrize(("rule", "body", "since"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_the_function_stays_at_every_opset(rule: str, body: Body, since: int) -> None:
    for opset in range(since, 27):
        for kind in TOLERANCES:
            _require_same(rule, body, opset, kind)


def _require_same(rule: str, body: Body, opset: int, kind: str) -> None:
    net = Net(opset, kind, SHAPE)
    model = net.model(body(net, "x"))
    after, uses = lowered(model, [rule])
    takes = _takes(rule, kind) and (kind, body) != ("double", silu)
    assert {use.rule for use in uses} == ({rule} if takes else set()), opset
    if not uses or not runs(model):
        return
    check(after)
    found = prove_lowered(model, after, {"x": SHAPE}, TOLERANCES[kind])
    assert found.ok, (opset, found)
    assert found.regions
    assert not found.skipped
    _agree(model, after, TOLERANCES[kind])


def _takes(rule: str, kind: str) -> bool:
    return ir.DataType(TYPES[kind]) in BY_NAME[rule].types


def _agree(before: ir.Model, after: ir.Model, tolerance: float) -> None:
    """As ONNX Runtime fuses both."""
    feed = feeds(before, {"x": SHAPE})
    one, two = (open_session(model).run(feed)["y"].astype(np.float64) for model in (before, after))
    assert np.abs(one - two).max() <= tolerance * np.abs(one).max()


def test_every_rule_has_a_case() -> None:
    assert {rule.name for rule in RULES} == {rule for rule, _, _ in CASES}


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_a_rule_that_claims_bits_keeps_them(rule: str) -> None:
    if BY_NAME[rule].exactness != "bits":
        return
    for _, body, _ in (case for case in CASES if case[0] == rule):
        net = Net(13, "float", SHAPE)
        model = net.model(body(net, "x"))
        after, _ = lowered(model, [rule])
        feed = feeds(model, {"x": SHAPE})
        one, two = (open_session(each, optimise=False).run(feed)["y"] for each in (model, after))
        assert np.array_equal(one, two)


def test_open_sizes_stay_open() -> None:
    net = Net(13, "float", ("batch", 8, "height", "width"))
    model = net.model(hard_swish(net, net.conv("x")))
    after, uses = lowered(model)
    assert [use.rule for use in uses] == ["hard-swish"]
    feed = feeds(model, {"x": (3, 8, 5, 9)})
    one, two = (open_session(each).run(feed)["y"] for each in (model, after))
    assert np.allclose(one, two, atol=1e-5)


def test_means_of_any_size() -> None:
    net = Net(13, "float", ("batch", 8, "height", "width"))
    model = net.model(pooled(net, "x"))
    after, uses = lowered(model)
    assert [use.rule for use in uses] == ["pooled-gemm"]
    for shape in ((1, 8, 1, 9), (3, 8, 5, 4)):
        assert prove_lowered(model, after, {"x": shape}, 2e-5).ok
        feed = feeds(model, {"x": shape})
        one, two = (open_session(each).run(feed)["y"] for each in (model, after))
        assert np.allclose(one, two, atol=1e-5)


def test_the_same_graph_comes_out_again() -> None:
    """Lowering a lowered graph changes nothing."""
    for _, body, since in CASES:
        net = Net(max(since, 13), "float", SHAPE)
        once, _ = lowered(net.model(body(net, "x")))
        twice, uses = lowered(once)
        assert not uses, body.__name__
        assert operators(twice) == operators(once)
