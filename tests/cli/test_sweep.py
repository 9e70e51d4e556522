"""Every command against every kind of wrong file and value: an error in words, never one of Python's own."""

from __future__ import annotations

import copy
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .conftest import Outcome, Run

LEAKS = re.compile(
    r"internal error|Traceback|\b(Key|Value|Attribute|Type|Index|Runtime|Assertion|Overflow|Unicode)Error"
    r"|<class|object at 0x|NoneType|has no attribute|not subscriptable|invalid literal|\[ONNXRuntime"
    r"|allow_pickle"
)
COMPILE = ("compile", "model.onnx", "-o", "out.onnx", "--no-bench")
PRUNE = ("--passes", "prune(align=1)")
MODELS = {
    "empty.onnx": b"",
    "text.onnx": b"hello world\n" * 20,
    "zeros.onnx": bytes(1000),
    "noise.onnx": bytes(range(256)) * 9,
    "page.onnx": b"<!DOCTYPE html><html>",
    "object.onnx": b'{"a": 1}',
    "weights.safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
    "old.pth": b"\x80\x02}q\x00.",
    "mobile.tflite": b"\x1c\x00\x00\x00TFL3" + bytes(40),
    "built.engine": b"ftrt" + bytes(60),
    "graph.pb": b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder",
}
"""What stands in files that are no ONNX model."""
IMAGE = np.zeros((4, 3, 8, 8), np.float32)
ARRAYS = {
    "name.npz": {"imaeg": IMAGE},
    "type.npz": {"image": IMAGE.astype(np.uint8)},
    "rank.npz": {"image": IMAGE[0]},
    "shape.npz": {"image": IMAGE[:, :1]},
    "none.npz": {"image": IMAGE[:0]},
    "scalar.npz": {"image": np.float32(1)},
    "nan.npz": {"image": IMAGE * np.nan},
    "words.npz": {"image": np.array(["a", "b"])},
    "objects.npz": {"image": np.array([1, "a", None], object)},
    "nothing.npz": {},
}
"""Samples that fit no input."""
BYTES = {
    "cut.npz": b"PK\x03\x04" + bytes(40),
    "no.npz": b"hello",
    "cut.npy": b"\x93NUMPY\x01\x00v\x00{'descr'",
    "a.csv": b"1",
}
BAD: tuple[object, ...] = (None, "x", -1, 1.5, [], {}, True, [None], {"a": 1})


def fails(outcome: Outcome) -> str:
    """The message of a command that failed as it should."""
    assert outcome.code in (1, 2), outcome
    assert outcome.err.startswith("error: ") and not LEAKS.search(outcome.err), outcome
    return outcome.err


def commands(name: str) -> Iterator[tuple[str, ...]]:
    """Each that reads a model, reading this one."""
    yield from ((each, name) for each in ("inspect", "bench"))
    yield ("explain", name, "conv1.weight:0")
    yield from ((each, "model.onnx", name) for each in ("validate", "bench"))
    yield ("check", "model.onnx", name, "--max-bytes", "0.9")
    yield ("compile", name, "-o", "out.onnx", *PRUNE)
    yield ("calibrate", name, "name.npz", "-o", "out.npz")


@pytest.mark.parametrize("name", [*MODELS, "cut.onnx", "there", "gone.onnx", "", "name.npz"])
def test_what_is_no_model_is_said_by_every_command(name: str, run: Run, folder: Path) -> None:
    (folder / "there").mkdir()
    (folder / "cut.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-50])
    np.savez(folder / "name.npz", image=IMAGE)
    if name in MODELS:
        (folder / name).write_bytes(MODELS[name])
    for line in commands(name):
        assert name in fails(run(*line)), line
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize("name", [*ARRAYS, *BYTES, "member.npz", "there", "gone.npz", "model.onnx"])
def test_what_are_no_samples_is_said_by_every_command(name: str, run: Run, folder: Path) -> None:
    (folder / "there").mkdir()
    if name in ARRAYS:
        np.savez(folder / name, **ARRAYS[name])
    if name in BYTES:
        (folder / name).write_bytes(BYTES[name])
    if name == "member.npz":
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("image.npy", "x")
    for line in (
        ("validate", "model.onnx", "model.onnx", "--inputs", name),
        ("check", "model.onnx", "model.onnx", "--max-drop", "1", "--inputs", name),
        (*COMPILE, *PRUNE, "--inputs", name),
        (*COMPILE, "--passes", "prune(criterion=wanda)", "--calibration", name),
        ("calibrate", "model.onnx", name, "-o", "out.npz"),
    ):
        fails(run(*line))
    assert not (folder / "out.onnx").exists()


def mutants(document: object) -> Iterator[object]:
    """The document with one value wrong, or missing, at every place."""
    yield from BAD
    if isinstance(document, dict):
        for key, value in document.items():
            yield {name: each for name, each in document.items() if name != key}
            yield from ({**document, key: wrong} for wrong in mutants(value))
    elif isinstance(document, list) and document:
        yield from ([wrong, *document[1:]] for wrong in mutants(document[0]))


def test_a_plan_that_somebody_damaged_says_where(run: Run, folder: Path) -> None:
    np.savez(folder / "data.npz", image=np.random.default_rng(0).standard_normal((40, 3, 8, 8), np.float32))
    assert run(*COMPILE, *PRUNE, "--calibration", "data.npz").code == 0
    plan = json.loads((folder / "out.plan.json").read_text())
    groups = plan["passes"][0]["plan"]["groups"]
    for name in [*groups][1:]:  # one is as good as all, and much faster
        del groups[name]
    (folder / "bad.safetensors").write_bytes((folder / "out.plan.safetensors").read_bytes())
    for number, wrong in enumerate(mutants(copy.deepcopy(plan))):
        (folder / "bad.json").write_text(json.dumps(wrong))
        outcome = run("compile", "model.onnx", "-o", f"out{number}.onnx", "--no-bench", "--plan", "bad.json")
        if outcome.code:  # some values are as good as those that stood there
            fails(outcome)
    plan["passes"][0]["plan"]["options"]["share"] = "some"
    (folder / "bad.json").write_text(json.dumps(plan))
    message = fails(run("compile", "model.onnx", "-o", "x.onnx", "--plan", "bad.json"))
    assert "plan 'bad.json' at passes[0].plan.options is damaged: 'share' is none of split, tie" in message


@pytest.mark.parametrize(
    "option", ["seed", "timeout", "threads", "providers", "shape", "max_drop", "outputs", "bench"]
)
def test_a_recipe_with_a_wrong_value_is_refused(option: str, run: Run, folder: Path) -> None:
    for text in ("'no'", "-1", "1.5", "[]", "[1]", "nan", "1979-05-27", "[[1], [1, 2]]"):
        (folder / "r.toml").write_text(f"pipeline = 'prune(align=1)'\n[options]\n{option} = {text}\n")
        outcome = run("compile", "model.onnx", "-o", "out.onnx", "--force", "--recipe", "r.toml")
        if outcome.code:
            fails(outcome)
        else:
            assert (option, text) in {("timeout", "1.5"), ("max_drop", "1.5")}


def test_no_timeout_is_too_long(run: Run) -> None:
    assert run("validate", "model.onnx", "model.onnx", "--timeout", "99999999999999999999").code == 0


WORDS = {
    ("inspect", "model.onnx", "--max-bytes", "0.5"): "--max-bytes '0.5' is not a size",
    (*COMPILE, *PRUNE, "--set-shape", f"image={'9' * 30}x3x8x8"): "is not name=1x3x224x224",
    ("calibrate", "model.onnx", "x.npz", "-o", "y.npz", "--size", "9" * 5000): "is not HEIGHTxWIDTH",
    ("validate", "model.onnx", "model.onnx", "--fix", "image=[[1],[1,2]]"): "image",
}


@pytest.mark.parametrize("line", WORDS, ids=lambda line: line[-2])
def test_values_that_no_option_takes(line: tuple[str, ...], run: Run) -> None:
    assert WORDS[line] in fails(run(*line))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("--passes", "prune(ratio=0.5,", "align=1)", "-o", "x.onnx"), "prune(ratio=0.5, align=1)"),
        (("-o", "x.onnx", "--passes", "prune(ratio=0.5,", "align=1,", "scope=local)"), None),
    ],
)
def test_a_pipeline_that_the_shell_took_apart_is_answered_with_the_quoted_line(
    typed: tuple[str, ...], meant: str | None, run: Run
) -> None:
    message = fails(run("compile", "model.onnx", *typed))
    line = f"--passes '{meant or 'prune(ratio=0.5, align=1, scope=local)'}'"
    assert "quote it" in message and "hint: graphprune compile model.onnx" in message and line in message
