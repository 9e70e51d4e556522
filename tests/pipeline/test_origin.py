"""A written model says where it comes from, and nothing else about it changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

import graphprune
from graphprune.ir.load import load
from graphprune.pipeline.inspection import inspect
from graphprune.pipeline.origin import Origin, of
from graphprune.pipeline.planfile import made
from graphprune.pipeline.settings import Looking

from .conftest import Half, mlp

PASSES = "prune(ratio=0.5, align=1)"


def stated(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_a_file_names_version_source_and_passes(model: Path, tmp_path: Path) -> None:
    graphprune.compile(model, PASSES, tmp_path / "small.onnx")
    assert stated(tmp_path / "small.onnx") == {
        "graphprune.version": graphprune.__version__,
        "graphprune.source": f"sha256:{hashlib.sha256(model.read_bytes()).hexdigest()}",
        "graphprune.pipeline": PASSES,
    }
    found = inspect(tmp_path / "small.onnx", Looking()).origin
    assert found is not None and found.pipeline == PASSES
    assert inspect(model, Looking()).origin is None


def test_the_source_is_the_file_that_was_loaded_whatever_has_its_name_now(tmp_path: Path) -> None:
    path = tmp_path / "wide.onnx"
    weight = ir.tensor(np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32), name="w")
    graph = "g (float[n, 64] x) => (float[n, 64] y) { y = MatMul(x, w) }"
    text = f'<ir_version: 10, opset_import: ["" : 21]>\n{graph}'
    ir.save(ir.from_onnx_text(text, initializers=[weight]), path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    source = load(path)
    ir.save(mlp(), tmp_path / "other.onnx")
    (tmp_path / "other.onnx").replace(path)
    assert of(source, made(source.model, (), "", {})).source == f"sha256:{before}"


def test_weights_beside_the_model_are_part_of_the_source(tmp_path: Path) -> None:
    ir.save(mlp(), tmp_path / "model.onnx", external_data="model.data")
    graphprune.compile(tmp_path / "model.onnx", Half(), tmp_path / "small.onnx")
    both = b"".join((tmp_path / name).read_bytes() for name in ("model.onnx", "model.data"))
    assert (
        stated(tmp_path / "small.onnx")["graphprune.source"] == f"sha256:{hashlib.sha256(both).hexdigest()}"
    )


def test_a_model_from_memory_has_the_hash_of_its_plan(tmp_path: Path) -> None:
    result = graphprune.compile(mlp(), Half(), tmp_path / "small.onnx")
    assert stated(tmp_path / "small.onnx")["graphprune.source"] == f"weights:{result.plan_file.weights}"
    assert result.model.metadata_props == stated(tmp_path / "small.onnx")


def test_it_is_left_out_and_everything_else_is_the_same(model: Path, tmp_path: Path) -> None:
    named = graphprune.compile(model, Half(), tmp_path / "named.onnx")
    bare = graphprune.compile(model, Half(), tmp_path / "bare.onnx", metadata=False)
    assert stated(tmp_path / "bare.onnx") == {}
    one, two = named.proto(), bare.proto()
    assert one != two
    del one.metadata_props[:]
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)


def test_what_others_said_stays_and_what_an_earlier_compile_said_goes(tmp_path: Path) -> None:
    old = mlp()
    old.metadata_props.update({"author": "somebody", "graphprune.pipeline": "magnitude", "graphprune.x": "y"})
    ir.save(old, tmp_path / "old.onnx")
    graphprune.compile(tmp_path / "old.onnx", Half(), tmp_path / "new.onnx")
    found = stated(tmp_path / "new.onnx")
    assert (found["author"], found["graphprune.pipeline"], "graphprune.x" in found) == (
        "somebody",
        "half",
        False,
    )
    graphprune.compile(tmp_path / "old.onnx", Half(), tmp_path / "bare.onnx", metadata=False)
    assert stated(tmp_path / "bare.onnx") == {"author": "somebody"}
    graphprune.compile(tmp_path / "old.onnx", "", tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == (tmp_path / "old.onnx").read_bytes()


def test_a_replay_writes_the_same_bytes(model: Path, tmp_path: Path) -> None:
    graphprune.compile(model, PASSES, tmp_path / "small.onnx")
    graphprune.compile(model, output=tmp_path / "again.onnx", plan=tmp_path / "small.plan.json")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "small.onnx").read_bytes()


def test_a_file_that_says_half_of_it_is_still_read() -> None:
    from graphprune.pipeline.origin import stated as read

    assert read({"graphprune.pipeline": "prune"}) == Origin("", "", "prune")
    assert read({"producer": "x"}) is None
