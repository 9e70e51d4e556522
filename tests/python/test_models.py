"""Whatever holds a model is one, for every function that takes models."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

import graphprune
from graphprune.errors import GraphpruneError, ModelError
from tests.pipeline.conftest import mlp

FORMS: dict[str, Callable[[Path], object]] = {
    "text": str,
    "path": Path,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "proto": lambda path: onnx.load(path),
    "onnx_ir": lambda path: ir.load(path),
    "result": lambda path: graphprune.compile(path, "canonicalize"),
    "copy": lambda path: graphprune.compile(path),
    "program of torch": lambda path: SimpleNamespace(model=ir.load(path)),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ir.save(mlp(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("form", FORMS)
def test_every_function_takes_every_form(form: str, path: Path) -> None:
    model = FORMS[form](path)
    assert {group.size for group in graphprune.find_groups(model) if not group.pin} == {8, 12, 16}
    assert graphprune.inspect(model).size.params == 6 * 8 + 8 * 12 + 12 * 16 + 16 * 4
    assert graphprune.explain(model, "w1:1")[0].width == 8
    small = graphprune.compile(model, "prune(ratio=0.5)")
    assert small.report.after.params < small.report.before.params / 2
    assert graphprune.cut(model, {"w1:1": [0]}).plans[0].cuts["w1:1"] == (1, 2, 3, 4, 5, 6, 7)
    assert graphprune.validate(model, path).ok
    assert graphprune.check(path, model, max_bytes=1).ok
    assert graphprune.bench(model).models[0].verdict == "baseline"
    chosen = graphprune.calibrate(model, {"x": [[0.0] * 6] * 5}, samples=2)
    assert chosen.arrays["x"].shape == (2, 6)


def test_a_graph_of_graphsurgeon_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("onnx_graphsurgeon")
    graph = type("Graph", (), {})
    monkeypatch.setattr(package, "Graph", graph, raising=False)
    monkeypatch.setattr(package, "export_onnx", lambda given: onnx.load(path), raising=False)
    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", package)
    assert graphprune.validate(graph(), path).ok


def test_bytes_give_the_same_file_as_the_file(path: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    graphprune.compile(path, "prune(ratio=0.5)", one)
    graphprune.compile(path.read_bytes(), "prune(ratio=0.5)", two)
    assert ir.to_proto(ir.load(one)).graph == ir.to_proto(ir.load(two)).graph


def test_what_was_given_stays_as_it_is(path: Path) -> None:
    result = graphprune.compile(path, "canonicalize")
    before = result.proto().SerializeToString(deterministic=True)
    graphprune.compile(result, "prune(ratio=0.5)")
    graphprune.cut(result, {"w1:1": [0]})
    assert result.proto().SerializeToString(deterministic=True) == before


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "number": (lambda path: 3, "model is int", "give a path, bytes"),
    "buffer": (lambda path: io.BytesIO(path.read_bytes()), "model is _io.BytesIO", "getvalue()"),
    "graph": (lambda path: onnx.load(path).graph, "GraphProto", "make_model"),
    "session": (lambda path: ort.InferenceSession(path), "InferenceSession", "the file that"),
    "no bytes": (lambda path: b"", "the given bytes are none", ""),
    "zip": (lambda path: b"PK\x03\x04" + bytes(60), "is a zip archive", ""),
    "noise": (lambda path: bytes(range(256)), "not an ONNX model", ""),
    "cut short": (lambda path: path.read_bytes()[:-40], "not an ONNX model", ""),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_model_is_named(form: str, path: Path) -> None:
    make, message, hint = REFUSED[form]
    with pytest.raises(ModelError) as caught:
        graphprune.compile(make(path), "prune")  # type: ignore[arg-type]
    assert message in caught.value.message or message in caught.value.hint
    assert hint in caught.value.hint


def test_a_module_of_torch_is_told_how_to_export(path: Path) -> None:
    module = type("Net", (type("Module", (), {"__module__": "torch.nn.modules.module"}),), {})
    with pytest.raises(ModelError) as caught:
        graphprune.validate(path, module())
    assert caught.value.message.startswith("candidate is ") and "torch.onnx.export" in caught.value.hint


def test_bytes_lead_to_no_file(path: Path, tmp_path: Path) -> None:
    """Weights beside a model have no place beside bytes."""
    onnx.save(onnx.load(path), tmp_path / "far.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(GraphpruneError, match="external"):
        graphprune.inspect((tmp_path / "far.onnx").read_bytes())
