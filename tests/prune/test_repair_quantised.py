"""Scores and repair of models whose weights are stored on a grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import Analysis, analyse
from graphprune.errors import PromiseError
from graphprune.ir.normalise import normalise
from graphprune.labels.state import Use
from graphprune.ops import record_of
from graphprune.proof import prove
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.plan import Plan
from graphprune.prune.repair import Change, Repaired, repair
from graphprune.prune.repair.worth import helps
from graphprune.prune.rewrite import rewrite
from graphprune.statistics.stored import grid_of
from tests.axes.claims import sketch
from tests.ops.exotic_graphs import Case, NodeRow, floats, unsigned
from tests.prune.test_repair import distance, twin

Array = np.ndarray

DYNAMIC_WEIGHTS = {
    "w1": unsigned(16, 48),
    "z1": np.array(128, np.uint8),
    "s1": np.array(0.01, np.float32),
    "w2": unsigned(48, 5),
    "z2": np.array(128, np.uint8),
    "s2": np.array(0.01, np.float32),
}


def dynamic_product(x: str, number: int, out: str) -> list[NodeRow]:
    """A product as dynamic quantisation writes it: integers inside, floats on both sides."""
    n = str(number)
    return [
        ("DynamicQuantizeLinear", [x], ["q" + n, "qs" + n, "qz" + n], {}),
        ("MatMulInteger", ["q" + n, "w" + n, "qz" + n, "z" + n], ["i" + n], {}),
        ("Cast", ["i" + n], ["f" + n], {"to": 1}),
        ("Mul", ["qs" + n, "s" + n], ["m" + n], {}),
        ("Mul", ["f" + n, "m" + n], [out], {}),
    ]


def dynamic_mlp() -> Case:
    nodes = [*dynamic_product("x", 1, "a"), ("Relu", ["a"], ["r"], {}), *dynamic_product("r", 2, "y")]
    return Case("dynamic", {"x": floats(64, 16)}, DYNAMIC_WEIGHTS, nodes, ["y"], [48])


def test_products_of_integers_are_scored_and_repaired_on_their_grid() -> None:
    case = dynamic_mlp()
    model = case.model()
    normalise(model, record_of)
    analysis = analyse(model)
    places = SiteIndex(analysis)
    assert all(places.sinks(group) for group in analysis.prunable)
    cuts = {group.id: tuple(range(24)) for group in analysis.prunable}
    draw = np.random.default_rng(5)
    basis = draw.standard_normal((6, 16))
    seen, unseen = ({"x": (draw.standard_normal((64, 6)) @ basis).astype(np.float32)} for _ in "ab")
    made = repair(analysis, Change(cuts), batches=[seen])
    assert {"w2"} <= set(made.replaced) <= {"w2", "s2"} and made.replaced["w2"].dtype == np.uint8
    before, after = (
        distance(model, twin(analysis, cuts, each), [unseen]) for each in (Repaired({}, {}), made)
    )
    assert after < 0.5 * before


def quantised(array: Array, axis: int, bits: int = 8) -> tuple[Array, Array]:
    """Symmetric codes with a scale per slot of an axis."""
    others = tuple(i for i in range(array.ndim) if i != axis)
    most = 2 ** (bits - 1) - 1
    scale = (np.abs(array).max(axis=others) / most).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(array.ndim)]
    return np.clip(np.rint(array / scale.reshape(shape)), -most, most).astype(np.int8), scale


def qdq_net(bits: int = 8, single: bool = False) -> tuple[Analysis, list[dict[str, Array]]]:
    """Convolutions between QuantizeLinear and DequantizeLinear, biases in int32: static quantisation.

    A bias has a scale per output, or a `single` one.
    """
    draw = np.random.default_rng(0)
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (5, 16)}
    weights: dict[str, object] = {"sx": np.array(0.05, np.float32), "zx": np.array(128, np.uint8)}
    body, x = "", "x"
    for number, (name, shape) in enumerate(shapes.items(), 1):
        dense = draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        codes, scale = quantised(dense.astype(np.float32), 0, bits)
        unit = np.float32(0.05) * (scale.max() if single else scale)
        bias = np.rint(0.3 * draw.standard_normal(shape[0]) / unit).astype(np.int32)
        weights |= {name: codes, f"s{name}": scale, f"b{name}": bias, f"t{name}": unit}
        op = "Conv <pads = [1, 1, 1, 1]>" if len(shape) == 4 else "Gemm <transB = 1>"
        body += f"""q{number} = QuantizeLinear({x}, sx, zx)\n d{number} = DequantizeLinear(q{number}, sx, zx)
            f{number} = DequantizeLinear <axis = 0> ({name}, s{name})
            c{number} = DequantizeLinear <axis = 0> (b{name}, t{name})
            a{number} = {op} (d{number}, f{number}, c{number})\n"""
        x = f"r{number}"
        body += f"{x} = Relu(a{number})\n" if number == 1 else ""
        body += f"p{number} = GlobalAveragePool(a2)\n {x} = Flatten(p{number})\n" if number == 2 else ""
    analysis = sketch(f"(float[n,3,8,8] x) => (float[n,5] a3) {{ {body} }}", **weights)
    basis = draw.standard_normal((6, 192))
    return analysis, [
        {"x": (draw.standard_normal((64, 6)) @ basis / 3).reshape(64, 3, 8, 8).astype("f")} for _ in "abc"
    ]


def test_scales_grow_where_new_weights_leave_the_grid_and_biases_follow() -> None:
    analysis, data = qdq_net()
    cuts = {g.id: tuple(range(2)) for g in analysis.prunable}
    made = repair(analysis, Change(cuts), batches=data[:2])
    old = {
        name: v.const_value.numpy() for name, v in analysis.model.graph.initializers.items() if v.const_value
    }
    assert {"sw3", "tw3"} <= set(made.replaced)
    for name in made.replaced.keys() & {"sw2", "sw3"}:
        growth = made.replaced[name] / old[name]
        assert growth.max() > 1 and growth.min() >= 1
        np.testing.assert_allclose(made.replaced["t" + name[1:]], made.replaced[name] * 0.05, rtol=1e-6)
    plan = Plan(analysis.options, cuts, {g.id: g.size for g in analysis.prunable}, replaced=made.replaced)
    small = rewrite(analysis.model, analysis, plan)
    assert prove(analysis.model, analysis, plan, small, data[2:]).ok


def test_scales_grow_alike_where_biases_have_one_for_all() -> None:
    """By what the output needs that needs most: no bias is read with another scale than it was written in."""
    analysis, data = qdq_net(single=True)
    cuts = {g.id: tuple(range(2)) for g in analysis.prunable}
    made = repair(analysis, Change(cuts), batches=data[:2])
    initializers = analysis.model.graph.initializers
    old = {name: value.const_value.numpy() for name, value in initializers.items() if value.const_value}
    grown = made.replaced.keys() & {"sw2", "sw3"}
    assert grown
    for name in grown:
        growth = made.replaced[name] / old[name]
        assert growth.min() > 1
        np.testing.assert_allclose(growth, growth[0], rtol=1e-6)
        np.testing.assert_allclose(made.replaced["t" + name[1:]], old["t" + name[1:]] * growth[0], rtol=1e-6)


def test_scales_stay_where_wider_ones_are_no_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis, data = qdq_net()
    cuts = {g.id: tuple(range(2)) for g in analysis.prunable}
    monkeypatch.setattr("graphprune.prune.repair.sequential.missed", lambda found, folds, live: 1.0)
    made = repair(analysis, Change(cuts), batches=data[:2])
    assert "w3" in made.replaced and not {"sw2", "tw2", "sw3", "tw3"} & set(made.replaced)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_net_is_repaired_on_its_own_grid(bits: int) -> None:
    analysis, data = qdq_net(bits)
    cuts = {g.id: tuple(range(g.size // 2)) for g in analysis.prunable}
    none, made = Repaired({}, {}), repair(analysis, Change(cuts), batches=data[:2])
    before, after = (distance(analysis.model, twin(analysis, cuts, each), data[2:]) for each in (none, made))
    assert after < 0.5 * before
    assert {"w2", "w3", "bw2", "bw3"} <= set(made.replaced) and not made.biases
    initializers = analysis.model.graph.initializers
    for name, array in made.replaced.items():
        old = initializers[name].const_value
        assert old is not None and array.dtype == old.numpy().dtype and array.shape == old.numpy().shape
        if array.dtype == np.int8:
            assert np.abs(array.astype(int)).max() <= 2 ** (bits - 1) - 1
    plan = Plan(analysis.options, cuts, {g.id: g.size for g in analysis.prunable}, replaced=made.replaced)
    small = rewrite(analysis.model, analysis, plan)
    assert prove(analysis.model, analysis, plan, small, data[2:]).ok


def residual_mlp(ahead: bool) -> Analysis:
    """Six products of coded weights, decoded where they are read, or all `ahead` as quantisers write them."""
    draw, weights = np.random.default_rng(0), dict[str, object]()
    reading = {}
    for number in range(1, 7):
        codes, scale = quantised(draw.standard_normal((24, 24)).astype(np.float32) / 4, 1)
        weights |= {f"w{number}": codes, f"k{number}": scale}
        reading[number] = f"f{number} = DequantizeLinear <axis = 1> (w{number}, k{number})\n"
    edges, between = ["x", "r1", "r2", "r3", "s4", "r5"], {4: "s4 = Add(a4, r2)\n", 6: ""}
    body = "".join(reading.values()) if ahead else ""
    for number, edge in enumerate(edges, 1):
        body += "" if ahead else reading[number]
        body += f"a{number} = MatMul({edge}, f{number})\n"
        body += between.get(number, f"r{number} = Relu(a{number})\n")
    return sketch(f"(float[n,24] x) => (float[n,24] a6) {{ {body} }}", **weights)


def test_repair_sees_its_own_codes_wherever_they_are_decoded() -> None:
    draw, found = np.random.default_rng(1), []
    data = [{"x": (draw.standard_normal((128, 8)) @ draw.standard_normal((8, 24))).astype(np.float32)}]
    for ahead in (False, True):
        analysis = residual_mlp(ahead)
        cuts = {group.id: tuple(range(group.size // 2)) for group in analysis.prunable}
        found.append(repair(analysis, Change(cuts), batches=data).replaced)
    assert found[0].keys() == found[1].keys() and len(found[0]) >= 4
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_a_quantised_net_is_scored_by_data() -> None:
    analysis, data = qdq_net()
    places = SiteIndex(analysis)
    assert all(places.sinks(group) for group in analysis.prunable)
    dense = ir.to_proto(analysis.model)
    result = graphprune.compile(dense, "obspa(macs=0.6)", calibration=data[0])
    assert not any("nothing to measure" in line for line in result.report.warnings)


def test_a_convolution_of_integers_is_repaired_too() -> None:
    dense = floats(8, 3, 3, 3)
    weights: dict[str, object] = {"w1": dense, "w2": unsigned(5, 8, 3, 3), "z2": np.array(128, np.uint8)}
    analysis = sketch(
        """(float[n,3,8,8] x) => (float[n,5,6,6] y) { a = Conv <pads = [1, 1, 1, 1]> (x, w1)\n r = Relu(a)
        q, s, z = DynamicQuantizeLinear(r)\n i = ConvInteger(q, w2, z, z2)\n f = Cast <to = 1> (i)
        y = Mul(f, s) }""",
        **weights,
    )
    cuts = {group.id: (0, 2, 4, 6) for group in analysis.prunable}
    draw = np.random.default_rng(5)
    basis = draw.standard_normal((6, 192))
    seen, unseen = (
        {"x": (draw.standard_normal((32, 6)) @ basis).reshape(32, 3, 8, 8).astype(np.float32)} for _ in "ab"
    )
    made = repair(analysis, Change(cuts), batches=[seen])
    ways = (Repaired({}, {}), made)
    before, after = (distance(analysis.model, twin(analysis, cuts, each), [unseen]) for each in ways)
    assert set(made.replaced) == {"w2"} and after < 0.7 * before


def test_codes_of_four_bits_go_through_a_plan_file(tmp_path: Path) -> None:
    draw, tensors = np.random.default_rng(0), []
    for name, shape in (("w", (16, 32)), ("v", (32, 4))):
        codes = draw.integers(-7, 8, shape)
        tensors.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT4, shape, codes.ravel().tolist()))
        tensors.append(onnx.numpy_helper.from_array(np.full(shape[1], 0.1, np.float32), f"s{name}"))
    rows = [
        ("DequantizeLinear", ["w", "sw"], "f"), ("MatMul", ["x", "f"], "a"), ("Relu", ["a"], "b"),
        ("DequantizeLinear", ["v", "sv"], "g"), ("MatMul", ["b", "g"], "y"),
    ]  # fmt: skip
    nodes = [onnx.helper.make_node(op, inputs, [out]) for op, inputs, out in rows]
    ends = [
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size])]
        for name, size in (("x", 16), ("y", 4))
    ]
    graph = onnx.helper.make_graph(nodes, "g", *ends, tensors)
    dense = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    data = {"x": (draw.standard_normal((64, 5)) @ draw.standard_normal((5, 16))).astype(np.float32)}
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    graphprune.compile(dense, "obspa(macs=0.5)", one, calibration=data)
    graphprune.compile(dense, output=two, plan=one.with_suffix(".plan.json"))
    first, second = (onnx.load(path).graph.initializer for path in (one, two))
    assert [each.raw_data for each in first] == [each.raw_data for each in second]
    assert {each.data_type for each in first} >= {onnx.TensorProto.INT4}


def test_codes_that_bring_the_whole_model_no_closer_are_not_taken() -> None:
    analysis, data = qdq_net()
    cuts = {g.id: tuple(range(g.size // 2)) for g in analysis.prunable}
    made = repair(analysis, Change(cuts), batches=data[:2])
    spoiled = {name: np.zeros_like(array) + 7 for name, array in made.replaced.items()}
    assert helps(analysis, cuts, made.replaced, {}, data[:2])
    assert not helps(analysis, cuts, spoiled, {}, data[:2])
    assert not helps(analysis, cuts, {}, {}, data[:2]), "as near is no nearer"


def test_weights_become_floats_on_request_and_so_they_are_replayed(tmp_path: Path) -> None:
    analysis, data = qdq_net()
    dense, small, again = tmp_path / "dense.onnx", tmp_path / "small.onnx", tmp_path / "again.onnx"
    ir.save(analysis.model, dense)
    result = graphprune.compile(dense, "obspa(macs=0.6, dequantize=true)", small, calibration=data[0])
    kinds = {tensor.data_type for tensor in onnx.load(small).graph.initializer}
    assert kinds.isdisjoint({onnx.TensorProto.INT8, onnx.TensorProto.INT32})
    assert "6 quantised weights and biases are floats now; the file may grow" in result.report.passes[0].notes
    plan = tmp_path / "small.plan.json"
    graphprune.compile(dense, plan=plan, output=again, calibration=data[0])
    assert again.read_bytes() == small.read_bytes()


def test_there_must_be_weights_to_make_floats_of() -> None:
    analysis = sketch(
        "(float[n,4] x) => (float[n,2] y) { a = MatMul(x, w) y = MatMul(a, v) }",
        w=floats(4, 8),
        v=floats(8, 2),
    )
    with pytest.raises(PromiseError, match="no weight is behind a DequantizeLinear"):
        graphprune.compile(ir.to_proto(analysis.model), "prune(dequantize=true)")


def test_weights_behind_a_cast_are_repaired_as_they_are_stored() -> None:
    weights: dict[str, object] = {"w1": floats(16, 32), "w2": floats(32, 32), "w3": floats(32, 4)}
    weights |= {"b2": floats(32), **{name: weights[name].astype(np.float16) for name in list(weights)}}  # type: ignore[attr-defined]
    analysis = sketch(
        """(float[n,16] x) => (float[n,4] y) { f1 = Cast <to = 1> (w1)\n a = MatMul(x, f1)\n r = Relu(a)
        f2 = Cast <to = 1> (w2)\n c = Gemm(r, f2, b2)\n s = Relu(c)
        f3 = Cast <to = 1> (w3)\n y = MatMul(s, f3) }""",
        **weights,
    )
    cuts = {group.id: tuple(range(16)) for group in analysis.prunable}
    seen, unseen = {"x": floats(256, 16)}, {"x": floats(64, 16)}
    made = repair(analysis, Change(cuts), batches=[seen])
    assert {name: array.dtype for name, array in made.replaced.items()} == dict.fromkeys(
        ("w2", "w3"), "float16"
    )
    assert {array.dtype.name for array in made.biases.values()} == {"float32"}
    before, after = (
        distance(analysis.model, twin(analysis, cuts, each), [unseen]) for each in (Repaired({}, {}), made)
    )
    assert after < 0.8 * before


def test_a_scale_that_does_not_fit_its_codes_is_no_grid() -> None:
    """A bias [1, n] with a scale per row: ONNX Runtime's static quantiser writes it, its fusions read it."""
    analysis = sketch(
        """(float[n,4] x) => (float[n,3] y) {
            f = DequantizeLinear <axis = 0> (w, s)
            c = DequantizeLinear <axis = 0> (b, t)
            y = Gemm <transB = 1> (x, f, c)
        }""",
        w=np.ones((3, 4), np.int8),
        s=np.ones(3, np.float32),
        b=np.ones((1, 3), np.int32),
        t=np.ones(3, np.float32),
    )
    weight, bias = (next(iter(analysis.model.graph.initializers[name].uses())) for name in "wb")
    assert grid_of(Use(*weight)) is not None
    assert grid_of(Use(*bias)) is None
