from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import ArgumentError, ModelError
from graphprune.run import Run
from graphprune.runtime.inputs import default_inputs, runnable_inputs
from graphprune.runtime.session import RunTimeoutError

EMBED = "(int64[b,s] ids) => (float[b,s,8] y) { y = Gather(table, ids) }"
IMAGE = "(float[n,3,h,w] x) => (float[n,4,p,q] y) { y = Conv(x, k) }"


def echo(declaration: str, output: str = "y") -> str:
    name = declaration.split()[-1]
    return f"({declaration}) => ({declaration.replace(name, output)}) {{ {output} = Identity({name}) }}"


def test_floats_are_standard_normal_and_seeded(build):
    model = build("(float[b,4096] x) => (float[b,4096] y) { y = Relu(x) }")
    x = default_inputs(model)["x"]
    assert x.shape == (2, 4096)
    assert x.dtype == np.float32
    assert abs(x.mean()) < 0.05
    assert abs(x.std() - 1) < 0.05
    assert np.array_equal(x, default_inputs(model, seed=0)["x"])
    assert not np.array_equal(x, default_inputs(model, seed=1)["x"])


def test_open_dimensions_without_a_name_are_none_of_one_size(build):
    model = build("(float[b,3,p,q] x) => (float[b,3,p,q] y) { y = Relu(x) }")
    model.graph.inputs[0].shape = ir.Shape(["?", 3, "?", "?"])
    assert default_inputs(model, {"x": (1, 3, 48, 192)})["x"].shape == (1, 3, 48, 192)


def test_two_inputs_differ(build):
    feeds = default_inputs(build("(float[b,9] p, float[b,9] q) => (float[b,9] y) { y = Add(p, q) }"))
    assert not np.array_equal(feeds["p"], feeds["q"])


@pytest.mark.parametrize("rows", [2, 50])
def test_indices_stay_in_their_table(build, rows):
    ids = default_inputs(build(EMBED, table=(rows, 8)), batch=64)["ids"]
    assert ids.shape == (64, 16)
    assert (ids.min(), ids.max()) == (0, rows - 1)


def test_the_smallest_table_counts(build):
    body = """(int64[b,s] ids) => (float[b,s,8] y) {
        c = Cast<to = 6>(ids)
        p = Gather(big, c) q = Gather(small, ids) y = Add(p, q)
    }"""
    ids = default_inputs(build(body, big=(90, 8), small=(5, 8)), batch=64)["ids"]
    assert ids.max() == 4


def test_the_axis_of_a_lookup_counts(build):
    body = "(int64[b] ids) => (float[3,b] y) { y = Gather<axis = 1>(table, ids) }"
    assert default_inputs(build(body, table=(3, 40)), batch=512)["ids"].max() == 39


def test_indices_may_come_as_floats(build):
    body = "(float[b,s] ids) => (float[b,s,8] y) { i = Cast<to = 7>(ids) y = Gather(table, i) }"
    ids = default_inputs(build(body, table=(6, 8)), batch=64)["ids"]
    assert ids.dtype == np.float32
    assert set(np.unique(ids)) == set(range(6))


def test_a_lookup_inside_a_branch_counts(build):
    body = """(int64[b] ids, bool c) => (float[b,8] y) {
        y = If (c) <
            then_branch = t () => (float[b,8] p) { p = Gather(table, ids) },
            else_branch = e () => (float[b,8] q) { q = Gather(table, ids) }>
    }"""
    model = build(body, table=(4, 8))
    assert default_inputs(model, batch=100)["ids"].max() == 3
    assert default_inputs(model)["c"].all()


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        ("int64[2,4] attention_mask", np.ones((2, 4))),
        ("float[2,4] mask", np.ones((2, 4))),
        ("bool[2] flag", np.ones(2, bool)),
        ("int64[2,4] position_ids", np.arange(4) * np.ones((2, 1))),
        ("int64 sr", np.array(16000)),
        ("int64[1] sample_rate", np.array([16000])),
        ("int64 count", np.array(1)),
    ],
)
def test_integers_that_are_no_index(build, declaration, expected):
    value = default_inputs(build(echo(declaration)))[declaration.split()[-1]]
    assert np.array_equal(value, expected)


def test_bytes_cover_their_range(build):
    x = default_inputs(build(echo("uint8[1,64,64] x")))["x"]
    assert x.dtype == np.uint8
    assert (x.min(), x.max()) == (0, 255)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "double", "string"])
def test_element_types(build, kind):
    model = build(echo(f"{kind}[2,3] x"))
    assert default_inputs(model)["x"].shape == (2, 3)
    assert runnable_inputs(model)["x"].shape == (2, 3)


def test_a_symbol_has_one_size(build):
    body = "(float[b,s,8] x, float[b,s,8] y, float[s,b] z) => (float[b,s,8] o) { o = Add(x, y) }"
    assert [v.shape for v in default_inputs(build(body)).values()] == [(2, 16, 8), (2, 16, 8), (16, 2)]


def test_a_given_shape_binds_its_symbols(build):
    body = "(float[b,s] x, float[b,s] y) => (float[b,s] o) { o = Add(x, y) }"
    feeds = default_inputs(build(body), shapes={"x": (3, 7)})
    assert feeds["y"].shape == (3, 7)


def test_expressions_of_symbols_are_computed(build):
    model = build("(float[b,past] x, float[b,m] mask) => (float[b,past] y) { y = Relu(x) }")
    model.graph.inputs[1].shape = ir.Shape(["b", "past + 1"])
    assert default_inputs(model)["mask"].shape == (2, 17)


@pytest.mark.parametrize(("tokens", "total"), [("1", 17), ("sequence", 32)])
def test_the_total_length_of_a_decoder_is_past_plus_new(build, tokens, total):
    model = build(
        f"(int64[batch,{tokens}] ids, int64[batch,total_sequence] attention_mask, float[batch,4,past,8] k)"
        " => (float[batch,4,past,8] y) { y = Relu(k) }"
    )
    feeds = default_inputs(model)
    assert feeds["attention_mask"].shape == (2, total)
    assert feeds["k"].shape == (2, 4, 16, 8)


def test_images_grow_until_they_fit(build):
    assert runnable_inputs(build(IMAGE, k=(4, 3, 3, 3)))["x"].shape == (2, 3, 32, 32)
    assert runnable_inputs(build(IMAGE, k=(4, 3, 150, 3)))["x"].shape == (2, 3, 160, 160)


def test_a_fixed_inner_length_is_found(build):
    body = "(float[b,s] x) => (float[b,4] y) { y = MatMul(x, w) }"
    assert runnable_inputs(build(body, w=(256, 4)))["x"].shape == (2, 256)


def test_an_inner_batch_axis_is_found(build):
    body = """(float[b,4] x, float[2,m,4] state) => (float[2,b,4] y) {
        z = Add(state, x) s = Shape(x) w = Concat<axis = 0>(two, s) y = Reshape(state, w)
    }"""
    feeds = runnable_inputs(build(body, two=np.array([2])))
    assert feeds["state"].shape == (2, 2, 4)


def test_a_rate_the_model_knows_is_found(build):
    body = """(int64 sr, float[b] x) => (float[a] y) {
        known = Constant<value = int64 {8000}>()
        gap = Sub(sr, known) one = Constant<value = int64 {1}>() size = Add(gap, one)
        axis = Constant<value = int64[1] {0}>() shape = Unsqueeze(size, axis) y = Reshape(x, shape)
    }"""
    assert runnable_inputs(build(body), batch=1)["sr"] == 8000


def test_nothing_runs(build):
    body = "(float[b,s] x) => (float[b,4] y) { y = MatMul(x, w) }"
    with pytest.raises(ModelError, match="no synthetic input runs") as caught:
        runnable_inputs(build(body, w=(77, 4)))
    assert "--shape" in caught.value.hint
    assert "--inputs" in caught.value.hint
    assert runnable_inputs(build(body, w=(77, 4)), shapes={"x": (3, 77)})["x"].shape == (3, 77)


def test_huge_inputs_are_refused(build):
    with pytest.raises(ModelError, match="elements") as caught:
        default_inputs(build(echo("float[1,3,2147483648,2147483648] x")))
    assert "--shape" in caught.value.hint


def test_a_run_without_end_is_not_retried(endless):
    with pytest.raises(RunTimeoutError):
        runnable_inputs(endless, run=Run(timeout=0.3))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"X": (1, 4)}, "no input named 'X'"),
        ({"x": (1, 4, 4)}, "3 sizes"),
        ({"x": (1, 5)}, "does not fit"),
        ({"x": (0, 4)}, "start at 1"),
        ({"x": (1, 4), "z": (2, 4)}, "two sizes"),
    ],
)
def test_shapes_that_do_not_fit(build, shapes, message):
    model = build("(float[b,4] x, float[b,4] z) => (float[b,4] y) { y = Add(x, z) }")
    with pytest.raises(ArgumentError, match=message):
        default_inputs(model, shapes)


def test_overridable_initializers_are_not_fed(build):
    model = build("(float[b,4] x) => (float[b,4] y) { y = Mul(x, w) }", w=(4,))
    model.graph.inputs.append(model.graph.initializers["w"])
    assert list(runnable_inputs(model)) == ["x"]


def test_an_input_without_rank_asks_for_a_shape(build):
    model = build("(float[b,4] x) => (float[b,4] y) { y = Relu(x) }")
    model.graph.inputs[0].shape = None
    with pytest.raises(ModelError) as caught:
        default_inputs(model)
    assert "--shape" in caught.value.hint
    assert default_inputs(model, {"x": (5, 4)})["x"].shape == (5, 4)
