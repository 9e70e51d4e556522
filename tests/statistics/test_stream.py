"""A model in segments: what it computes, what it holds, and runs with other weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.ir.load import load
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.runtime.session import open_session
from graphprune.statistics import rows
from graphprune.statistics.collect import Wanted, collect
from graphprune.statistics.piece import Altered
from graphprune.statistics.segments import reads
from graphprune.statistics.stream import Stream
from tests.proof.building import model

from .oracle import Feed, draw, raw, sites, weight

Array = np.ndarray

DECODER = """(int64[b,t] ids, int64[b,t] attention_mask) => (float[b,t,11] y) {
    h0 = Gather(table, ids)
    keep = Cast<to=1>(attention_mask)  hide = Sub(one, keep)  low = Mul(hide, minus)
    bias = Unsqueeze(low, first)
    s0 = Mul(h0, g0)
    q0 = MatMul(s0, q0w)  k0 = MatMul(s0, k0w)  v0 = MatMul(s0, v0w)
    kt0 = Transpose<perm=[0,2,1]>(k0)  a0 = MatMul(q0, kt0)  b0 = Add(a0, bias)  p0 = Softmax<axis=-1>(b0)
    c0 = MatMul(p0, v0)  o0 = MatMul(c0, o0w)  m0 = Add(h0, o0)
    u0 = MatMul(m0, u0w)  r0 = Relu(u0)  d0 = MatMul(r0, d0w)  e0 = Add(d0, d0b)  h1 = Add(m0, e0)
    s1 = Mul(h1, g1)
    q1 = MatMul(s1, q1w)  k1 = MatMul(s1, k1w)  v1 = MatMul(s1, v1w)
    kt1 = Transpose<perm=[0,2,1]>(k1)  a1 = MatMul(q1, kt1)  b1 = Add(a1, bias)  p1 = Softmax<axis=-1>(b1)
    c1 = MatMul(p1, v1)  o1 = MatMul(c1, o1w)  m1 = Add(h1, o1)
    u1 = MatMul(m1, u1w)  r1 = Relu(u1)  d1 = MatMul(r1, d1w)  h2 = Add(m1, d1)
    y = MatMul(h2, head)
}"""


def decoder() -> tuple[ir.Model, list[Feed]]:
    weights: dict[str, object] = {
        "table": (11, 8),
        "one": np.array(1, np.float32),
        "minus": np.array(-1e4, np.float32),
        "first": np.array([1]),
        "head": draw(8, 11, scale=0.3),
        "d0b": (8,),
    }
    for layer in (0, 1):
        weights[f"g{layer}"] = (8,)
        for name, shape in {
            "q": (8, 8),
            "k": (8, 8),
            "v": (8, 8),
            "o": (8, 8),
            "u": (8, 12),
            "d": (12, 8),
        }.items():
            weights[f"{name}{layer}w"] = draw(*shape, seed=layer + ord(name), scale=0.3)
    mask = np.ones((2, 6), np.int64)
    mask[0, 4:] = 0
    generator = np.random.default_rng(0)
    feeds = [{"ids": generator.integers(0, 11, (2, 6)), "attention_mask": mask} for _ in range(3)]
    return model(DECODER, opset=18, **weights), feeds


def test_a_decoder_is_cut_where_only_the_residual_stream_is_alive() -> None:
    built, feeds = decoder()
    segments = Stream(built, feeds).segments
    between = [sorted(v.name or "" for v in s.outputs if v.name != "bias") for s in segments[:-1]]
    assert between == [["m0"], ["h1"], ["m1"], ["h2"]]
    assert [[site.name for site in s.sites] for s in segments] == [
        ["q0w", "k0w", "v0w", "o0w"],
        ["u0w", "d0w"],
        ["q1w", "k1w", "v1w", "o1w"],
        ["u1w", "d1w"],
        ["head"],
    ]


def test_a_residual_network_is_cut_between_its_blocks() -> None:
    built = model(
        """(float[b,3,8,8] x) => (float[b,4,8,8] y) {
            a = Conv(x, w0)  r = Relu(a)
            c = Conv(r, w1)  d = Relu(c)  e = Conv(d, w2)  f = Add(r, e)
            g = Relu(f)  h = Conv(g, w3)  i = Relu(h)  j = Conv(i, w4)  y = Add(g, j)
        }""",
        w0=(4, 3, 1, 1),
        **{f"w{i}": (4, 4, 1, 1) for i in range(1, 5)},
    )
    segments = Stream(built, [{"x": draw(1, 3, 8, 8)}]).segments
    assert [[site.name for site in s.sites] for s in segments] == [["w0"], ["w1", "w2"], ["w3", "w4"]]
    assert [[v.name for v in s.outputs] for s in segments] == [["r"], ["g"], []]


def _walk(stream: Stream, look: Callable[[int], None]) -> None:
    for segment in stream.segments:
        look(segment.index)
        stream.advance(segment)


def test_taps_are_what_the_whole_model_computes() -> None:
    built, feeds = decoder()
    stream = Stream(built, feeds)
    inner = [v.name or "" for node in built.graph for v in node.outputs]
    wanted = [raw(built, feed, inner) for feed in feeds]

    def look(index: int) -> None:
        segment = stream.segments[index]
        names = [*segment.made, *(v.name or "" for v in segment.inputs)]
        for number, found in enumerate(stream.tap(segment, names)):
            for name in names:
                np.testing.assert_allclose(found[name], wanted[number][name], rtol=1e-4, atol=1e-5)

    _walk(stream, look)


def test_measures_are_those_of_a_whole_run() -> None:
    built, feeds = decoder()
    stream = Stream(built, feeds)
    everything = Wanted(frozenset(s.edge.name or "" for s in sites(built).values()), frozenset(sites(built)))
    whole = collect(built, feeds, everything)

    def look(index: int) -> None:
        segment = stream.segments[index]
        edges = frozenset(site.edge.name or "" for site in segment.sites)
        found = stream.measure(segment, Wanted(edges, frozenset(site.name for site in segment.sites)))
        for name in edges:
            np.testing.assert_allclose(found.vector(name).squares, whole.vector(name).squares, rtol=1e-6)
            assert found.vector(name).count == 30  # 3 batches of 2 * 6 tokens, 2 of them padding
        for site in segment.sites:
            one, two = found.gram(site.name), whole.gram(site.name)
            assert one.count == two.count == 30
            np.testing.assert_allclose(one.gram, two.gram, atol=1e-6 * np.abs(two.gram).max())

    _walk(stream, look)


def _changed(built: ir.Model, replaced: dict[str, Array]) -> ir.Model:
    other = built.clone()
    for name, array in replaced.items():
        other.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return other


def test_other_weights_flow_on() -> None:
    built, feeds = decoder()
    replaced = {"o0w": draw(8, 8, seed=50), "g1": draw(8, seed=51), "d0b": draw(8, seed=52)}
    other = _changed(built, replaced)
    stream = Stream(built, feeds)
    for segment in stream.segments[:3]:
        stream.advance(segment, Altered(replaced))
    for found, feed in zip(stream.tap(stream.segments[3], ["r1"]), feeds, strict=True):
        np.testing.assert_allclose(found["r1"], raw(other, feed, ["r1"])["r1"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(weight(sites(built)["o0w"]), draw(8, 8, seed=ord("o"), scale=0.3))


def test_what_is_computed_from_weights_alone_follows_what_replaces_them() -> None:
    """Where all weights are converted before anything runs, a later segment still reads new ones."""
    casts = "".join(f"f{n} = Cast<to=1>(w{n})  t{n} = Transpose(f{n})\n" for n in range(4))
    layers = "".join(f"a{n} = MatMul(x{n}, t{n})  x{n + 1} = Relu(a{n})\n" for n in range(4))
    half = {f"w{n}": draw(8, 8, seed=n).astype(np.float16) for n in range(4)}
    built = model(f"(float[n,8] x0) => (float[n,8] x4) {{ {casts} {layers} }}", **half)
    feed = {"x0": draw(5, 8, seed=9)}
    stream = Stream(built, [feed])
    assert len(stream.segments) == 4
    assert all(not value.name or value.name[0] == "x" for s in stream.segments for value in s.outputs)
    replaced: dict[str, Array] = {}
    for number, segment in enumerate(stream.segments):
        replaced[f"w{number}"] = draw(8, 8, seed=20 + number).astype(np.float16)
        (found,) = stream.tap(segment, [f"a{number}"], Altered(replaced))
        expected = raw(_changed(built, replaced), feed, [f"a{number}"])
        np.testing.assert_allclose(found[f"a{number}"], expected[f"a{number}"], rtol=1e-4, atol=1e-4)
        stream.advance(segment, Altered(replaced))


@pytest.mark.parametrize("at", ["o0", "d0"])
def test_biases_are_added_to_what_a_site_computes(at: str) -> None:
    built, feeds = decoder()
    bias = draw(8, seed=9)
    stream = Stream(built, feeds)
    plain = list(stream.tap(stream.segments[0], ["m0", "o0"]))
    first = stream.segments[0]
    if at == "o0":
        for one, two in zip(plain, stream.tap(first, ["m0", "o0"], Altered(biases={at: bias})), strict=True):
            np.testing.assert_allclose(two["o0"], one["o0"] + bias, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(two["m0"], one["m0"] + bias, rtol=1e-5, atol=1e-5)
        stream.advance(first, Altered(biases={at: bias}))
        (held, *_) = stream.tap(stream.segments[1], ["m0"])
        np.testing.assert_allclose(held["m0"], plain[0]["m0"] + bias, rtol=1e-5, atol=1e-5)
        return
    stream.advance(first)
    second = stream.segments[1]
    one, two = (next(stream.tap(second, ["h1"], Altered(biases=b))) for b in ({}, {at: bias}))
    np.testing.assert_allclose(two["h1"], one["h1"] + bias, rtol=1e-5, atol=1e-5)


def test_a_bias_of_a_convolution_lies_along_its_channels() -> None:
    built = model("(float[b,3,4,4] x) => (float[b,2,4,4] y) { c = Conv(x, w)  y = Relu(c) }", w=(2, 3, 1, 1))
    feed, bias = {"x": draw(2, 3, 4, 4)}, np.array([1.0, -2.0], np.float32)
    stream = Stream(built, [feed])
    (found,) = stream.tap(stream.segments[0], ["c", "y"], Altered(biases={"c": bias}))
    plain = raw(built, feed, ["c"])["c"] + bias[:, None, None]
    np.testing.assert_allclose(found["c"], plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["y"], np.maximum(plain, 0), rtol=1e-5, atol=1e-6)


def test_what_is_no_longer_read_is_forgotten() -> None:
    built, feeds = decoder()
    stream = Stream(built, feeds)
    stream.advance(stream.segments[0])
    assert sorted(stream._held[0]) == ["bias", "m0"]
    stream.advance(stream.segments[1])
    assert sorted(stream._held[0]) == ["bias", "h1"]


def test_branches_read_from_outside() -> None:
    built = model(
        """(float[b,4] x, bool go) => (float[b,5] y) {
            h = MatMul(x, w)  side = Relu(h)  k = MatMul(h, v)
            z = If (go) <then_branch = one () => (float[b,4] i) { i = Add(k, side) },
                         else_branch = two () => (float[b,4] j) { j = Sub(k, extra) }>
            y = MatMul(z, u)
        }""",
        w=(4, 4),
        v=(4, 4),
        u=(4, 5),
        extra=(4,),
    )
    branch = next(node for node in built.graph if node.op_type == "If")
    assert {v.name for v in reads(branch)} == {"go", "k", "side", "extra"}
    feeds: list[Feed] = [{"x": draw(2, 4), "go": np.array(flag)} for flag in (True, False)]
    stream = Stream(built, feeds)
    for segment in stream.segments[:-1]:
        stream.advance(segment)
    for found, feed in zip(stream.tap(stream.segments[-1], ["z"]), feeds, strict=True):
        np.testing.assert_allclose(found["z"], raw(built, feed, ["z"])["z"], rtol=1e-5, atol=1e-5)


def test_rows_follow_the_order_of_the_output() -> None:
    built = model(
        "(float[b,3,5,6] x) => (float[b,4,o,p] y) { y = Conv<strides=[2,1], pads=[1,0,1,0]>(x, w) }",
        w=(4, 3, 3, 2),
    )
    site, feed = sites(built)["w"], {"x": draw(2, 3, 5, 6)}
    picks = rows.Sampling(rows=12).choose(site, rows.source(site, feed["x"]).valid(None), 8192)
    assert len(picks) == 12
    (taken,) = rows.source(site, feed["x"]).take(picks)
    wanted = rows.outputs(site, raw(built, feed, [])["y"])[picks]
    np.testing.assert_allclose(taken @ site.matrix(weight(site))[0].T, wanted, rtol=1e-4, atol=1e-5)


def test_weights_in_another_file_stay_there(tmp_path: object) -> None:
    built, feeds = decoder()
    path = tmp_path / "m.onnx"  # type: ignore[operator]
    ir.save(built, path, external_data="m.data")
    loaded = load(path).model
    normalise(loaded, record_of)
    tensors = {name: value.const_value for name, value in loaded.graph.initializers.items()}
    one = collect(loaded, feeds, Wanted(grams=frozenset(["o1w"])))
    two = collect(built, feeds, Wanted(grams=frozenset(["o1w"])))
    np.testing.assert_array_equal(one.gram("o1w").gram, two.gram("o1w").gram)
    assert all(loaded.graph.initializers[name].const_value is tensor for name, tensor in tensors.items())


def test_the_model_is_not_changed() -> None:
    built, feeds = decoder()
    before = ir.to_proto(built).SerializeToString()
    stream = Stream(built, feeds)
    stream.measure(
        stream.segments[0], Wanted(frozenset(["o0"]), frozenset(["o0w"])), Altered(biases={"o0": draw(8)})
    )
    stream.advance(stream.segments[0], Altered({"o0w": draw(8, 8)}, {"o0": draw(8)}))
    collect(built, feeds, Wanted(frozenset(["h1"]), frozenset(["head"]), angles=(("h0", "h2"),)))
    assert ir.to_proto(built).SerializeToString() == before
    assert open_session(built).run(feeds[0])["y"].shape == (2, 6, 11)


def test_a_run_that_looks_at_a_segment_can_go_onward() -> None:
    """The dense model need not run once for what is looked at, and once more for what comes after."""
    built, feeds = decoder()
    plain, once = Stream(built, feeds), Stream(built, feeds)
    for one, two in zip(plain.segments, once.segments, strict=True):
        names = [site.output.name or "" for site in one.sites]
        pairs = zip(plain.tap(one, names), once.tap(two, names, onward=True), strict=True)
        assert all(np.array_equal(a[name], b[name]) for a, b in pairs for name in names)
        again = zip(plain.tap(one, names), once.tap(two, names, onward=True), strict=True)
        assert all(np.array_equal(a[name], b[name]) for a, b in again for name in names)
        plain.advance(one)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("graphprune.statistics.stream.open_piece", None)  # nothing is run
            once.advance(two)
