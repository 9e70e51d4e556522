"""The comparison of two commits tells what differs first, and what is meant to; nothing else passes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphprune.errors import ArgumentError
from graphprune.pipeline import registry
from tools.same import work
from tools.same.__main__ import Difference, Lab, read_excuses, verdict
from tools.same.difference import difference
from tools.same.graphs import BLIND, PIPELINES, Graph, graphs
from tools.same.sides import ROOT, Side

ONE, TWO = (Side(name, name, ROOT) for name in ("one", "two"))


def model(axis: int = 1, element: float = 1.0, width: int = 3, name: str = "y") -> bytes:
    weight = np.zeros((2, width), np.float32)
    weight[1, 2] = element
    node = helper.make_node("Concat", ["x", "w"], [name], name="join", axis=axis)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", name))
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph).SerializeToString()


def tensors(value: float) -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(head)) + head + struct.pack("<f", value)


@pytest.mark.parametrize(
    ("kind", "one", "two", "said"),
    [
        ("out.onnx", model(), model(axis=0), "node 0 'join': attribute axis"),
        ("out.onnx", model(), model(name="z"), "node 0 'join': outputs ['y'] -> ['z']"),
        ("out.onnx", model(), model(element=1.5), "1 of 6 elements, the first at 5, by at most 0.5"),
        ("out.onnx", model(), model(width=4), "initializer 0 'w': w [2, 3] -> w [2, 4]"),
        ("out.plan.json", b'{"a": [1, {"b": 2}]}', b'{"a": [1, {"b": 3}]}', "a[1].b: 2 -> 3"),
        ("report", b'{"a": 1}', b'{"a": 1, "b": 2}', "b is only in the second"),
        ("out.plan.json", b'{"a": 1}', b'{"a":  1}', "bytes differ from 6 on"),
        ("out.plan.safetensors", tensors(1), tensors(2), "tensor 'w': bytes differ"),
        ("error", b"ModelError: a", b"KeyError: b", "ModelError: a -> KeyError: b"),
        ("error", None, b"KeyError: b", "only the second has it"),
    ],
)
def test_the_first_difference_is_told(kind: str, one: bytes | None, two: bytes | None, said: str) -> None:
    assert said in difference(kind, one, two)
    assert difference(kind, one, one) == ""


def test_every_pass_has_a_pipeline() -> None:
    """All but `cut`, whose argument names the Groups of one model."""
    assert set(PIPELINES) == set(registry.names()) - {"cut"}
    assert set(PIPELINES) >= BLIND
    for name, text in PIPELINES.items():
        (found,) = registry.read(text)
        assert found.name == name


def test_times_of_a_report_do_not_count() -> None:
    report = {"timings": {"score": 1.0}, "passes": [{"latency": 2.0, "text": "prune"}], "params": 3}
    assert work.steady(report) == {"passes": [{"text": "prune"}], "params": 3}


def test_an_exception_has_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "meant.toml"
    path.write_text('[[exception]]\ngraph = "fuzz-*"\n')
    with pytest.raises(ArgumentError, match="reason"):
        read_excuses(path)
    path.write_text('[[exception]]\ngraf = "fuzz-*"\nreason = "x"\n')
    with pytest.raises(ArgumentError, match="graf"):
        read_excuses(path)


def rows(lab: Lab, side: Side, graph: Graph, found: dict[str, bytes], text: str = "obspa") -> None:
    """What a worker would have left for one pipeline."""
    lab.store.mkdir(exist_ok=True)
    kept = {kind: work.keep(data, lab.store) for kind, data in found.items()}
    path = lab.results(side, graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pipeline": "obspa", "text": text, "found": kept, "cpu": 1}) + "\n{torn")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {"obspa": "obspa"}, 60)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    for name in ("m.onnx", "m.npz"):
        (tmp_path / name).write_bytes(model())
    return Graph("m", tmp_path / "m.onnx", tmp_path / "m.npz")


def test_only_what_differs_and_is_not_meant_fails(
    lab: Lab, graph: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(lab, ONE, graph, {"out.onnx": model(), "report": b"{}"})
    rows(lab, TWO, graph, {"out.onnx": model(), "report": b"{}"})
    assert verdict(lab, [graph], [ONE, TWO], []) == 0
    assert "1 compiles equal (1 under one wrote a model)" in capsys.readouterr().out
    rows(lab, TWO, graph, {"out.onnx": model(axis=0), "report": b"{}"})
    assert verdict(lab, [graph], [ONE, TWO], []) == 1
    assert "differs: m obspa out.onnx: node 0 'join': attribute axis" in capsys.readouterr().out
    meant = tmp_path / "meant.toml"
    meant.write_text('[[exception]]\npass = "obs*"\nwhat = "*.onnx"\nreason = "another axis is wanted"\n')
    assert verdict(lab, [graph], [ONE, TWO], read_excuses(meant)) == 0
    assert "(another axis is wanted)" in capsys.readouterr().out
    rows(lab, TWO, graph, {"out.onnx": model(axis=0), "report": b"[]"})
    assert verdict(lab, [graph], [ONE, TWO], read_excuses(meant)) == 1


def test_what_was_not_compiled_is_no_success(
    lab: Lab, graph: Graph, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(lab, ONE, graph, {"out.onnx": model()})
    assert verdict(lab, [graph], [ONE, TWO], []) == 1
    rows(lab, TWO, graph, {"out.onnx": model()}, text="obspa(ratio=0.1)")
    assert verdict(lab, [graph], [ONE, TWO], []) == 1
    assert "m obspa: no result under two" in capsys.readouterr().out


def test_an_unused_exception_is_named(
    lab: Lab, graph: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meant = tmp_path / "meant.toml"
    meant.write_text('[[exception]]\ngraph = "other"\nreason = "was once"\n')
    for side in (ONE, TWO):
        rows(lab, side, graph, {"report": b"{}"})
    assert verdict(lab, [graph], [ONE, TWO], read_excuses(meant)) == 0
    assert "unused: exception for graph other" in capsys.readouterr().out


def test_a_graph_is_compiled_under_a_state_of_the_code(tmp_path: Path) -> None:
    """And not again: what is known stays."""
    lab = Lab(tmp_path, {name: PIPELINES[name] for name in ("magnitude", "experts")}, 300)
    (graph,) = graphs("fuzz:1:0", tmp_path)
    seconds, wrong = lab.work(ONE, graph)
    assert seconds > 0 and not wrong
    found = lab.rows(ONE, graph)
    assert set(found["magnitude"]["found"]) >= {"out.onnx", "out.plan.json", "report"}
    assert set(found["experts"]["found"]) == {"error"}
    assert lab.work(ONE, graph) == (0.0, "")


def test_another_graphprune_than_the_one_meant_is_noticed(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"canonicalize": "canonicalize"}, 300)
    (graph,) = graphs("fuzz:1:0", tmp_path)
    elsewhere = tmp_path / "empty"
    elsewhere.mkdir()
    _, wrong = lab.work(Side("empty", "empty", elsewhere), graph)
    assert wrong
    assert not lab.rows(Side("empty", "empty", elsewhere), graph)


def test_differences_read_as_a_line() -> None:
    assert str(Difference("g", "prune", "report", "x: 1 -> 2")) == "g prune report: x: 1 -> 2"
