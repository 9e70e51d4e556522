"""Saving is all or nothing, never over an input, and takes little memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from graphprune.errors import OutputError
from graphprune.ir.load import Source, load
from graphprune.ir.save import save

from .hostile_cases import CASES, chain, cnn, tensor

make = helper.make_node


def loaded(folder: Path, proto: onnx.ModelProto | None = None, *, external: bool = False) -> Source:
    """A model from a file of its own."""
    path = folder / "in.onnx"
    onnx.save(proto or wide(), path, save_as_external_data=external, location="in.bin", size_threshold=0)
    return load(path)


def wide() -> onnx.ModelProto:
    weights = (tensor("w", 64, 64), tensor("v", 64, 32))
    return chain(
        make("MatMul", ["x", "w"], ["t"]), make("MatMul", ["t", "v"], ["y"]), weights=weights, x=(2, 64)
    )


def weights(path: Path) -> dict[str, bytes]:
    return {t.name: numpy_helper.to_array(t).tobytes() for t in onnx.load(path).graph.initializer}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("threshold", [0, 2**28])
def test_a_copy_holds_the_same_bits(external: bool, threshold: int, tmp_path: Path) -> None:
    source = loaded(tmp_path, external=external)
    digests = save(source.model, tmp_path / "out.onnx", source, external_threshold=threshold)
    written = tuple(digests)
    assert digests == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}
    assert [path.name.split(".")[2] for path in written[1:]] == [digests[path][:16] for path in written[1:]]
    names = ["out.onnx", f"out.onnx.{'*' * 16}.data"] if external or threshold == 0 else ["out.onnx"]
    assert len(written) == len(names) and all(map(Path.match, written, names))
    assert weights(tmp_path / "out.onnx") == weights(tmp_path / "in.onnx")
    ort.InferenceSession(tmp_path / "out.onnx", providers=["CPUExecutionProvider"])
    assert load(tmp_path / "out.onnx").had_external == (len(names) == 2)


def test_the_model_in_memory_stays_as_it_is(tmp_path: Path) -> None:
    source = loaded(tmp_path)
    before = [value.const_value for value in source.model.graph.initializers.values()]
    save(source.model, tmp_path / "out.onnx", source, external_threshold=0)
    assert all(
        a is b.const_value for a, b in zip(before, source.model.graph.initializers.values(), strict=True)
    )


@pytest.mark.parametrize("threshold", [0, 2**28])
def test_the_same_model_gives_the_same_bytes(threshold: int, tmp_path: Path) -> None:
    source = loaded(tmp_path)
    found = []
    for _ in range(2):
        written = save(source.model, tmp_path / "out.onnx", source, external_threshold=threshold)
        found.append([path.read_bytes() for path in written])
    assert found[0] == found[1]


def test_a_tensor_used_twice_is_stored_once(tmp_path: Path) -> None:
    source = loaded(tmp_path)
    graph = source.model.graph
    graph.initializers["v"].const_value = ir.tensor(np.zeros((64, 32), np.float32))
    graph.initializers["w"].const_value = shared = ir.tensor(np.ones((64, 64), np.float32))
    graph.register_initializer(ir.Value(name="u", const_value=shared, shape=ir.Shape([64, 64])))
    _, sidecar = save(source.model, tmp_path / "out.onnx", source, external_threshold=0)
    assert sidecar.stat().st_size == 64 * 64 * 4 + 64 * 32 * 4


def test_every_kind_of_tensor_survives(tmp_path: Path) -> None:
    for case in (
        "A17_nested_if",
        "B13_function",
        "D30_sparse",
        "D52_endless_loop",
        "E27_unknown_keys",
        "000_control",
    ):
        folder = tmp_path / case
        folder.mkdir()
        next(c for c in CASES if c.id == case).build(folder)
        source = load(folder / "model.onnx")
        for threshold in (0, 2**28):
            save(source.model, folder / "out.onnx", source, external_threshold=threshold)
            assert len(list(load(folder / "out.onnx").model.graph)) == len(list(source.model.graph))


@pytest.mark.parametrize("how", ["same", "symlink", "hardlink", "sidecar"])
def test_an_input_is_never_overwritten(how: str, tmp_path: Path) -> None:
    source = loaded(tmp_path, external=True)
    out = tmp_path / "out.onnx"
    if how == "same":
        out = tmp_path / "x" / ".." / "in.onnx"
        (tmp_path / "x").mkdir()
    elif how == "symlink":
        out.symlink_to("in.onnx")
    elif how == "hardlink":
        out.hardlink_to(tmp_path / "in.onnx")
    else:
        out = tmp_path / "in.bin"
    before = {name: (tmp_path / name).stat() for name in ("in.onnx", "in.bin")}
    with pytest.raises(OutputError, match="input"):
        save(source.model, out, source)
    for name, status in before.items():
        after = (tmp_path / name).stat()
        assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
        )


def test_weights_the_model_still_reads_are_inputs_too(tmp_path: Path) -> None:
    source = loaded(tmp_path, external=True)
    with pytest.raises(OutputError, match="input"):
        save(source.model, tmp_path / "in.bin", None)


def test_weights_that_became_an_input_are_kept(tmp_path: Path) -> None:
    """The model was renamed, and its weights still have the name of the output."""
    source = loaded(tmp_path)
    model, sidecar = save(source.model, tmp_path / "out.onnx", source, external_threshold=0)
    old = sidecar.read_bytes()
    shutil.copy(model, tmp_path / "moved.onnx")
    source = load(tmp_path / "moved.onnx")
    source.model.graph.initializers["v"].const_value = ir.tensor(np.ones((64, 32), np.float32))
    _, other = save(source.model, model, source, external_threshold=0)
    assert sidecar.read_bytes() == old and other != sidecar
    assert weights(tmp_path / "moved.onnx") == weights(tmp_path / "in.onnx")


def test_weights_of_the_old_output_go_with_it(tmp_path: Path) -> None:
    source = loaded(tmp_path)
    save(source.model, tmp_path / "out.onnx", source, external_threshold=0)
    source.model.graph.initializers["v"].const_value = ir.tensor(np.ones((64, 32), np.float32))
    _, sidecar = save(source.model, tmp_path / "out.onnx", source, external_threshold=0)
    assert files(tmp_path) == ["in.onnx", "out.onnx", sidecar.name]


def test_places_that_cannot_hold_a_model(tmp_path: Path) -> None:
    source = loaded(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for out in (
        tmp_path / "no" / "out.onnx",
        tmp_path,
        tmp_path / "pipe",
        Path(os.devnull),
        tmp_path / ("n" * 300),
    ):
        with pytest.raises(OutputError):
            save(source.model, out, source)
    assert files(tmp_path) == ["in.onnx", "pipe"]


@pytest.mark.parametrize("threshold", [0, 2**28])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_nothing_is_left_when_a_tensor_fails(
    error: type[BaseException], threshold: int, tmp_path: Path
) -> None:
    def fail() -> ir.TensorProtocol:
        raise error

    source = loaded(tmp_path)
    out = tmp_path / "out.onnx"
    out.write_bytes(b"old")
    lazy = ir.LazyTensor(fail, ir.DataType.FLOAT, ir.Shape([64, 32]), name="v")
    source.model.graph.initializers["v"].const_value = lazy
    with pytest.raises(error):
        save(source.model, out, source, external_threshold=threshold)
    assert files(tmp_path) == ["in.onnx", "out.onnx"]
    assert out.read_bytes() == b"old"


def test_a_lazy_tensor_of_another_size_is_refused(tmp_path: Path) -> None:
    source = loaded(tmp_path)
    wrong = ir.LazyTensor(
        lambda: ir.tensor(np.ones(3, np.float32)), ir.DataType.FLOAT, ir.Shape([64, 32]), name="v"
    )
    source.model.graph.initializers["v"].const_value = wrong
    with pytest.raises(OutputError, match="bytes"):
        save(source.model, tmp_path / "out.onnx", source)
    assert files(tmp_path) == ["in.onnx"]


def test_saving_works_outside_the_main_thread(tmp_path: Path) -> None:
    source = loaded(tmp_path)
    thread = threading.Thread(target=lambda: save(source.model, tmp_path / "out.onnx", source))
    thread.start()
    thread.join()
    assert files(tmp_path) == ["in.onnx", "out.onnx"]


def test_signal_handlers_come_back(tmp_path: Path) -> None:
    source = loaded(tmp_path)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    save(source.model, tmp_path / "out.onnx", source)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


PRELUDE = """
import resource, signal, sys, os
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started us behind &
import numpy as np, onnx_ir as ir
from graphprune.errors import OutputError
from graphprune.ir.load import load
from graphprune.ir.save import save
source = load("in.onnx")
def make(array):
    return ir.LazyTensor(array, ir.DataType.FLOAT, ir.Shape([64, 32]), name="v")
def put(array):
    source.model.graph.initializers["v"].const_value = make(array)
"""


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-B", "-c", PRELUDE + code]  # a full disk would cut a .pyc short
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("threshold", [0, 2**28])
def test_a_full_disk_leaves_nothing(threshold: int, tmp_path: Path) -> None:
    loaded(tmp_path)
    code = f"""
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save(source.model, "out.onnx", source, external_threshold={threshold})
except OutputError as error:
    print("refused:", error.message)
"""
    result = run(tmp_path, code)
    assert result.stdout.startswith("refused: cannot write"), result.stderr
    assert files(tmp_path) == ["in.onnx"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_and_is_delivered(number: signal.Signals, tmp_path: Path) -> None:
    loaded(tmp_path)
    code = f"""
def kill():
    os.kill(os.getpid(), {int(number)})
    return ir.tensor(np.ones((64, 32), np.float32))
put(kill)
save(source.model, "out.onnx", source, external_threshold=0)
"""
    result = run(tmp_path, code)
    assert result.returncode == -number or "KeyboardInterrupt" in result.stderr
    assert files(tmp_path) == ["in.onnx"]


def test_memory_is_one_tensor_not_the_model(tmp_path: Path) -> None:
    """20 lazy tensors of 8 MB each: 160 MB of weights through at most 60 MB of memory."""
    loaded(tmp_path)
    code = """
def private():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0])
peak = 0
def big():
    global peak
    peak = max(peak, private())
    return ir.tensor(np.ones((1024, 2048), np.float32))
for index in range(20):
    lazy = ir.LazyTensor(big, ir.DataType.FLOAT, ir.Shape([1024, 2048]), name=f"big{index}")
    source.model.graph.register_initializer(ir.Value(name=f"big{index}", const_value=lazy, shape=lazy.shape))
for threshold in (0, 2**31):
    before, peak = private(), 0
    paths = save(source.model, "out.onnx", source, external_threshold=threshold)
    print(len(paths), (peak - before) // 1024)
"""
    result = run(tmp_path, code)
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["2", "1"], result.stderr
    assert max(int(line.split()[1]) for line in result.stdout.splitlines()) < 60


def test_a_model_from_memory_is_saved(tmp_path: Path) -> None:
    source = load(cnn())
    save(source.model, tmp_path / "out.onnx", source)
    assert weights(tmp_path / "out.onnx") == {t.name: t.raw_data for t in cnn().graph.initializer}
