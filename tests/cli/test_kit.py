"""`bench-kit` writes what runs without graphprune, and `profile --from` reads what comes back."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphprune.runtime.device import DeviceProfile
from tests.cli.conftest import Run

FIRST = "00-00"


def started(script: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The script in a process that does not find graphprune beside it."""
    command = [sys.executable, str(script), "--seconds", "0.001", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=script.parent)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a kit of two widths."""
    from graphprune.pipeline.kit import write_kit
    from graphprune.pipeline.settings import Packing
    from tests.cli.conftest import small_model

    kit = tmp_path_factory.mktemp("measured") / "kit"
    write_kit([small_model()], kit, Packing(cuts=1))
    process = started(kit / "run.py")
    assert process.wait() == 0, process.communicate()
    return kit / "results"


@pytest.fixture
def results(measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured, tmp_path / "came back"))


def test_the_script_needs_nothing_but_numpy_and_onnxruntime(run: Run, folder: Path) -> None:
    assert run("bench-kit", "model.onnx", "-o", "kit", "--cuts", "1").code == 0
    tree = ast.parse((folder / "kit" / "run.py").read_text(), feature_version=(3, 8))
    names = [each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} <= {"numpy", "onnxruntime", *sys.stdlib_module_names}


def test_models_of_a_kit_come_without_large_weights(run: Run, folder: Path) -> None:
    told = json.loads(run("bench-kit", "model.onnx", "-o", "kit", "--cuts", "2", "--json").out)
    assert told["models"] == 3
    assert told["weights_bytes"] >= 4 * (32 * 16 * 3 * 3 + 8 * 256 * 256)
    assert sum(path.stat().st_size for path in (folder / "kit" / "models").iterdir()) < 60_000
    assert told["bytes"] == sum(path.stat().st_size for path in (folder / "kit").rglob("*.*"))


def test_what_a_kit_measured_becomes_a_profile(run: Run, results: Path) -> None:
    told = json.loads(run("profile", "--from", str(results), "-o", "device.json", "--json").out)
    assert told["kinds"] == told["new"] > 3
    assert [each["name"] for each in told["models"]] == [FIRST, "00-01"]
    assert all(each["unknown"] == each["alike"] == 0 for each in told["models"])
    profile = DeviceProfile.load(Path("device.json"))
    assert profile.machine.threads == 1 and profile.machine.providers == ("cpu",)
    assert 0 < profile.reference < 1


def test_a_run_that_was_killed_goes_on(run: Run, folder: Path) -> None:
    run("bench-kit", "model.onnx", "-o", "kit", "--cuts", "3")
    script, first = folder / "kit" / "run.py", folder / "kit" / "results" / f"{FIRST}.json"
    process = started(script)
    while not first.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = first.stat().st_mtime_ns
    assert started(script).wait() == 0
    assert first.stat().st_mtime_ns == before
    assert len(list(first.parent.glob("*.json"))) == 4


def test_a_folder_that_is_there_is_not_replaced_by_chance(run: Run, folder: Path) -> None:
    (folder / "mine").mkdir()
    assert "exists and is no kit" in run("bench-kit", "model.onnx", "-o", "mine", "--force").err
    run("bench-kit", "model.onnx", "-o", "kit", "--cuts", "1")
    again = ("bench-kit", "model.onnx", "-o", "kit", "--cuts", "0")
    assert "--force" in run(*again).err
    assert run(*again, "--force").code == 0
    assert sorted(path.stem for path in (folder / "kit" / "models").iterdir()) == [FIRST, "reference"]


def test_profile_wants_models_or_results(run: Run) -> None:
    for given in ((), ("model.onnx", "--from", "results")):
        outcome = run("profile", *given, "-o", "device.json")
        assert outcome.code == 2 and "give models to measure, or --from" in outcome.err


def told(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """Changes what the first result says."""

    def spoil(results: Path) -> None:
        path = results / f"{FIRST}.json"
        said = json.loads(path.read_text())
        change(said)
        path.write_text(json.dumps(said))

    return spoil


def node(said: dict) -> dict:
    return said["nodes"][0]


def file(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda results: (results / name).write_bytes(content)


GRAPH = f"{FIRST}/optimised.onnx"


@pytest.mark.parametrize(
    "spoil",
    [
        file(f"{FIRST}.json", b""),
        file(f"{FIRST}.json", b"\xff\xfe\x00"),
        file(f"{FIRST}.json", b"[1, 2]"),
        file(f"{FIRST}.json", b"[" * 100_000),
        file(GRAPH, b""),
        file(GRAPH, b"no protobuf at all"),
        file(GRAPH, np.random.default_rng(0).bytes(5000)),
        lambda results: (results / GRAPH).unlink(),
        lambda results: shutil.copy(results / "00-01" / "optimised.onnx", results / GRAPH),
        told(lambda said: said.update(format=99)),
        told(lambda said: said.pop("nodes")),
        told(lambda said: said.update(nodes=7)),
        told(lambda said: said.update(nodes=said["nodes"][:-1])),
        told(lambda said: said.update(seconds=-1)),
        told(lambda said: said.update(seconds=float("nan"))),
        told(lambda said: said.update(reference=0)),
        told(lambda said: said.update(threads="one")),
        told(lambda said: said.update(threads=2)),
        told(lambda said: said.update(kit="another")),
        told(lambda said: said.update(features="avx")),
        told(lambda said: said.update(providers=[1])),
        told(lambda said: node(said).update(seconds="quick")),
        told(lambda said: node(said).update(inputs=[{"float": [-1]}])),
        told(lambda said: node(said).update(inputs=[])),
        told(lambda said: node(said).update(inputs=[{"float": []}] * 9)),
        told(lambda said: node(said).update(outputs=3)),
        told(lambda said: node(said).update(operator="\x1b[31m")),
    ],
)
def test_damaged_results_are_named(run: Run, results: Path, spoil: Callable[[Path], object]) -> None:
    spoil(results)
    outcome = run("profile", "--from", str(results), "-o", "device.json")
    assert outcome.code == 2
    assert "error: " in outcome.err and "came back" in outcome.err and "\x1b" not in outcome.err
    assert "bug in graphprune" not in outcome.err and not Path("device.json").exists()


def test_no_results_are_said_to_be_none(run: Run, folder: Path) -> None:
    assert "there is no folder" in run("profile", "--from", "nowhere", "-o", "device.json").err
    (folder / "empty").mkdir()
    assert "holds no results" in run("profile", "--from", "empty", "-o", "device.json").err


def test_a_profile_that_was_killed_goes_on(folder: Path) -> None:
    """Kinds are written one by one."""
    command = [sys.executable, "-m", "graphprune", "profile", "model.onnx", "-o", "device.json", "--json"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=os.environ)
    while not (folder / "device.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = DeviceProfile.load(folder / "device.json")
    assert before.costs
    command[-1:] = ["--minutes", "1e-9", "--quiet"]
    subprocess.run(command, cwd=folder, check=True, env=os.environ)
    after = DeviceProfile.load(folder / "device.json")
    assert before.costs.items() < after.costs.items()
    assert after.reference == pytest.approx(before.reference, rel=1e-9)
