from __future__ import annotations

import os

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import DataError
from graphprune.runtime.data import batches, load_inputs

PAIR = "(float[b,4] x, int64 sr) => (float[b,4] y) { y = Relu(x) }"
OPEN = "(float[b,4] x) => (float[b,4] y) { y = Relu(x) }"
FIXED = "(float[2,4] x) => (float[2,4] y) { y = Relu(x) }"


def rows(count: int) -> np.ndarray:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


def shapes(model, arrays, size=32):
    return [feed["x"].shape for feed in batches(arrays, model, size)]


def test_an_npz_feeds_inputs_by_name(build, tmp_path):
    np.savez(tmp_path / "s.npz", x=rows(5), sr=np.int64(8000))
    (item,) = load_inputs(tmp_path / "s.npz", build(PAIR))
    assert np.array_equal(item["x"], rows(5))
    feeds = list(batches(item, build(PAIR), size=2))
    assert [len(feed["x"]) for feed in feeds] == [2, 2, 1]
    assert all(feed["sr"] == 8000 for feed in feeds)
    assert np.array_equal(np.concatenate([feed["x"] for feed in feeds]), rows(5))


def test_an_npy_feeds_the_only_input(build, tmp_path):
    np.save(tmp_path / "s.npy", rows(3))
    assert np.array_equal(load_inputs(tmp_path / "s.npy", build(OPEN))[0]["x"], rows(3))
    with pytest.raises(DataError, match="one array for 2 inputs"):
        load_inputs(tmp_path / "s.npy", build(PAIR))


def test_a_folder_of_npz_is_one_item_each(build, tmp_path):
    for name, count in (("b", 2), ("a", 1)):
        np.savez(tmp_path / f"{name}.npz", x=rows(count))
    assert [len(item["x"]) for item in load_inputs(tmp_path, build(OPEN))] == [1, 2]


def test_a_folder_of_npy_is_one_item(build, tmp_path):
    np.save(tmp_path / "x.npy", rows(2))
    np.save(tmp_path / "sr.npy", np.array(8000))
    (item,) = load_inputs(tmp_path, build(PAIR))
    assert sorted(item) == ["sr", "x"]


def test_fixed_batches_take_what_they_need(build):
    assert shapes(build(FIXED), {"x": rows(5)}) == [(2, 4), (2, 4)]


def test_a_feed_that_fits_stays_whole(build):
    assert shapes(build(FIXED), {"x": rows(2)}) == [(2, 4)]


def test_stacked_feeds_are_taken_one_by_one(build):
    assert shapes(build(FIXED), {"x": rows(6).reshape(3, 2, 4)}) == [(2, 4)] * 3
    assert shapes(build(OPEN), {"x": rows(6).reshape(3, 2, 4)}) == [(2, 4)] * 3


def test_counts_must_agree(build):
    model = build("(float[2,4] x, float[2,4] z) => (float[2,4] y) { y = Add(x, z) }")
    with pytest.raises(DataError, match="'x' has 4, 'z' has 6"):
        list(batches({"x": rows(4), "z": rows(6)}, model))


@pytest.mark.parametrize(
    ("batch", "inner", "parts"),
    [("b", "b", [2, 2, 1]), ("", "", [2, 2, 1]), ("b", "", [2, 2, 1]), ("b", "c", [5, 5, 5])],
)
def test_a_state_splits_along_its_own_batch_axis(build, batch, inner, parts):
    model = build("(float[b,4] x, float[2,b,3] h) => (float[b,4] y) { y = Relu(x) }")
    images, states = model.graph.inputs
    images.shape = ir.Shape([batch or None, 4])  # exporters leave dimensions unnamed at times
    states.shape = ir.Shape([2, inner or None, 3])
    state = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
    feeds = list(batches({"x": rows(5), "h": state}, model, size=2))
    assert [feed["h"].shape[1] for feed in feeds] == parts
    if parts != [5, 5, 5]:
        assert np.array_equal(np.concatenate([feed["h"] for feed in feeds], axis=1), state)


def test_inputs_of_unrelated_lengths_are_one_feed(build):
    model = build("(float[b,4] x, float[p,4] z) => (float[b,4] y) { y = Relu(x) }")
    (feed,) = batches({"x": rows(2), "z": rows(7)}, model, size=1)
    assert (len(feed["x"]), len(feed["z"])) == (2, 7)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": rows(2)}, "no input 'X'"),
        ({}, "no array for the input 'x'"),
        ({"x": rows(2)[:, :3]}, r"shape \(2, 3\), the input is \(b, 4\)"),
        ({"x": rows(2)[0]}, r"shape \(4,\)"),
        ({"x": rows(0)}, "empty"),
        ({"x": rows(2).astype(np.uint8)}, "holds uint8, the input wants float32"),
        ({"x": rows(2).astype(np.complex64)}, "holds complex64"),
    ],
)
def test_arrays_that_do_not_fit(build, tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_inputs(tmp_path / "s.npz", build(OPEN))


def test_a_wrong_name_gets_a_suggestion(build, tmp_path):
    np.savez(tmp_path / "s.npz", pixel=rows(2))
    with pytest.raises(DataError) as caught:
        load_inputs(tmp_path / "s.npz", build(OPEN.replace("x", "pixels")))
    assert "pixels" in caught.value.hint


def test_types_convert_when_nothing_is_lost(build, tmp_path):
    model = build("(float[b,4] x, int64[b] n) => (float[b,4] y) { y = Relu(x) }")
    np.savez(tmp_path / "s.npz", x=rows(2).astype(np.float64), n=np.array([1, 2], np.int32))
    (item,) = load_inputs(tmp_path / "s.npz", model)
    assert (item["x"].dtype, item["n"].dtype) == (np.float32, np.int64)
    small = build("(float[b,4] x, int8[b] n) => (float[b,4] y) { y = Relu(x) }")
    np.savez(tmp_path / "s.npz", x=rows(2), n=np.array([1, 300]))
    with pytest.raises(DataError, match="int64"):
        load_inputs(tmp_path / "s.npz", small)


def test_what_is_no_sample_file(build, tmp_path):
    model = build(OPEN)
    (tmp_path / "a.npz").write_bytes(b"junk")
    (tmp_path / "a.npy").write_bytes(b"junk")
    (tmp_path / "a.txt").write_text("1 2 3")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    for name in ("a.npz", "a.npy", "a.txt", "empty", "pipe.npy", "objects.npz", "missing.npz", "missing"):
        with pytest.raises(DataError):
            load_inputs(tmp_path / name, model)
