"""Every statistic against its definition on raw values in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import ArgumentError, DataError
from graphprune.run import Run
from graphprune.statistics import collect as collecting
from graphprune.statistics import held, rows
from graphprune.statistics.calibration import LEAST_SAMPLES, sufficient
from graphprune.statistics.collect import Statistics, Wanted, collect
from graphprune.statistics.measures import Gram, Rows, as_gram
from graphprune.statistics.sites import Site
from tests.axes.claims import sketch
from tests.proof.building import model

from .oracle import Feed, channels_last, draw, raw, sites

Array = np.ndarray

CNN = """(float[b,3,10,9] x) => (float[b,7] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1)  r = Relu(a)
    c = Conv<group=2, strides=[2,2]>(r, w2)  n = BatchNormalization(c, g, e, m, v)
    t = ConvTranspose<strides=[2,2]>(n, w3)  s = Sigmoid(t)
    p = GlobalAveragePool(s)  f = Flatten(p)  y = Gemm<transB=1>(f, w4, w5)
}"""
CNN_WEIGHTS = {
    "w1": (6, 3, 3, 3),
    "w2": (8, 3, 3, 2),
    "g": (8,),
    "e": (8,),
    "m": (8,),
    "v": np.full(8, 0.7, np.float32),
    "w3": (8, 5, 2, 2),
    "w4": (7, 5),
    "w5": (7,),
}
TOKENS = """(int64[b,t] ids, int64[b,t] attention_mask) => (float[b,t,9] y) {
    h = Gather(table, ids)  q = MatMul(h, w1)  k = MatMul(h, w2)  u = Mul(q, k)  r = Relu(u)
    o = MatMul(r, w3)  z = Add(h, o)  flat = Reshape(z, two)  l = Gemm(flat, w4)
    s = Shape(ids)  d = Concat<axis=0>(s, nine)  y = Reshape(l, d)
}"""
TOKEN_WEIGHTS = {
    "table": (11, 8),
    "w1": (8, 6),
    "w2": (8, 6),
    "w3": (6, 8),
    "w4": (8, 9),
    "two": np.array([-1, 8]),
    "nine": np.array([9]),
}


def cnn() -> tuple[ir.Model, list[Feed]]:
    return model(CNN, **CNN_WEIGHTS), [{"x": draw(n, 3, 10, 9, seed=n)} for n in (4, 4, 2)]


def tokens(padded: bool = True) -> tuple[ir.Model, list[Feed]]:
    built = model(TOKENS, opset=18, **TOKEN_WEIGHTS)
    generator = np.random.default_rng(3)
    feeds = []
    for length in (5, 7):
        mask = np.ones((3, length), np.int64)
        if padded:
            mask[0, 2:] = 0
            mask[2, :1] = 0
        feeds.append({"ids": generator.integers(0, 11, (3, length)), "attention_mask": mask})
    return built, feeds


@pytest.fixture(params=["cnn", "tokens", "padded"])
def case(request: pytest.FixtureRequest) -> tuple[ir.Model, list[Feed]]:
    return {"cnn": cnn, "tokens": lambda: tokens(False), "padded": tokens}[request.param]()


def _kept(feed: Feed, flat: Array, axis: int) -> Array:
    mask = feed.get("attention_mask")
    if mask is None or axis not in (-1, 2) or len(flat) != mask.size:
        return flat
    return flat[mask.ravel() != 0]


def test_vectors(case: tuple[ir.Model, list[Feed]]) -> None:
    built, feeds = case
    places = {s.edge.name or "": s.in_axis for s in sites(built).values()}
    places |= {s.output.name or "": s.out_axis for s in sites(built).values()}
    found = collect(built, feeds, Wanted(vectors=frozenset(places)))
    for name, axis in places.items():
        batches = [_kept(f, channels_last(raw(built, f, [name])[name], axis), axis) for f in feeds]
        x, vector = np.concatenate(batches), found.vector(name)
        assert vector.count == len(x)
        np.testing.assert_allclose(vector.sum, x.sum(0), rtol=1e-5, atol=1e-5 * np.abs(x).sum())
        np.testing.assert_allclose(vector.squares, (x**2).sum(0), rtol=1e-5)
        np.testing.assert_allclose(vector.absolute, np.abs(x).sum(0), rtol=1e-5)
        np.testing.assert_array_equal(vector.zeros, (x == 0).sum(0))
        np.testing.assert_allclose(vector.mean, x.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(vector.variance, x.var(0), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(vector.norm2, np.linalg.norm(x, axis=0), rtol=1e-5)


def test_minitron_is_the_norm_over_samples_of_the_mean_over_their_own_positions() -> None:
    built, feeds = tokens()
    names = frozenset(["r", "flat"])  # [b, t, c] and [b * t, c]
    found = collect(built, feeds, Wanted(vectors=names))
    for name in names:
        squares = np.zeros(found.vector(name).sum.shape)
        for feed in feeds:
            mask = feed["attention_mask"] != 0
            x = raw(built, feed, [name])[name].reshape(*mask.shape, -1)
            squares += sum(np.abs(x[i, mask[i]]).astype(np.float64).mean(0) ** 2 for i in range(len(mask)))
        np.testing.assert_allclose(found.vector(name).minitron, np.sqrt(squares), rtol=1e-5)


def test_grams(case: tuple[ir.Model, list[Feed]]) -> None:
    built, feeds = case
    found = collect(built, feeds, Wanted(grams=frozenset(sites(built))))
    for name, site in sites(built).items():
        edge = site.edge.name or ""
        blocks = []
        for feed in feeds:
            x = rows.columns(site, raw(built, feed, [edge])[edge]).astype(np.float64)
            blocks.append(np.stack([_kept(feed, block, site.in_axis) for block in x]))
        x, gram = np.concatenate(blocks, axis=1), found.gram(name)
        assert gram.count == x.shape[1]
        second = np.einsum("bri,brj->bij", x, x)
        np.testing.assert_allclose(gram.gram, second, rtol=1e-4, atol=1e-5 * np.abs(second).max())
        np.testing.assert_allclose(gram.sum, x.sum(1), rtol=1e-4, atol=1e-4)
        centred = x - x.mean(axis=1, keepdims=True)
        covariance = np.einsum("bri,brj->bij", centred, centred) / x.shape[1]
        np.testing.assert_allclose(gram.covariance, covariance, atol=1e-4 * np.abs(covariance).max())
        np.testing.assert_allclose(gram.second, second / x.shape[1], rtol=1e-4, atol=1e-4)


def test_a_matrix_that_nobody_can_solve_with_is_refused_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collecting, "WHOLE_COLUMNS", 26)
    built, batches = cnn()
    names = frozenset({"w1", "w4"})
    with pytest.raises(DataError, match=r"w1 has 27 input columns") as caught:
        collect(built, batches, Wanted(grams=names, whole=names))
    assert "ignore" in caught.value.hint
    assert set(collect(built, batches, Wanted(grams=names)).grams) == names


def test_few_rows_are_kept_and_many_are_summed() -> None:
    built, batches = cnn()
    name = frozenset({"w1"})
    few, many = (
        collect(built, batches, Wanted(grams=name), rows=20),
        collect(built, batches, Wanted(grams=name)),
    )
    kept, total = few.gram("w1"), many.gram("w1")
    assert isinstance(kept, Rows) and kept.count == 20 < 27 and isinstance(total, Gram)
    whole = collect(built, batches, Wanted(grams=name, whole=name), rows=20).gram("w1")
    assert isinstance(whole, Gram) and whole.count == 20
    np.testing.assert_allclose(as_gram(kept).scatter, whole.scatter, atol=1e-4 * np.abs(whole.scatter).max())
    assert few.missing(Wanted(grams=name)).empty and few.missing(Wanted(grams=name, whole=name)).grams == name
    both = few.merge(many).gram("w1")
    assert isinstance(both, Gram) and both.count == total.count + 20


def test_columns_that_are_very_many_are_seen_by_fewer_rows() -> None:
    """25 088 of them: a row more costs as much as the square of that."""
    text = "(float[n,25088] x) => (float[n,4] y) { y = MatMul(x, w) }"
    wide = sites(sketch(text, w=np.zeros((25088, 4), np.float32)).model)["w"]
    valid = np.arange(100_000)
    chosen = rows.Sampling().choose(wide, valid, rows.enough(wide.columns, 8))
    assert rows.LEAST_ROWS <= len(chosen) <= 512
    assert 2 * rows.enough(8192, rows.SCORED) == rows.enough(8192, rows.REPAIRED) < 8192
    assert rows.enough(100, 4) == rows.FEW_ROWS and rows.enough(4096, 4) == 4 * 4096


def test_sites_that_see_the_same_columns_share_one_gram() -> None:
    built, feeds = tokens()
    found = collect(built, feeds, Wanted(grams=frozenset(["w1", "w2"])))
    assert found.gram("w1") is found.gram("w2")
    assert found.missing(Wanted(grams=frozenset(["w2"]))).empty
    assert found.missing(Wanted(grams=frozenset(["w3"]))).grams == {"w3"}


def test_angles() -> None:
    built, feeds = tokens()
    angle = collect(built, feeds, Wanted(angles=(("h", "z"),))).angle("h", "z")
    cosines = []
    for feed in feeds:
        values = raw(built, feed, ["h", "z"])
        a, b = (values[name].astype(np.float64)[feed["attention_mask"] != 0] for name in ("h", "z"))
        cosines.append((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    cos = np.concatenate(cosines)
    assert angle.count == len(cos)
    assert np.isclose(angle.mean, np.mean(np.arccos(cos) / np.pi), rtol=1e-5)
    assert np.isclose(angle.influence, np.mean(1 - cos), rtol=1e-4)


def test_rank_is_the_mean_rank_of_a_channels_maps() -> None:
    built = model(
        "(float[b,3,6,5] x) => (float[b,4,6,5] y) { y = Conv(x, w) }",
        w=np.eye(4, 3, dtype=np.float32).reshape(4, 3, 1, 1),
    )
    x = draw(7, 3, 6, 5)
    x[:, 1] = np.outer(np.arange(1, 7), np.arange(1, 6))  # rank 1
    found = collect(built, [{"x": x}], Wanted(ranks=frozenset(["y"])))
    np.testing.assert_array_equal(found.rank("y"), [5, 1, 5, 0])


def test_rank_of_what_is_no_map_is_the_entropy_over_samples() -> None:
    built = model("(float[b,3] x) => (float[b,3] y) { y = MatMul(x, w) }", w=np.eye(3, dtype=np.float32))
    x = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 3, 0]], np.float32)
    found = collect(built, [{"x": x[:2]}, {"x": x[2:]}], Wanted(ranks=frozenset(["y"])))
    wanted = [np.log(4), -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)), 0]
    np.testing.assert_allclose(found.rank("y"), wanted, rtol=1e-6)


def test_many_rows_are_sampled_the_same_every_time() -> None:
    built, feeds = cnn()
    name = frozenset(["w1"])
    whole = collect(built, feeds, Wanted(grams=name)).gram("w1")
    one, two = (collect(built, feeds, Wanted(grams=name), rows=200).gram("w1") for _ in range(2))
    other = collect(built, feeds, Wanted(grams=name), rows=200, run=Run(seed=1)).gram("w1")
    assert whole.count == 900
    assert 200 <= one.count <= 203
    np.testing.assert_array_equal(one.gram, two.gram)
    assert not np.array_equal(one.gram, other.gram)
    scale = np.abs(whole.second).max()
    np.testing.assert_allclose(one.second, whole.second, atol=0.35 * scale)


@pytest.mark.parametrize("limits", [(1, 1, 2**30, 2**30), (1, 1, 1, 1), (2**30, 1, 1, 2**30)])
def test_segments_order_and_files_do_not_change_a_sum(
    case: tuple[ir.Model, list[Feed]], limits: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    built, feeds = case
    values = frozenset(s.edge.name or "" for s in sites(built).values())
    wanted = Wanted(values, frozenset(sites(built)))
    whole = collect(built, feeds, wanted)
    for name, limit in zip(
        ("WEIGHT_BYTES", "TAP_BYTES", "RESIDENT_BYTES", "RESIDENT_TAP_BYTES"), limits, strict=True
    ):
        monkeypatch.setattr(collecting, name, limit)
    monkeypatch.setattr(collecting, "GRAM_BYTES", 1)
    monkeypatch.setattr(held, "MEMORY_LIMIT", 1)
    parts = collect(built, feeds, wanted)
    for name in values:
        for item in dataclasses.fields(whole.vector(name)):
            one, two = (np.asarray(getattr(s.vector(name), item.name)) for s in (whole, parts))
            np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6 * np.abs(one).max())
    for name in sites(built):
        one, two = whole.gram(name).gram, parts.gram(name).gram
        np.testing.assert_allclose(one, two, atol=1e-6 * np.abs(one).max())


def test_twice_is_bit_for_bit_the_same() -> None:
    built, feeds = cnn()
    wanted = Wanted(frozenset(["a", "r", "t"]), frozenset(["w1", "w2", "w3"]), frozenset(["r"]))
    assert _bits(collect(built, feeds, wanted)) == _bits(collect(built, feeds, wanted))


def _bits(found: Statistics) -> list[bytes]:
    measures = [*found.vectors.values(), *found.grams.values(), *found.ranks.values()]
    return [np.asarray(getattr(m, f.name)).tobytes() for m in measures for f in dataclasses.fields(m)]


def test_merge_adds_two_data_sets() -> None:
    built, feeds = cnn()
    wanted = Wanted(frozenset(["r"]), frozenset(["w2"]), frozenset(["r"]))
    whole = collect(built, feeds, wanted)
    merged = collect(built, feeds[:1], wanted).merge(collect(built, feeds[1:], wanted))
    np.testing.assert_allclose(merged.vector("r").squares, whole.vector("r").squares, rtol=1e-12)
    np.testing.assert_allclose(merged.gram("w2").gram, whole.gram("w2").gram, rtol=1e-9)
    np.testing.assert_allclose(merged.rank("r"), whole.rank("r"), rtol=1e-12)
    with pytest.raises(ValueError, match="same measures"):
        merged.merge(collect(built, feeds, Wanted(frozenset(["a"]))))


def test_half_precision_does_not_overflow() -> None:
    built = model(
        "(float16[b,9,4] x) => (float16[b,9,2] y) { y = MatMul(x, w) }", w=draw(4, 2).astype(np.float16)
    )
    x = (draw(3, 9, 4) * 300).astype(np.float16)
    found = collect(built, [{"x": x}], Wanted(frozenset(["x"]), frozenset(["w"])))
    wide = x.reshape(-1, 4).astype(np.float64)
    np.testing.assert_allclose(found.vector("x").squares, (wide**2).sum(0), rtol=1e-5)
    np.testing.assert_allclose(found.gram("w").gram[0], wide.T @ wide, rtol=1e-5, atol=1)


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
def test_old_opsets(opset: int) -> None:
    built = model("(float[b,3,4,4] x) => (float[b,2,4,4] y) { y = Conv(x, w) }", opset=opset, w=(2, 3, 1, 1))
    x = draw(2, 3, 4, 4)
    found = collect(built, [{"x": x}], Wanted(frozenset(["x"])))
    np.testing.assert_allclose(
        found.vector("x").squares, (x.astype(np.float64) ** 2).sum((0, 2, 3)), rtol=1e-5
    )


def test_progress_ends_at_its_total() -> None:
    built, feeds = cnn()
    seen: list[tuple[int, int]] = []
    collect(
        built,
        feeds,
        Wanted(frozenset(["r"])),
        run=Run(progress=lambda done, total, what: seen.append((done, total))),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_name_that_is_not_there() -> None:
    built, feeds = cnn()
    with pytest.raises(ArgumentError, match="no value 'rr'"):
        collect(built, feeds, Wanted(frozenset(["rr"])))
    with pytest.raises(ArgumentError, match="'w9'"):
        collect(built, feeds, Wanted(grams=frozenset(["w9"])))


@pytest.mark.parametrize(("level", "scale"), [(1e4, 1.0), (0.0, 1e-25), (1e30, 1e25), (-3e5, 1e-1)])
def test_second_moments_of_columns_far_from_zero_keep_their_digits(level: float, scale: float) -> None:
    """A sum of x x^T in single precision has seven digits; a mean of 10^4 deviations takes eight."""
    chance = np.random.default_rng(0)
    x = (level + scale * chance.standard_normal((600, 5)) @ chance.standard_normal((5, 5))).astype(np.float32)
    built = sketch("(float[n,5] x) => (float[n,4] y) { y = MatMul(x, w) }", w=(5, 4)).model
    batches = [{"x": x[start : start + 200]} for start in (0, 200, 400)]
    gram = collect(built, batches, Wanted(grams=frozenset({"w"}))).gram("w")
    wanted = np.cov(x.astype(np.float64).T, bias=True)
    np.testing.assert_allclose(gram.covariance[0], wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_maps_with_rows_to_spare_are_run_on_some_of_the_samples_and_classifiers_on_all() -> None:
    batches = [{"x": draw(16, 3, 20, 20, seed=n)} for n in range(24)]
    maps = (
        "(float[n,3,20,20] x) => (float[n,4,20,20] y) { h = Conv <pads=[1,1,1,1]> (x, a)\n y = Conv(h, b) }"
    )
    ends = "j = GlobalAveragePool(y)\n k = Flatten(j)\n z = MatMul(k, c) }"
    both = maps.replace("float[n,4,20,20] y", "float[n,2] z").replace(
        "y = Conv(h, b) }", f"y = Conv(h, b)\n {ends}"
    )
    weights = {"a": (8, 3, 3, 3), "b": (4, 8, 1, 1)}
    dense, classifier = sketch(maps, **weights).model, sketch(both, **weights, c=(4, 2)).model

    def needs(model: ir.Model) -> list[tuple[Site, int]]:
        return [(site, site.columns) for site in sites(model).values()]

    some = sufficient(dense, batches, needs(dense), 4)
    assert len(some) == LEAST_SAMPLES // 16 and some[0] is batches[0] and some[-1] is batches[-1]
    assert sufficient(classifier, batches, needs(classifier), 4) is batches
    grams, vectors = (
        collect(dense, batches, Wanted(**what)) for what in ({"grams": {"b"}}, {"vectors": {"h"}})
    )
    assert grams.gram("b").count == rows.FEW_ROWS
    assert vectors.vector("h").count == 24 * 16 * 400
