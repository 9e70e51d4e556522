from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphprune.errors import ArgumentError, DataError, ModelError
from graphprune.ir.load import load
from graphprune.ir.serialise import weightless
from graphprune.runtime import session
from graphprune.runtime.session import RunTimeoutError, one_line, open_session

BIG = (64, 64)  # 16 KiB as float32: above what stays inline
LINEAR = "(float[b,64] x) => (float[b,64] y) { h = MatMul(x, w) y = Relu(h) }"
BRANCHES = """(float[b,64] x, bool c) => (float[b,64] y) {
    y = If (c) <
        then_branch = t () => (float[b,64] p) { p = MatMul(x, w) },
        else_branch = e () => (float[b,64] q) { q = Relu(x) }>
}"""


def rows(count: int = 3, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)


def weight(model: ir.Model, name: str = "w") -> np.ndarray:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def with_weight_in_branch(model: ir.Model, branch: str, array: np.ndarray) -> None:
    """Move the main graph's `w` into a branch of the If."""
    value = model.graph.initializers.pop("w", None)
    graph = next(node for node in model.graph if node.op_type == "If").attributes[branch].as_graph()
    inner = ir.Value(name="w", const_value=ir.tensor(array, name="w"))
    for node in graph:
        for index, operand in enumerate(node.inputs):
            if operand is value or (operand is not None and operand.name == "w"):
                node.replace_input_with(index, inner)
    graph.register_initializer(inner)


def saved_outputs(model: ir.Model, path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime itself makes of the saved file."""
    ir.save(model, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return list(ort.InferenceSession(str(path), options).run(None, feeds))


def test_a_model_in_memory_runs_like_its_file(build, tmp_path):
    model = build(LINEAR, w=BIG)
    feeds = {"x": rows()}
    expected = saved_outputs(model, tmp_path / "m.onnx", feeds)[0]
    assert np.array_equal(open_session(model).run(feeds)["y"], expected)
    assert np.array_equal(open_session(tmp_path / "m.onnx").run(feeds)["y"], expected)


def test_big_weights_are_left_out_and_not_copied(build):
    model = build(LINEAR, w=BIG)
    content = weightless(model)
    assert len(content.proto) < 500
    assert np.shares_memory(content.weights["w"].array, weight(model))


def test_small_weights_stay_in_the_file(build):
    assert not weightless(build("(float[b,4] x) => (float[b,4] y) { y = MatMul(x, w) }", w=(4, 4))).weights


def test_a_strided_weight_is_made_dense(build):
    array = np.asfortranarray(np.random.default_rng(1).standard_normal(BIG).astype(np.float32))
    model = build(LINEAR, w=array.T[::-1].T)
    expected = np.maximum(rows() @ array[:, ::-1], 0)
    np.testing.assert_allclose(open_session(model).run({"x": rows()})["y"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize("operation", ["MatMul(x, w)", "Add(x, w)", "Transpose(w)", "Gather<axis = 1>(w, i)"])
def test_weights_are_free_once_loaded(build, operation, optimise):
    """ONNX Runtime promises so for AddExternalInitializers; in place use would need us to keep them alive."""
    array = rows(64)
    body = f"(float[64,64] x) => (float[64,64] y) {{ h = {operation} y = Add(h, x) }}"
    indices = {"i": np.arange(64)} if "Gather" in operation else {}
    session = open_session(build(body, w=array, **indices), optimise=optimise)
    expected = session.run({"x": rows(64)})["y"]
    array[...] = 0
    assert np.array_equal(session.run({"x": rows(64)})["y"], expected)


def test_external_weights_are_read_where_they_lie(build, tmp_path):
    model = build(LINEAR, w=BIG)
    expected = open_session(model).run({"x": rows()})["y"]
    ir.save(model, tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    before = sorted(tmp_path.iterdir())
    loaded = ir.load(tmp_path / "m.onnx")
    assert np.array_equal(open_session(loaded).run({"x": rows()})["y"], expected)
    assert sorted(tmp_path.iterdir()) == before


WIDE = (512, 600)  # 1.2 MB


def loaded_wide(build, folder: Path):
    ir.save(build("(float[b,512] x) => (float[b,600] y) { y = MatMul(x, w) }", w=WIDE), folder / "m.onnx")
    return load(folder / "m.onnx").model


def test_a_large_weight_is_mapped_from_the_file_that_it_was_loaded_from(build, tmp_path):
    """Neither we nor ONNX Runtime copy it, however many sessions are opened."""
    model = loaded_wide(build, tmp_path)
    content = weightless(model, in_files=True)
    assert not content.weights and content.folder == tmp_path.resolve() and len(content.proto) < 500
    feeds = {"x": np.ones((2, 512), np.float32)}
    expected = feeds["x"] @ weight(model)
    np.testing.assert_allclose(open_session(model).run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)


def test_weights_beside_the_model_are_mapped_from_their_file(build, tmp_path):
    model = build("(float[b,512] x) => (float[b,600] y) { y = MatMul(x, w) }", w=WIDE)
    ir.save(model, tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    own = load(tmp_path / "m.onnx").model
    content = weightless(own, in_files=True)
    assert not content.weights and content.folder == tmp_path.resolve()
    (tmp_path / "m.data").rename(tmp_path / "other.data")
    (tmp_path / "m.data").write_bytes(bytes((tmp_path / "other.data").stat().st_size))
    assert not weightless(own, in_files=True).folder


def two_weights(build, folder: Path):
    """One large weight in a file, the other in memory."""
    model = build(
        "(float[b,512] x) => (float[b,512] y) { h = MatMul(x, v) y = MatMul(h, w) }",
        v=np.eye(512, dtype=np.float32),
        w=(512, 512),
    )
    ir.save(model, folder / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    own = load(folder / "m.onnx").model
    own.graph.initializers["w"].const_value = ir.tensor(weight(model).copy(), name="w")
    return own, weight(model)


@pytest.mark.parametrize("room", [True, False])
def test_large_weights_in_memory_are_mapped_from_a_file_that_is_gone_then(build, tmp_path, monkeypatch, room):
    """In another folder than the other weights. Without room for it they go by pointer."""
    model, w = two_weights(build, tmp_path)
    temporary, given = tmp_path / "temporary", []
    if room:
        temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(session, "LARGE", 2**19)
    written = session.weightless
    monkeypatch.setattr(session, "weightless", lambda *a, **k: given.append(written(*a, **k)) or given[-1])
    opened = open_session(model, rearrange=False)
    assert list(given[0].weights) == ([] if room else ["w"]) and len(given) == 1
    assert not room or not list(temporary.iterdir())
    x = rows(2, 512)
    np.testing.assert_allclose(opened.run({"x": x})["y"], x @ w, rtol=1e-3, atol=1e-3)


def test_a_session_that_rearranges_weights_writes_none(build, tmp_path, monkeypatch):
    model, _ = two_weights(build, tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.setattr(session, "LARGE", 2**19)
    monkeypatch.setattr(session, "spill", None)
    assert open_session(model).run({"x": rows(2, 512)})["y"].shape == (2, 512)


@pytest.mark.parametrize("how", ["replaced", "changed", "gone"])
def test_a_file_that_is_another_by_now_is_not_read_again(build, tmp_path, how):
    """What was mapped at first is what runs."""
    model = loaded_wide(build, tmp_path)
    path, feeds = tmp_path / "m.onnx", {"x": np.ones((2, 512), np.float32)}
    expected = open_session(model).run(feeds)["y"]
    if how != "changed":
        path.rename(tmp_path / "old.onnx")
    if how == "replaced":
        path.write_bytes(bytes(path.with_name("old.onnx").stat().st_size))
    if how == "changed":
        os.utime(path, (1, 1))
    content = weightless(model, in_files=True)
    assert content.folder is None and list(content.weights) == ["w"]
    assert np.array_equal(open_session(model).run(feeds)["y"], expected)


def test_a_runtime_that_cannot_map_weights_of_a_model_in_memory_gets_them_by_pointer(
    build, tmp_path, monkeypatch
):
    model, tried = loaded_wide(build, tmp_path), []
    create = session._create

    def refuse(*arguments):
        tried.append(len(tried))
        if len(tried) == 1:
            raise ModelError("model_path must not be empty")
        return create(*arguments)

    monkeypatch.setattr(session, "_create", refuse)
    feeds = {"x": np.ones((2, 512), np.float32)}
    np.testing.assert_allclose(
        open_session(model).run(feeds)["y"], feeds["x"] @ weight(model), rtol=1e-4, atol=1e-4
    )
    assert tried == [0, 1]


@pytest.mark.parametrize("rearrange", [True, False])
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_only_large_floats_stay_as_they_lie(build, monkeypatch, rearrange, kind):
    """Kernels of bytes may insist on their own order, and small weights cost nothing."""
    given = []
    monkeypatch.setattr(session, "LARGE", 4 * 512 * 512)
    monkeypatch.setattr(session, "_create", lambda source, options, *others: given.append(options))
    dtype = np.dtype(kind)
    operation = "MatMul(x, w)" if kind == "float32" else "MatMulInteger(x, w)"
    kinds = ("float", "float") if kind == "float32" else ("uint8", "int32")
    for rows in (256, 2560):
        model = build(
            f"({kinds[0]}[b,{rows}] x) => ({kinds[1]}[b,1024] y) {{ y = {operation} }}",
            w=np.ones((rows, 1024), dtype),
        )
        open_session(model, rearrange=rearrange)
    switched = []
    for options in given:
        try:
            switched.append(options.get_session_config_entry("session.disable_prepacking") == "1")
        except RuntimeError:
            switched.append(False)
    assert switched == [False, not rearrange and kind == "float32"]


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_weights_in_branches(build, tmp_path, external, twice):
    array = rows(64)
    model = build(BRANCHES, w=BIG)
    with_weight_in_branch(model, "then_branch", array)
    if twice:  # the name is then not unique, and the weight has to stay in its branch
        other = next(iter(model.graph)).attributes["else_branch"].as_graph()
        other.register_initializer(ir.Value(name="w", const_value=ir.tensor(array, name="w")))
    if external:
        ir.save(model, tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=0)
        model = ir.load(tmp_path / "m.onnx")
    content = weightless(model)
    assert bool(content.weights) is not twice
    session = open_session(model)
    feeds = {"x": rows(), "c": np.array(True)}
    np.testing.assert_allclose(session.run(feeds)["y"], rows() @ array, rtol=1e-4, atol=1e-4)
    assert np.array_equal(session.run({**feeds, "c": np.array(False)})["y"], np.maximum(rows(), 0))


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT16", "INT8", "BOOL", "INT4", "UINT4"])
def test_every_element_type_arrives(build, kind):
    dtype = ir.DataType[kind]
    values = (np.arange(128 * 128).reshape(128, 128) % 5).astype(dtype.numpy())
    packed = kind in ("INT4", "UINT4")
    operation = "DequantizeLinear(w, one)" if packed else "Cast<to = 1>(w)"
    scale = {"one": np.float32(1)} if packed else {}
    model = build(
        f"(float[1] x) => (float[128,128] y) {{ f = {operation} y = Add(f, x) }}", w=values, **scale
    )
    assert bool(weightless(model).weights) is not packed
    result = open_session(model).run({"x": np.zeros(1, np.float32)})["y"]
    assert np.array_equal(result, values.astype(np.float32))


def test_bfloat16_inputs_and_outputs(build):
    model = build("(bfloat16[b,4] x) => (bfloat16[b,4] y) { y = Identity(x) }")
    feed = rows(2, 4).astype(ir.DataType.BFLOAT16.numpy())
    result = open_session(model).run({"x": feed})["y"]
    assert result.dtype == feed.dtype
    assert np.array_equal(result, feed)
    open_session(model).call({"x": feed})


def test_functions_are_kept():
    model = ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["" : 21, "own" : 1]>
        g (float[4] x) => (float[4] y) { y = own.twice<times = 3.0>(x) }
        <domain: "own", opset_import: ["" : 21]>
        twice<times>(a) => (b) { f = Constant<value_float: float = @times>() b = Mul(a, f) }
    """)
    assert np.array_equal(open_session(model).run({"x": np.ones(4, np.float32)})["y"], np.full(4, 3))


def test_the_model_is_not_touched(build, tmp_path):
    model = build(BRANCHES, w=BIG)
    with_weight_in_branch(model, "then_branch", rows(64))
    tensor = next(iter(model.graph)).attributes["then_branch"].as_graph().initializers["w"].const_value
    tensor.name = "another"
    before = ir.to_proto(model.clone()).SerializeToString()
    tensor.name = "another"
    open_session(model, extra_outputs=["y"]).run({"x": rows(), "c": np.array(True)})
    assert tensor.name == "another"
    assert ir.to_proto(model).SerializeToString() == before


def test_inner_values_can_be_returned(build):
    model = build(LINEAR, w=BIG)
    result = open_session(model, extra_outputs=["h", "y", "h"]).run({"x": rows()})
    assert list(result) == ["y", "h"]
    assert np.array_equal(np.maximum(result["h"], 0), result["y"])


def test_inner_values_of_a_file_can_be_returned(build, tmp_path):
    ir.save(build(LINEAR, w=BIG), tmp_path / "m.onnx")
    assert "h" in open_session(tmp_path / "m.onnx", extra_outputs=["h"]).run({"x": rows()})


def test_an_unknown_inner_value_gets_a_suggestion(build):
    model = build("(float[4] x) => (float[4] y) { hidden = Relu(x) y = Relu(hidden) }")
    with pytest.raises(ArgumentError) as caught:
        open_session(model, extra_outputs=["hiden"])
    assert "hidden" in caught.value.hint


def test_an_unknown_operator_is_named(build):
    with pytest.raises(ModelError, match=r"'Frobnicate' of domain 'com\.example'"):
        open_session(build("(float[4] x) => (float[4] y) { y = com.example.Frobnicate(x) }"))


def test_a_failing_run_is_one_clean_line(build, capfd):
    model = build("(float[n] x) => (float[a,b] y) { y = Reshape(x, s) }", s=np.array([7, 3]))
    with pytest.raises(ModelError) as caught:
        open_session(model).run({"x": np.ones(5, np.float32)})
    assert "\n" not in caught.value.message
    assert ".cc" not in caught.value.message
    assert "Reshape" in caught.value.message
    assert capfd.readouterr().err == ""


def test_an_operator_that_nobody_runs_says_what_to_do(tmp_path):
    head = '<ir_version: 10, opset_import: ["" : 21, "org.none": 1]>'
    text = f"{head} g (float[2] x) => (float[2] y) {{ y = org.none.Op(x) }}"
    ir.save(ir.from_onnx_text(text), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"knows no operator 'Op' of domain 'org\.none'") as caught:
        open_session(tmp_path / "model.onnx")
    assert "docs/plugins.md" in caught.value.hint


def test_a_broken_file_is_a_model_error(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError):
        open_session(path)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : graph.cc:4342 Replace Dimensions do not match.",
            "Dimensions do not match.",
        ),
        (
            "/a/b/arena.cc:9 void* ns::Arena::Get(size_t, bool (*)(int)) Out of\nmemory \x1b[31m",
            "Out of memory [31m",
        ),
        ("[ONNXRuntimeError] : 1 : FAIL : Load model from /x/m.onnx failed:Bad.", "Bad."),
        ("x" * 100_000, "x" * 397 + "..."),
    ],
)
def test_messages_are_cleaned(raw, clean):
    start = time.monotonic()
    assert one_line(RuntimeError(raw)) == clean
    assert time.monotonic() - start < 5


def test_feeds_are_checked(build):
    session = open_session(build(LINEAR, w=BIG))
    with pytest.raises(DataError, match="no value for the input 'x'"):
        session.run({})
    with pytest.raises(DataError, match="no input named 'X'"):
        session.run({"X": rows()})


def test_an_endless_loop_is_stopped(endless):
    start = time.monotonic()
    with pytest.raises(RunTimeoutError):
        open_session(endless).run({"x": np.ones(4, np.float32)}, timeout_s=0.3)
    assert time.monotonic() - start < 30


def test_a_timeout_does_not_stick(build):
    session = open_session(build(LINEAR, w=BIG))
    for _ in range(3):
        assert session.run({"x": rows()}, timeout_s=60)["y"].shape == (3, 64)


def test_sequence_outputs_become_arrays(build):
    body = "(float[4,2] x) => (seq(float[2,2]) parts) { parts = SplitToSequence<axis = 0>(x, two) }"
    model = build(body, two=np.int64(2))
    result = open_session(model).run({"x": rows(4, 2)})
    assert [array.shape for array in result.values()] == [(2, 2), (2, 2)]


def test_a_missing_weight_file_is_a_model_error(build, tmp_path):
    ir.save(build(LINEAR, w=BIG), tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    model = ir.load(tmp_path / "m.onnx")
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match="'w'"):
        open_session(model)
