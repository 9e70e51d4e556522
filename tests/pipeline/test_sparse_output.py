"""Sparse initializers: only on request, only where smaller, run before they are kept, and warned about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import OutputError
from graphprune.ir.load import load
from graphprune.ir.save import save
from graphprune.runtime.session import open_session
from tests.axes.claims import weight
from tests.proof.building import model

TEXT = "(float[n,64] x) => (float[n,64] y) { a = MatMul(x, first)\n b = Relu(a)\n y = MatMul(b, last) }"
PASS = "magnitude(ratio=0.9)"


def net(opset: int = 17) -> ir.Model:
    return model(TEXT, opset=opset, first=(64, 64), last=(64, 64))


def written(path: Path) -> tuple[set[str], set[str]]:
    proto = onnx.load(path)
    dense = {tensor.name for tensor in proto.graph.initializer}
    return dense, {tensor.values.name for tensor in proto.graph.sparse_initializer}


def test_off_by_default(tmp_path: Path) -> None:
    graphprune.compile(net(), PASS, tmp_path / "a.onnx")
    assert written(tmp_path / "a.onnx") == ({"first", "last"}, set())


def test_on_request_where_it_is_smaller(tmp_path: Path) -> None:
    result = graphprune.compile(net(), PASS, tmp_path / "a.onnx", sparse_initializers=True)
    graphprune.compile(net(), PASS, tmp_path / "dense.onnx")
    assert written(tmp_path / "a.onnx") == ({"last"}, {"first"})
    sizes = [(tmp_path / name).stat().st_size for name in ("a.onnx", "dense.onnx")]
    assert sizes[0] < 0.7 * sizes[1]
    assert "makes them dense" in "\n".join(result.report.warnings)
    batch = {"x": np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)}
    outputs = [open_session(tmp_path / name).run(batch)["y"] for name in ("a.onnx", "dense.onnx")]
    np.testing.assert_array_equal(*outputs)
    again = load(tmp_path / "a.onnx").model
    np.testing.assert_array_equal(weight(again, "first"), weight(result.model, "first"))


def test_beside_external_data(tmp_path: Path) -> None:
    dense = net()
    names = frozenset({"first"})
    for value in dense.graph.initializers.values():
        assert value.const_value is not None
        array = value.const_value.numpy() * (np.arange(64) % 8 == 0)
        value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
    seen: list[np.ndarray] = []
    batch = {"x": np.ones((1, 64), np.float32)}

    def verify(path: Path) -> None:
        seen.append(open_session(path).run(batch)["y"])

    files = save(dense, tmp_path / "a.onnx", None, external_threshold=0, sparse=names, verify=verify)
    assert [[*file.name.split(".")[:2], file.suffix] for file in files] == [
        ["a", "onnx", ".onnx"],
        ["a", "onnx", ".data"],
    ]
    np.testing.assert_array_equal(seen[0], open_session(dense).run(batch)["y"])
    assert set(tmp_path.iterdir()) == set(files)
    np.testing.assert_array_equal(weight(load(tmp_path / "a.onnx").model, "first"), weight(dense, "first"))


def test_nothing_is_smaller_at_half(tmp_path: Path) -> None:
    result = graphprune.compile(net(), "magnitude", tmp_path / "a.onnx", sparse_initializers=True)
    assert written(tmp_path / "a.onnx")[1] == set()
    assert "none written" in "\n".join(result.report.warnings)


def test_an_old_opset_has_none(tmp_path: Path) -> None:
    result = graphprune.compile(net(opset=10), PASS, tmp_path / "a.onnx", sparse_initializers=True)
    assert written(tmp_path / "a.onnx")[1] == set()
    assert "opset 11" in "\n".join(result.report.warnings)


def test_a_file_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphprune.ir import sparse

    real = sparse._coordinates

    def broken(stub: onnx.TensorProto, array: np.ndarray) -> onnx.SparseTensorProto:
        return real(stub, array * 2)

    monkeypatch.setattr(sparse, "_coordinates", broken)
    with pytest.raises(OutputError, match="computes something else"):
        graphprune.compile(net(), PASS, tmp_path / "a.onnx", sparse_initializers=True)
    assert not list(tmp_path.iterdir())
