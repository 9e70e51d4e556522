"""What people type by mistake is answered with what it is, and what to type instead."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from rich.console import Console

import graphprune
from graphprune.errors import did_you_mean
from graphprune.report.compiled import warnings
from graphprune.report.table import Table, fancy

from .conftest import Run, small_model

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
FOREIGN = {
    "weights.safetensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(4),
    "renamed.bin": struct.pack("<Q", len(HEADER)) + HEADER + bytes(4),
    "old.pth": b"\x80\x02}q\x00.",
    "mobile.tflite": b"\x1c\x00\x00\x00TFL3" + bytes(40),
    "built.engine": b"ftrt" + bytes(60),
    "net.keras": b"PK\x03\x04" + bytes(40),
}
SAID = {
    "weights.safetensors": ("weights without a graph", "optimum-cli export onnx"),
    "renamed.bin": ("weights without a graph", "optimum-cli export onnx"),
    "old.pth": ("a file of PyTorch", "torch.onnx.export("),
    "mobile.tflite": ("a TensorFlow Lite model", "tf2onnx.convert --tflite mobile.tflite"),
    "built.engine": ("a TensorRT engine", "give the ONNX file that it was built from"),
    "net.keras": ("a file of Keras", "tf2onnx.convert --keras net.keras"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_model_of_another_tool_is_named_with_the_line_that_converts_it(
    name: str, run: Run, folder: Path
) -> None:
    (folder / name).write_bytes(FOREIGN[name])
    outcome = run("inspect", name)
    what, how = SAID[name]
    assert outcome.code == 2
    assert f"error: '{name}' is {what}, not an ONNX model\nhint: " in outcome.err and how in outcome.err


def test_a_checkpoint_is_no_zip_archive(run: Run, folder: Path) -> None:
    with zipfile.ZipFile(folder / "net.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}")
    assert "is a file of PyTorch" in run("inspect", "net.pt").err
    assert "cannot read 'nothing.pt': there is no such file" in run("inspect", "nothing.pt").err


def test_an_onnx_model_may_be_called_anything(run: Run, folder: Path) -> None:
    for name in ("model.pt", "model.pb"):
        (folder / name).write_bytes((folder / "model.onnx").read_bytes())
        assert run("inspect", name).code == 0


def test_a_graph_of_tensorflow_gets_its_line(run: Run, folder: Path) -> None:
    for name, how in (("saved/saved_model.pb", "--saved-model saved"), ("net.pb", "--graphdef net.pb")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder")
        assert how in run("inspect", name).err
    assert "is a SavedModel of TensorFlow" in run("inspect", "saved").err


def test_a_folder_is_said_to_hold_a_model(run: Run, folder: Path) -> None:
    (folder / "there").mkdir()
    assert "'there' is a folder, not a model file" in run("inspect", "there").err
    ir.save(small_model(), folder / "there" / "net.onnx")
    assert "hint: it holds 'there/net.onnx'" in run("inspect", "there").err
    (folder / "hub").mkdir()
    (folder / "hub" / "config.json").write_text("{}")
    assert "optimum-cli export onnx --model hub out/" in run("inspect", "hub").err


TYPED = {
    "prune(ratio=50)": "did you mean ratio=0.5?",
    "prune(ratio=50%)": "a share is written 0.5",
    "prune(ratio=0,5)": "decimals are written with a point: 0.5",
    "prune(0.4)": "arguments are written name=value, e.g. ratio=0.4",
    "prune ratio=0.5": "arguments stand in parentheses: prune(ratio=0.5)",
    "prune(criterion=L1)": "did you mean 'l1'?",
}


@pytest.mark.parametrize("text", TYPED)
def test_a_slip_in_a_pipeline_is_answered_with_what_was_meant(text: str, run: Run) -> None:
    outcome = run("compile", "model.onnx", "-o", "x.onnx", "--passes", text)
    assert outcome.code == 2 and outcome.err.endswith(f"hint: {TYPED[text]}\n")


def test_a_ratio_that_no_percent_explains_gets_no_guess(run: Run) -> None:
    for text in ("prune(ratio=1.5)", "prune(ratio=1000)", "prune(ratio=-1)", "prune(ratio=100)"):
        assert "did you mean" not in run("compile", "model.onnx", "-o", "x.onnx", "--passes", text).err


def test_capitals_do_not_hide_a_name() -> None:
    assert did_you_mean("L1", ["l1", "l2", "lamp"]) == "did you mean 'l1'?"
    assert did_you_mean("conv1.Weight", ["Conv1.weight", "fc"]) == "did you mean 'Conv1.weight'?"
    assert did_you_mean("zzz", ["l1"]) == "known: l1"


def test_a_pipeline_in_a_file_needs_no_quoting(run: Run, folder: Path) -> None:
    (folder / "steps.txt").write_text('prune(ratio=0.5, align=1,\n      ignore=["fc*"])\n')
    outcome = run("compile", "model.onnx", "-o", "x.onnx", "--no-bench", "--json", "--passes", "@steps.txt")
    assert json.loads(outcome.out)["passes"][0]["text"].startswith("prune(ratio=0.5")
    missing = run("compile", "model.onnx", "-o", "y.onnx", "--passes", "@nope.txt")
    assert missing.code == 2 and "cannot read the pipeline 'nope.txt'" in missing.err
    (folder / "binary").write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in run("compile", "model.onnx", "-o", "y.onnx", "--passes", "@binary").err


def test_folders_of_the_wrong_samples_say_what_to_do(run: Run, folder: Path) -> None:
    said = {
        "my pictures": "graphprune calibrate MODEL 'my pictures' -o",
        "arrays": "write one .npz per sample",
    }
    for name in said:
        (folder / name).mkdir()
    (folder / "my pictures" / "a.JPG").write_bytes(b"\xff\xd8\xff")
    np.save(folder / "arrays" / "0.npy", np.zeros((1, 3, 8, 8), np.float32))
    for name, hint in said.items():
        outcome = run("compile", "model.onnx", "-o", "x.onnx", "--passes", "prune", "--calibration", name)
        assert outcome.code == 2 and hint in outcome.err
    np.save(folder / "arrays" / "image.npy", np.zeros((1, 3, 8, 8), np.float32))
    (folder / "arrays" / "0.npy").unlink()
    assert run("validate", "model.onnx", "model.onnx", "--inputs", "arrays").code == 0


def test_equal_warnings_are_one_line_with_a_count() -> None:
    report = graphprune.compile(small_model(), "canonicalize").report
    told = warnings(replace(report, warnings=("few", "thin", "few")))
    assert told.rows == (("few (2 times)",), ("thin",))


def test_brackets_in_a_title_or_a_note_are_no_markup() -> None:
    console = Console(width=100, record=True, file=StringIO())
    console.print(fancy(Table("of [red]", ("a", "b"), (("[b]", "c" * 40),), "shape [1, 3] of [/nope]")))
    shown = console.export_text()
    assert "of [red]" in shown and "shape [1, 3] of [/nope]" in shown and "[b]" in shown
