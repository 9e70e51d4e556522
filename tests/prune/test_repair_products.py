"""Operators that multiply with quantised weights themselves are scored by data and repaired on grids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

import graphprune
from graphprune.axes import Analysis, analyse
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline import planfile
from graphprune.proof import prove
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.plan import Plan
from graphprune.prune.repair import Change, Repaired, repair
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import open_session
from graphprune.statistics.collect import collect
from graphprune.statistics.measures import Wanted
from graphprune.statistics.rows import columns
from graphprune.statistics.sites import Site, find_sites
from tests.axes.claims import sketch
from tests.prune.test_repair import distance, twin

Array = np.ndarray
Feed = dict[str, Array]
MS = "com.microsoft"


def near_a_plane(shape: tuple[int, ...], count: int, size: int = 64) -> list[Feed]:
    """Inputs of few directions, as data has; the same plane whenever it is asked for."""
    draw = np.random.default_rng(4)
    basis = draw.standard_normal((6, int(np.prod(shape)))) / 2
    return [
        {"x": (draw.standard_normal((size, 6)) @ basis).reshape(size, *shape).astype(np.float32)}
        for _ in range(count)
    ]


class Reader(CalibrationDataReader):
    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def float_net() -> onnx.ModelProto:
    """Convolutions, one of them in groups, a Gemm and a MatMul."""
    draw = np.random.default_rng(0)
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 4, 3, 3), "w3": (16, 12), "w4": (12, 5)}
    weights: dict[str, object] = {
        name: (1.5 * draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    weights |= {
        f"b{n}": (0.3 * draw.standard_normal(c)).astype(np.float32) for n, c in ((1, 16), (2, 16), (3, 12))
    }
    analysis = sketch(
        """(float[n,3,8,8] x) => (float[n,5] y) { a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)\n r = Relu(a)
        c = Conv <pads = [1, 1, 1, 1], group = 4> (r, w2, b2)\n s = Relu(c)\n g = GlobalAveragePool(s)
        f = Flatten(g)\n h = Gemm(f, w3, b3)\n t = Relu(h)\n y = MatMul(t, w4) }""",
        opset=17,
        **weights,
    )
    proto = ir.to_proto(analysis.model)
    proto.ir_version = 8
    return proto


def static(folder: Path) -> Analysis:
    path, seen = folder / "static.onnx", near_a_plane((3, 8, 8), 2)
    quantize_static(
        float_net(), str(path), Reader(seen), quant_format=QuantFormat.QOperator, per_channel=True,
        weight_type=QuantType.QInt8, reduce_range=True,
    )  # fmt: skip
    return analysed(ir.load(path))


def dynamic(folder: Path) -> Analysis:
    path = folder / "dynamic.onnx"
    quantize_dynamic(float_net(), str(path), weight_type=QuantType.QUInt8)
    return analysed(ir.load(path))


def analysed(model: ir.Model) -> Analysis:
    normalise(model, record_of)
    return analyse(model)


def halves(analysis: Analysis) -> dict[str, tuple[int, ...]]:
    return {
        g.id: tuple(range(g.size // 2))
        if g.block is None
        else tuple(np.flatnonzero(np.arange(g.size) % 4 < 2).tolist())
        for g in analysis.prunable
    }


def better(analysis: Analysis, data: list[Feed], share: float) -> Mapping[str, Array]:
    """Repairs half of everything, and claims what must hold; what was replaced."""
    places = SiteIndex(analysis)
    assert analysis.prunable and all(places.sinks(group) for group in analysis.prunable)
    cuts = halves(analysis)
    made = repair(analysis, Change(cuts), batches=data[:3])
    before, after = (
        distance(analysis.model, twin(analysis, cuts, each), data[3:]) for each in (Repaired({}, {}), made)
    )
    assert after < share * before, (before, after)
    assert not made.biases
    initializers = analysis.model.graph.initializers
    for name, array in made.replaced.items():
        old = initializers[name].const_value
        assert old is not None and array.dtype == old.numpy().dtype and array.shape == old.numpy().shape
    plan = Plan(analysis.options, cuts, {g.id: g.size for g in analysis.prunable}, replaced=made.replaced)
    small = rewrite(analysis.model, analysis, plan)
    proof = prove(analysis.model, analysis, plan, small, data[3:])
    assert proof.ok, proof.details
    return made.replaced


def test_a_net_of_qlinear_operators_is_repaired_with_the_biases_of_its_integers(tmp_path: Path) -> None:
    analysis = static(tmp_path)
    replaced = better(analysis, near_a_plane((3, 8, 8), 5), 0.5)
    assert {f"{name}_quantized" for name in ("w2", "w3", "w4", "b2", "b3")} <= set(replaced)


def test_products_of_integers_move_the_bias_that_is_added_behind_their_scales(tmp_path: Path) -> None:
    analysis = dynamic(tmp_path)
    replaced = better(analysis, near_a_plane((3, 8, 8), 5), 0.5)
    assert {"w2_quantized", "w3_quantized", "w4_quantized", "b3", "c_bias_reshape_output"} <= set(replaced)


def coded(array: Array, bits: int = 8) -> tuple[Array, Array]:
    """Codes with a scale per column."""
    most = 2 ** (bits - 1) - 1
    scale = (np.abs(array).max(axis=0) / most).astype(np.float32)
    return np.rint(array / scale).astype(np.int8), scale


def mlp(body: str, **more: object) -> Analysis:
    """Products of 16, 32, 24 and 5 columns, coded with seven bits."""
    draw, weights = np.random.default_rng(2), dict[str, object](more)
    for number, shape in enumerate(((16, 32), (32, 24), (24, 5)), 1):
        weights[f"w{number}"], weights[f"s{number}"] = coded(
            draw.standard_normal(shape) / np.sqrt(shape[0]), 7
        )
        weights[f"b{number}"] = (0.3 * draw.standard_normal(shape[1])).astype(np.float32)
    used = {name: value for name, value in weights.items() if f"{name}," in body or f"{name})" in body}
    return sketch(f"(float[n,16] x) => (float[n,5] y) {{ {body} }}", **used)


def fused() -> Analysis:
    return mlp(
        """a = com.microsoft.DynamicQuantizeMatMul(x, w1, s1, , b1)\n r = Relu(a)
        c = com.microsoft.DynamicQuantizeMatMul(r, w2, s2, , b2)\n t = Relu(c)
        q, qs, qz = DynamicQuantizeLinear(t)
        y = com.microsoft.MatMulIntegerToFloat(q, w3, qs, s3, qz, , b3)"""
    )


def test_fused_dynamic_products_are_repaired_with_their_biases() -> None:
    replaced = better(fused(), near_a_plane((16,), 5), 0.6)
    assert {"w2", "b2", "w3", "b3"} <= set(replaced)


def packed(array: Array, bits: int, block: int) -> tuple[Array, Array]:
    """[rows, columns] as MatMulNBits stores it, by its documentation, element by element."""
    rows, count = array.shape
    blocks = array.reshape(rows, count // block, block)
    scale = np.abs(blocks).max(axis=2) / (2 ** (bits - 1) - 1)
    codes = (np.rint(blocks / scale[..., None]) + 2 ** (bits - 1)).astype(int)
    each = 8 // bits
    found = np.zeros((rows, count // block, block // each), np.uint8)
    for (row, part, place), code in np.ndenumerate(codes):
        found[row, part, place // each] |= np.uint8(code << bits * (place % each))
    return found, scale.astype(np.float32)


def of_few_bits(bits: int) -> Analysis:
    """A hidden width that goes in blocks, one that goes unit by unit."""
    draw, weights = np.random.default_rng(3), dict[str, object]()
    shapes = {"1": (128, 16), "2": (48, 128), "3": (5, 48)}
    for number, shape in shapes.items():
        weights[f"w{number}"], weights[f"s{number}"] = packed(
            draw.standard_normal(shape) / np.sqrt(shape[1]), bits, 16
        )
        weights[f"b{number}"] = (0.3 * draw.standard_normal(shape[0])).astype(np.float32)
    calls = (
        f"{out} = com.microsoft.MatMulNBits <K = {k}, N = {n}, bits = {bits}, block_size = 16> "
        f"({edge}, w{number}, s{number}, , , b{number})"
        for out, edge, (number, (n, k)) in zip("acy", "xrt", shapes.items(), strict=True)
    )
    first, second, third = calls
    body = f"{first}\n r = Relu(a)\n {second}\n t = Relu(c)\n {third}"
    return sketch(f"(float[n,16] x) => (float[n,5] y) {{ {body} }}", **weights)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_few_bits_in_blocks_are_repaired(bits: int) -> None:
    analysis = of_few_bits(bits)
    replaced = better(analysis, near_a_plane((16,), 5), 0.6)
    assert {"w2", "b2", "w3", "b3"} <= set(replaced)


def attention() -> Analysis:
    draw = np.random.default_rng(5)
    shapes = {"w0": (12, 24), "wi": (24, 12), "wo": (12, 12)}
    weights = {name: draw.standard_normal(shape).astype(np.float32) / 3 for name, shape in shapes.items()}
    codes, scale = coded(draw.standard_normal((12, 36)) / 3, 7)
    return sketch(
        """(float[n,6,12] x) => (float[n,6,12] y) { g = MatMul(x, w0)\n r = Relu(g)\n h = MatMul(r, wi)
        q = QuantizeLinear(h, es, ez)\n a = com.microsoft.QAttention <num_heads = 3> (q, w, b, es, s, , ez)
        y = MatMul(a, wo) }""",
        **weights, w=codes, s=scale.max()[None], b=(36,),
        es=np.array(0.05, np.float32), ez=np.array(128, np.uint8),
    )  # fmt: skip


FORMS = {
    "fused": fused,
    "4 bits": lambda: of_few_bits(4),
    "8 bits": lambda: of_few_bits(8),
    "attention": attention,
}


@pytest.mark.parametrize("form", [*FORMS, "static", "dynamic"])
def test_codes_that_are_written_read_back(form: str, tmp_path: Path) -> None:
    analysis = (
        {"static": static, "dynamic": dynamic}[form](tmp_path)
        if form in ("static", "dynamic")
        else FORMS[form]()
    )
    coded_sites = [site for site in find_sites(analysis.model) if site.stored.grid is not None]
    assert coded_sites
    for site in coded_sites:
        tensor, grid = site.stored.value.const_value, site.stored.grid
        assert tensor is not None and grid is not None
        same = site.stored.write(site.stored.codes())
        assert same.dtype == tensor.numpy().dtype and same.tobytes() == tensor.tobytes()
        np.testing.assert_allclose(grid.values(site.stored.codes()), site.stored.read(), rtol=1e-6)


@pytest.mark.parametrize("form", ["4 bits", "8 bits"])
def test_a_packed_weight_reads_as_what_its_node_reads(form: str) -> None:
    analysis = FORMS[form]()
    site = next(site for site in find_sites(analysis.model) if site.weight.name == "w1")
    eye = np.concatenate([np.zeros((1, 16)), np.eye(16)]).astype(np.float32)
    run = open_session(analysis.model, extra_outputs=["a"]).run({"x": eye})["a"]
    np.testing.assert_allclose(site.dense[0], (run[1:] - run[0]).T, rtol=1e-4, atol=1e-5)


def test_what_integers_of_an_edge_stand_for_times_the_weight_is_what_the_node_gives(tmp_path: Path) -> None:
    analysis = static(tmp_path)
    feed = near_a_plane((3, 8, 8), 1, 4)[0]
    sites = [site for site in find_sites(analysis.model) if site.reads is not None]
    assert len(sites) == 4
    names = [name for site in sites for name in (site.edge.name or "", site.output.name or "")]
    found = open_session(analysis.model, extra_outputs=[*dict.fromkeys(names)], exact=True).run(feed)
    for site in sites:
        wanted = result(site, found)
        given = np.asarray(
            columns(site, found[site.edge.name or ""]) @ site.dense.transpose(0, 2, 1), np.float64
        )
        given = given.transpose(1, 0, 2).reshape(-1, site.outputs)
        if site.held is not None:
            given = given + np.asarray(site.held.read(), np.float64)
        low, high = wanted.min(), wanted.max()  # the result saturates where its type ends
        step = float(site.node.inputs[6 if site.node.op_type != "QGemm" else 7].const_value.numpy())  # type: ignore[union-attr]
        assert np.abs(np.clip(given, low, high) - wanted).max() <= 0.51 * step + 1e-6


def test_sums_over_an_edge_are_of_what_its_integers_stand_for(tmp_path: Path) -> None:
    analysis = static(tmp_path)
    feed = near_a_plane((3, 8, 8), 1, 4)[0]
    site = next(site for site in find_sites(analysis.model) if site.weight.name == "w2_quantized")
    name = site.edge.name or ""
    edge = open_session(analysis.model, extra_outputs=[name], exact=True).run(feed)[name]
    vector = collect(analysis.model, [feed], Wanted(vectors=frozenset([name]))).vector(name)
    numbers = np.asarray(site.numbers(edge), np.float64)
    assert edge.dtype == np.int8 and numbers.min() == 0
    np.testing.assert_allclose(vector.sum, numbers.sum(axis=(0, 2, 3)), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(vector.squares, (numbers**2).sum(axis=(0, 2, 3)), rtol=1e-5, atol=1e-4)


def result(site: Site, found: Mapping[str, Array]) -> Array:
    """What codes of a QLinear node stand for, [rows, outputs]."""
    at = 7 if site.node.op_type == "QGemm" else 6
    scale, zero = (np.asarray(v.const_value.numpy(), np.float64) for v in site.node.inputs[at : at + 2])  # type: ignore[union-attr]
    numbers = (found[site.output.name or ""].astype(np.float64) - zero) * scale
    return np.moveaxis(numbers, site.out_axis, -1).reshape(-1, site.outputs)


def test_quantised_attention_behind_a_cut_is_repaired() -> None:
    analysis = attention()
    group = next(g for g in analysis.prunable if any(s.initializer == "w0" for s in g.slices))
    data, cuts = near_a_plane((6, 12), 5), {group.id: tuple(range(3, 24))}
    made = repair(analysis, Change(cuts), batches=data[:3])
    bare = Repaired({name: array for name, array in made.replaced.items() if name == "wi"}, made.biases)
    before, after = (distance(analysis.model, twin(analysis, cuts, each), data[3:]) for each in (bare, made))
    assert after < before and {"w", "b"} <= set(made.replaced), (before, after, sorted(made.replaced))


def test_a_file_of_qlinear_operators_goes_through_a_compile(tmp_path: Path) -> None:
    static(tmp_path)
    data = {"x": np.concatenate([feed["x"] for feed in near_a_plane((3, 8, 8), 4)])}
    drops = []
    for passes in ("obspa(params=0.6, repair=none)", "obspa(params=0.6)"):
        small = tmp_path / f"{len(passes)}.onnx"
        result = graphprune.compile(tmp_path / "static.onnx", passes, small, calibration=data, bench=False)
        assert not any(
            "nothing to measure" in line or "not repaired" in line for line in result.report.warnings
        )
        drops.append(
            distance(ir.load(tmp_path / "static.onnx"), ir.load(small), near_a_plane((3, 8, 8), 6)[4:])
        )
    assert drops[1] < 0.6 * drops[0], drops


def test_scales_of_blocks_grow_where_their_numbers_need_it_and_nowhere_else() -> None:
    analysis = of_few_bits(4)
    replaced = better(analysis, near_a_plane((16,), 5), 0.6)
    grown = {name: array for name, array in replaced.items() if name in ("s2", "s3")}
    assert grown
    for name, array in grown.items():
        old = analysis.model.graph.initializers[name].const_value
        assert old is not None
        growth = array / old.numpy()
        assert growth.min() >= 1 and growth.max() > 1 and (growth == 1).any(), "each block by itself"


def test_a_scale_that_two_weights_share_stays() -> None:
    analysis = mlp(
        """d1 = DequantizeLinear <axis = 1> (w1, s1)\n d2 = DequantizeLinear(w2, t)
        d3 = DequantizeLinear(w3, t)\n a = MatMul(x, d1)\n r = Relu(a)\n c = MatMul(r, d2)\n u = Relu(c)
        y = MatMul(u, d3) }""".removesuffix("}").rstrip(),
        t=np.array(0.012, np.float32),
    )
    replaced = better(analysis, near_a_plane((16,), 5), 0.8)
    assert {"w2", "w3"} <= set(replaced) and "t" not in replaced


def test_a_plan_with_grown_scales_gives_the_same_bytes_again(tmp_path: Path) -> None:
    dense = ir.to_proto(of_few_bits(4).model)
    data = {"x": np.concatenate([feed["x"] for feed in near_a_plane((16,), 4)])}
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    graphprune.compile(dense, "obspa(macs=0.5)", one, calibration=data, bench=False)
    plan = one.with_suffix(".plan.json")
    decided = planfile.read(plan).entries[0].plan
    assert decided is not None and {"s2", "s3"} & set(decided.replaced)
    graphprune.compile(dense, output=two, plan=plan, bench=False)
    assert one.read_bytes() == two.read_bytes()
