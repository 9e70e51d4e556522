"""Passes and criteria of a package that pip installed work like ours; a broken one breaks nothing else."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

PACKAGE = Path(__file__).parent / "package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the third-party package installed in it."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(PACKAGE)]
    subprocess.run(command, check=True, timeout=300)
    return target


def graphprune(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(site), *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "graphprune", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def mlp(path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"up": (8, 16), "down": (16, 4)}
    tensors = [ir.tensor(rng.standard_normal(s).astype(np.float32), name=n) for n, s in shapes.items()]
    text = "(float[n,8] x) => (float[n,4] y) { a = MatMul(x, up)\n b = Relu(a)\n y = MatMul(b, down) }"
    ir.save(
        ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 21]>\ng {text}', initializers=tensors), path
    )


def test_it_is_listed_beside_ours_and_the_broken_one_says_so(site: Path, tmp_path: Path) -> None:
    done = graphprune(site, tmp_path, "passes", "--format", "json")
    assert done.returncode == 0, done.stderr
    lines = {line["name"]: line for line in json.loads(done.stdout)["passes"]}
    assert lines["every-other"]["summary"].startswith("Keep one unit")
    assert "a_module_that_nobody_has" in lines["broken"]["fault"]
    assert (lines["prune"]["fault"], lines["prune"]["origin"]) == ("", "")
    criteria = {line["name"]: line for line in json.loads(done.stdout)["criteria"]}
    assert criteria["dull"]["summary"] == "|mean| over spread; needs calibration data; lower scores stay"
    snake, warm = json.loads(done.stdout)["operators"]
    assert (snake["name"], snake["summary"]) == ("com.example.Snake", "a broadcasts to x")
    assert warm["name"] == "com.example.Warm"
    assert lines["frugal"]["origin"] == criteria["dull"]["origin"] == "graphprune-every-other"


def test_it_describes_its_arguments(site: Path, tmp_path: Path) -> None:
    done = graphprune(site, tmp_path, "passes", "every-other")
    assert "keep units 0, step, 2*step, ... of every block" in done.stdout


def test_it_compiles_and_is_proved(site: Path, tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    arguments = (
        "compile",
        "model.onnx",
        "--passes",
        "every_other(step=4)",
        "-o",
        "small.onnx",
        "--format",
        "json",
        "--no-bench",
    )
    done = graphprune(site, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)["passes"]
    assert report["proof"]["ok"]
    (group,) = [group for group in report["groups"] if not group["pin"]]
    assert (group["width"], group["kept"]) == (16, 4)
    dense, small = (
        ir.load(tmp_path / name).graph.initializers["up"].const_value for name in ("model.onnx", "small.onnx")
    )
    assert dense is not None and small is not None
    np.testing.assert_array_equal(small.numpy(), dense.numpy()[:, ::4])


def test_its_criteria_and_its_method_choose_what_they_say(site: Path, tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    x = np.random.default_rng(1).standard_normal((24, 8)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=x)
    tensors = ir.load(tmp_path / "model.onnx").graph.initializers
    up, down = (tensors[name].const_value.numpy() for name in ("up", "down"))  # type: ignore[union-attr]
    seen, made = np.maximum(x @ up, 0).mean(axis=0), x @ up
    worth = {
        "frugal(ratio=0.5, align=1)": np.abs(down).sum(axis=1) * seen,
        "prune(criterion=dull, ratio=0.5, align=1)": -np.abs(made.mean(axis=0)) / made.std(axis=0),
    }
    for at, (passes, scores) in enumerate(worth.items()):
        arguments = ("--passes", passes, "--calibration", "samples.npz", "-o", f"{at}.onnx", "--no-bench")
        done = graphprune(site, tmp_path, "compile", "model.onnx", *arguments)
        assert done.returncode == 0, done.stderr
        plan = json.loads((tmp_path / f"{at}.plan.json").read_text())["passes"][0]
        assert plan["plan"]["groups"]["up:1"]["kept"] == sorted(np.argsort(scores)[8:].tolist())


def test_an_operator_with_an_attribute_runs_as_its_function_in_the_file(site: Path, tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    dense = ir.load(tmp_path / "model.onnx")
    node = dense.graph[1]
    node.domain, node.op_type = "com.example", "Warm"
    node.attributes["beta"] = ir.AttrFloat32("beta", 1.5)
    dense.opset_imports["com.example"] = 1
    ir.save(dense, tmp_path / "model.onnx")
    done = graphprune(
        site, tmp_path, "compile", "model.onnx", "--passes", "every-other", "-o", "small.onnx", "--no-bench"
    )
    assert done.returncode == 0, done.stderr
    body = runpy.run_path(str(PACKAGE / "graphprune_warm.py"))["WARM"].body
    small = onnx.load(tmp_path / "small.onnx")
    small.functions.append(onnx.parser.parse_function(body))
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    up, down = (onnx.numpy_helper.to_array(tensor) for tensor in small.graph.initializer)
    hidden = x @ up
    expected = (hidden / (1 + np.exp(-1.5 * hidden))) @ down
    session = ort.InferenceSession(small.SerializeToString())
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_a_broken_one_is_an_error_line_only_when_used(site: Path, tmp_path: Path) -> None:
    mlp(tmp_path / "model.onnx")
    done = graphprune(site, tmp_path, "compile", "model.onnx", "--passes", "broken", "-o", "small.onnx")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: pass 'broken' from 'graphprune_every_other_broken:Broken' does not load"
    )
    assert "hint: update or uninstall the package 'graphprune-every-other'" in done.stderr
    assert not (tmp_path / "small.onnx").exists()
