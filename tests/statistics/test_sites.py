"""A Site is y = W x: its matrix times its columns is what the node computes, in every layout."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import analyse
from graphprune.statistics.rows import columns, outputs
from graphprune.statistics.sites import Site
from tests.proof.building import model

from .oracle import channels_last, draw, raw, sites, weight

CONVS = {
    "plain": ("float[b,4,9,8]", "", (6, 4, 3, 3)),
    "pads": ("float[b,4,9,8]", "pads=[1,0,2,1]", (6, 4, 3, 3)),
    "strides": ("float[b,4,9,8]", "strides=[2,3], pads=[1,1,1,1]", (6, 4, 3, 3)),
    "dilations": ("float[b,4,9,8]", "dilations=[2,1], strides=[1,2]", (6, 4, 3, 2)),
    "same_upper": ("float[b,4,9,8]", 'auto_pad="SAME_UPPER", strides=[2,2]', (6, 4, 3, 2)),
    "same_lower": ("float[b,4,9,8]", 'auto_pad="SAME_LOWER", strides=[2,3]', (6, 4, 2, 4)),
    "valid": ("float[b,4,9,8]", 'auto_pad="VALID"', (6, 4, 2, 2)),
    "pointwise": ("float[b,4,9,8]", "", (6, 4, 1, 1)),
    "grouped": ("float[b,4,9,8]", "group=2, pads=[1,1,1,1]", (6, 2, 3, 3)),
    "depthwise": ("float[b,4,9,8]", "group=4", (4, 1, 3, 3)),
    "multiplier": ("float[b,4,9,8]", "group=4", (8, 1, 2, 3)),
    "1d": ("float[b,4,11]", "pads=[2,1], strides=[2]", (5, 4, 3)),
    "3d": ("float[b,2,5,6,7]", "pads=[1,0,1,0,1,0], dilations=[1,2,1]", (3, 2, 2, 2, 3)),
}


def _only(built: ir.Model) -> Site:
    (site,) = sites(built).values()
    return site


def _shape(text: str) -> tuple[int, ...]:
    return tuple(3 if dim == "b" else int(dim) for dim in text[6:-1].split(","))


@pytest.mark.parametrize("name", CONVS)
def test_conv_is_its_matrix_times_its_windows(name: str) -> None:
    kind, attributes, shape = CONVS[name]
    rank = ",".join("abcdefg"[: len(shape)])
    attributes = f"<{attributes}>" if attributes else ""
    built = model(f"({kind} x) => (float[{rank}] y) {{ y = Conv {attributes} (x, w) }}", w=shape)
    site, feed = _only(built), {"x": draw(*_shape(kind))}
    rows = columns(site, feed["x"])
    found = np.concatenate(list(rows @ site.matrix(weight(site)).transpose(0, 2, 1)), axis=1)
    wanted = outputs(site, raw(built, feed, [])["y"])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(site.restore(site.matrix(weight(site))), weight(site))


PRODUCTS = {
    "matmul": ("float[b,5,4] x", "MatMul(x, w)", (4, 6)),
    "left": ("float[b,4,5] x", "MatMul(w, x)", (6, 4)),
    "gemm": ("float[b,4] x", "Gemm(x, w)", (4, 6)),
    "transB": ("float[b,4] x", "Gemm<transB=1, alpha=0.5>(x, w)", (6, 4)),
    "transA": ("float[4,b] x", "Gemm<transA=1, alpha=2.0>(x, w)", (4, 6)),
    "gemm_left": ("float[4,b] x", "Gemm<alpha=3.0>(w, x)", (6, 4)),
    "gemm_left_trans": ("float[b,4] x", "Gemm<transA=1, transB=1>(w, x)", (4, 6)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product_is_its_matrix_times_its_tokens(name: str) -> None:
    kind, call, shape = PRODUCTS[name]
    rank = "o,p,q" if kind.count(",") == 2 else "o,p"
    built = model(f"({kind}) => (float[{rank}] y) {{ y = {call} }}", w=shape)
    site = _only(built)
    feed = {"x": draw(*_shape(kind.split()[0]))}
    (rows,) = columns(site, feed["x"])
    found = rows @ site.matrix(weight(site))[0].T
    wanted = channels_last(raw(built, feed, [])["y"], site.out_axis)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(site.restore(site.matrix(weight(site))), weight(site), rtol=2e-7)


@pytest.mark.parametrize(("group", "shape"), [(1, (4, 3, 2, 3)), (2, (4, 3, 2, 3)), (4, (4, 1, 2, 2))])
def test_conv_transpose_scatters_its_matrix_times_its_channels(group: int, shape: tuple[int, ...]) -> None:
    attributes = f"strides=[{shape[2]},{shape[3]}], group={group}"
    built = model(
        f"(float[b,4,5,6] x) => (float[b,o,h,v] y) {{ y = ConvTranspose<{attributes}>(x, w) }}", w=shape
    )
    site, feed = _only(built), {"x": draw(2, 4, 5, 6)}
    rows = columns(site, feed["x"])
    found = np.concatenate(list(rows @ site.matrix(weight(site)).transpose(0, 2, 1)), axis=1)
    # With strides as wide as the kernel every row fills its own patch of the output.
    patches = found.reshape(2, 5, 6, site.outputs, *shape[2:]).transpose(0, 3, 1, 4, 2, 5)
    wanted = raw(built, feed, [])["y"]
    np.testing.assert_allclose(patches.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)
    assert (site.row_span, site.column_span) == (shape[2] * shape[3], 1)
    np.testing.assert_array_equal(site.restore(site.matrix(weight(site))), weight(site))


def test_bias_is_what_every_output_gets() -> None:
    built = model(
        """(float[b,4] x, float[b,2,8] t) => (float[b,6] y, float[b,2,6] z, float[b,2,6] u) {
            y = Gemm<beta=0.5>(x, w, c)  p = MatMul(t, m)  z = Add(p, d)  q = MatMul(t, n)  u = Add(d, q)
        }""",
        w=(4, 6),
        c=(1, 6),
        m=(8, 6),
        d=(6,),
        n=(8, 6),
    )
    found = sites(built)
    assert {name: site.bias and site.bias.name for name, site in found.items()} == {
        "w": "c",
        "m": "d",
        "n": "d",
    }
    assert (found["w"].bias_scale, found["m"].bias_scale) == (0.5, 1.0)


def test_a_bias_of_another_shape_or_a_product_read_twice_has_none() -> None:
    built = model(
        """(float[b,4] x) => (float[b,6] y, float[b,6] z, float[b,6] v) {
            y = Gemm(x, w, c)  p = MatMul(x, m)  z = Add(p, d)  v = Relu(p)
        }""",
        w=(4, 6),
        c=(1,),
        m=(4, 6),
        d=(6,),
    )
    assert [site.bias for site in sites(built).values()] == [None, None]


def test_shared_quantised_and_inner_weights() -> None:
    built = model(
        """(float[b,4] x, float[b,2,3,4] t, bool go) => (float[b,4] y, float[b,2,3,5] r, float[b,4] f) {
            a = MatMul(x, w)  y = MatMul(a, w)  r = MatMul(t, batched)
            k = DequantizeLinear(q, s)  e = MatMul(x, k)
            f = If (go) <then_branch = one () => (float[b,4] i) { i = MatMul(e, inner) },
                         else_branch = two () => (float[b,4] j) { j = Identity(e) }>
        }""",
        w=(4, 4),
        batched=(2, 4, 5),
        q=np.ones((4, 4), np.int8),
        s=np.array(0.5, np.float32),
        inner=(4, 4),
    )
    assert set(sites(built)) == {"w@a", "w@y", "q"}


def _pairs(pairs: tuple[np.ndarray, np.ndarray], unit: int) -> list[int]:
    return sorted(pairs[1][pairs[0] == unit].tolist())


def test_columns_and_rows_of_a_unit() -> None:
    analysis = analyse(
        model(
            """(float[b,3,8,8] x) => (float[b,5,4,4] y) {
                h = Conv(x, w)  r = Relu(h)  y = Conv<kernel_shape=[3,3]>(r, v)
            }""",
            w=(4, 3, 3, 3),
            v=(5, 4, 3, 3),
        )
    )
    found = sites(analysis.model)
    (group,) = analysis.prunable
    by_name = {(s.initializer, s.role): s for s in group.slices}
    assert found["v"].owns(by_name["v", "sink"])
    assert not found["w"].owns(by_name["v", "sink"])
    assert _pairs(found["v"].columns_of(by_name["v", "sink"]), 2) == list(range(18, 27))
    assert _pairs(found["w"].rows_of(by_name["w", "source"]), 2) == [2]


def test_columns_of_blocks() -> None:
    analysis = analyse(
        model(
            """(float[b,3,8,8] x) => (float[b,6,8,8] y) {
                h = Conv(x, w)  d = Conv<group=8>(h, k)  y = Conv<group=2>(d, v)
            }""",
            w=(8, 3, 1, 1),
            k=(8, 1, 1, 1),
            v=(6, 4, 1, 2),
        )
    )
    found = sites(analysis.model)
    group = next(
        g for g in analysis.groups if any(s.initializer == "w" and s.role == "source" for s in g.slices)
    )
    sink = next(s for s in group.slices if s.initializer == "v" and s.role == "sink")
    scale = next(s for s in group.slices if s.initializer == "k" and s.axis == 0)
    tensor = weight(found["v"])
    for unit in range(group.size):
        picked = np.zeros(found["v"].blocks * found["v"].columns, bool)
        picked[_pairs(found["v"].columns_of(sink), unit)] = True
        # The columns of channel c are those that the product changes with when c changes.
        x = np.zeros((1, 8, 1, 2), np.float32)
        x[0, unit] = 1
        rows = columns(found["v"], x).reshape(-1)
        assert np.array_equal(rows != 0, picked)
        assert _pairs(found["k"].columns_of(scale), unit) == [unit]
    assert tensor.shape == (6, 4, 1, 2)


def test_rows_of_a_grouped_conv_transpose() -> None:
    analysis = analyse(
        model(
            """(float[b,4,3,3] x) => (float[b,2,6,6] y) {
                h = ConvTranspose<group=2, strides=[2,2]>(x, w)  y = Conv(h, v)
            }""",
            w=(4, 3, 2, 2),
            v=(2, 6, 1, 1),
        )
    )
    group = next(
        g for g in analysis.groups if any(s.initializer == "v" and s.role == "sink" for s in g.slices)
    )
    source = next(s for s in group.slices if s.initializer == "w" and s.role == "source")
    sink = next(s for s in group.slices if s.initializer == "v" and s.role == "sink")
    site, reader = sites(analysis.model)["w"], sites(analysis.model)["v"]
    matrix = np.abs(site.matrix(weight(site))).reshape(-1, site.columns)
    for unit in range(group.size):
        rows = _pairs(site.rows_of(source), unit)
        channels = _pairs(reader.columns_of(sink), unit)
        assert rows == [channel * 4 + k for channel in channels for k in range(4)]
        tensor = weight(site)  # [in, out per block, 2, 2]
        own = [np.abs(tensor[2 * (c // 3) : 2 * (c // 3) + 2, c % 3]).sum() for c in channels]
        assert np.isclose(matrix[rows].sum(), sum(own), rtol=1e-5)
