"""Latency is of one sample, at the very sizes that multiply-adds are counted at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.pipeline.alike import fitting
from graphprune.pipeline.benchmark import bench
from graphprune.pipeline.kit import write_kit
from graphprune.pipeline.onesample import one_sample
from graphprune.pipeline.profiling import profile_machine
from graphprune.pipeline.settings import Packing, Profiling, Running, Timing
from graphprune.runtime import latency
from graphprune.runtime.device import DeviceProfile
from graphprune.runtime.pieces import pieces
from tests.axes.claims import model

Feeds = list[Mapping[str, np.ndarray]]
WIDE = "(float[n,3,h,w] x) => (float[n,4,p,q] y) { a = Conv(x, w1)\n b = Relu(a)\n y = Conv(b, w2) }"
THIRDS = """(float[n,3,h,w] x) => (float[n,4,p,q] y) {
    a = Conv(x, w1)\n b = Relu(a)\n c = AveragePool<kernel_shape=[3,3], strides=[3,3]>(b)
    d = Resize<mode="nearest">(c, none, scales)\n e = Add(b, d)\n y = Conv(e, w2) }"""
DECODER = """(int64[b,s] ids, float[b,p,8] past, float[b,t] mask) => (float[b,s,8] y, float[b,t,8] present) {
    e = Gather(table, ids)\n present = Concat<axis=1>(past, e)\n k = Transpose<perm=[0,2,1]>(present)
    l = MatMul(e, k)\n m = Unsqueeze(mask, one)\n n = Add(l, m)\n a = Softmax(n)\n y = MatMul(a, present) }"""
PICTURES = np.random.default_rng(0).standard_normal((5, 3, 10, 12)).astype(np.float32)


def wide() -> ir.Model:
    return model(WIDE, w1=(8, 3, 1, 1), w2=(4, 8, 1, 1))


def thirds() -> ir.Model:
    """Runs on pictures of multiples of three alone, which 224 and 32 are not."""
    scales = np.array([1, 1, 3, 3], np.float32)
    return model(THIRDS, w1=(8, 3, 1, 1), w2=(4, 8, 1, 1), none=np.zeros(0, np.float32), scales=scales)


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> Feeds:
    """What models are timed on, as it comes."""
    told, real = list[Mapping[str, np.ndarray]](), latency.measure

    def measured(subjects: list[latency.Subject], **_: object) -> latency.Latency:
        told.extend(subject.feeds for subject in subjects)
        return real(subjects, rounds=1, min_seconds=0, max_seconds=0, sample_seconds=0)

    monkeypatch.setattr(latency, "measure", measured)
    return told


def test_a_compile_times_what_it_counts(feeds: Feeds) -> None:
    report = graphprune.compile(wide(), "prune(ratio=0.5)", bench=True).report
    assert {feed["x"].shape for feed in feeds} == {(1, 3, 224, 224)}
    assert report.before.assumed == {"n": 1, "h": 224, "w": 224}
    assert report.before.macs == 224 * 224 * (3 * 8 + 8 * 4)
    assert report.generated["n"] > 1  # proofs still see more than one sample


def test_where_the_assumed_sizes_do_not_run_it_counts_at_those_that_do(feeds: Feeds) -> None:
    report = graphprune.compile(thirds(), "prune(macs=0.5)", bench=True).report
    assert {feed["x"].shape for feed in feeds} == {(1, 3, 96, 96)}
    assert report.before.assumed == {"n": 1, "h": 96, "w": 96}
    assert (report.before.macs, report.after.macs) == (96 * 96 * (3 * 8 + 8 * 4), 96 * 96 * (3 * 4 + 4 * 4))


@pytest.mark.parametrize("given", ["inputs", "calibration"])
def test_values_are_those_of_a_sample(given: str, feeds: Feeds) -> None:
    report = graphprune.compile(wide(), "prune(ratio=0.5)", bench=True, **{given: {"x": PICTURES}}).report
    size = (10, 12) if given == "inputs" else (224, 224)
    assert report.before.macs == size[0] * size[1] * (3 * 8 + 8 * 4)
    for feed in feeds:
        assert feed["x"].shape == (1, 3, *size)
        assert any(np.array_equal(feed["x"][0, :, :10, :12], picture) for picture in PICTURES)


def test_a_shape_that_is_given_wins_over_samples(feeds: Feeds) -> None:
    options = {"inputs": {"x": PICTURES}, "shape": {"x": (7, 3, 12, 6)}}
    report = graphprune.compile(wide(), "prune(ratio=0.5)", bench=True, **options).report  # type: ignore[arg-type]
    assert report.before.macs == 7 * 12 * 6 * (3 * 8 + 8 * 4)
    rows, columns = np.arange(7) % 5, np.arange(12) % 10
    for feed in feeds:
        np.testing.assert_array_equal(feed["x"], PICTURES[rows][:, :, columns, :6])


def test_a_size_that_is_given_holds_for_inputs_that_share_it(feeds: Feeds) -> None:
    text = "(float[n,s] x, float[n,s] mask) => (float[n,s] y) { y = Mul(x, mask) }"
    array = np.ones((5, 12), np.float32)
    bench([model(text)], ["a"], {"x": array, "mask": array}, Timing(shape={"x": (1, 8)}), loading=False)
    assert {name: array.shape for name, array in feeds[0].items()} == {"x": (1, 8), "mask": (1, 8)}


def test_a_batch_that_the_model_fixes_stays(feeds: Feeds) -> None:
    fixed = wide()
    fixed.graph.inputs[0].shape = ir.Shape((2, 3, "h", "w"))
    report = graphprune.compile(fixed, "prune(ratio=0.5)", bench=True).report
    assert {feed["x"].shape for feed in feeds} == {(2, 3, 224, 224)}
    assert report.before.macs == 2 * 224 * 224 * (3 * 8 + 8 * 4)


def test_a_bench_counts_what_it_times(feeds: Feeds) -> None:
    narrow = wide()
    narrow.graph.inputs[0].shape = ir.Shape((1, 3, 20, "w"))
    found = bench([wide(), narrow], ["a", "b"], None, Timing(), loading=False)
    assert [feed["x"].shape for feed in feeds] == [(1, 3, 20, 224)] * 2
    assert [each.size.macs for each in found.models] == [20 * 224 * (3 * 8 + 8 * 4)] * 2
    assert found.generated == {"n": 1, "h": 20, "w": 224}
    feeds.clear()
    found = bench([thirds()], ["a"], None, Timing(), loading=False)
    assert found.models[0].size.macs == 96 * 96 * (3 * 8 + 8 * 4)
    feeds.clear()
    bench([wide()], ["a"], {"x": PICTURES}, Timing(), loading=False)
    np.testing.assert_array_equal(feeds[0]["x"], PICTURES[:1])


def test_profiles_and_kits_are_of_what_a_compile_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphprune.runtime.alone.SAMPLES", 1)
    monkeypatch.setattr("graphprune.runtime.alone.SAMPLE_SECONDS", 1e-5)
    profile_machine([wide()], tmp_path / "device.json", Profiling())
    known = DeviceProfile.load(tmp_path / "device.json")
    one = {"x": np.ones((1, 3, 224, 224), np.float32)}
    assert {piece.kind for piece in pieces(wide(), one)} <= known.costs.keys()
    write_kit([wide()], tmp_path / "kit", Packing(cuts=1))
    with np.load(tmp_path / "kit" / "inputs" / "00.npz") as batch:
        assert batch["x"].shape == (1, 3, 224, 224)


def test_sizes_that_follow_from_others_do() -> None:
    decoder = model(DECODER, table=(9, 8), one=np.array([1]))
    found = one_sample(decoder, Running())
    assert {name: array.shape for name, array in found.items()} == {
        "ids": (1, 16),
        "past": (1, 16, 8),
        "mask": (1, 32),
    }
    told = one_sample(decoder, Running(shape={"ids": (3, 1), "past": (3, 5, 8)}))
    assert told["mask"].shape == (3, 6)


def test_inputs_of_a_narrower_model_are_cut_and_missing_ones_made() -> None:
    feed = {"x": np.ones((1, 5), np.float32), "past": np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3)}
    narrow = model(
        "(float[n,s] x, float[n,2,p,3] past, float[n,s] more) => (float[n,s] y, float[n,2,p,3] z)"
        " { y = Add(x, more)\n z = Relu(past) }"
    )
    found = fitting(feed, narrow, Running())
    np.testing.assert_array_equal(found["past"], feed["past"][:, :2])
    assert found["x"].shape == found["more"].shape == (1, 5)


def test_what_would_take_gigabytes_at_the_assumed_sizes_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphprune.pipeline.onesample.ELEMENT_CAP", 1 << 16)
    assert one_sample(wide(), Running())["x"].shape == (1, 3, 32, 32)
