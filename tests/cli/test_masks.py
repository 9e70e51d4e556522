"""Mask passes on the command line: what the report says, and errors that point at the argument."""

from __future__ import annotations

import json

from .conftest import Run


def test_a_mask_says_what_it_buys(run: Run) -> None:
    outcome = run(
        "compile", "model.onnx", "-o", "small.onnx", "--passes", "magnitude(pattern=2:4)", "--no-bench"
    )
    assert outcome.code == 0, outcome
    for line in (
        "masked weights are zero (50.0 %)",
        "compress to",
        "zlib level 1",
        "with 2:4 kernels",
        "no latency",
    ):
        assert line in outcome.out
    assert "3 input channels are no multiple of 4" in outcome.out + outcome.err


def test_the_json_names_every_tensor(run: Run) -> None:
    outcome = run(
        "compile", "model.onnx", "-o", "s.onnx", "--passes", "magnitude", "--no-bench", "--format", "json"
    )
    found = json.loads(outcome.out)["passes"][0]["zeros"]
    assert {tensor["name"] for tensor in found["tensors"]} <= {f"conv{n}.weight" for n in (1, 2, 3)}
    assert sum(tensor["zeros"] for tensor in found["tensors"]) == found["zeros"]
    assert {node["weight"] for node in found["sparse_nodes"]} >= {"conv2.weight", "fc.weight"}


def test_sparse_initializers_are_asked_for(run: Run) -> None:
    text = ("compile", "model.onnx", "-o", "s.onnx", "--no-bench", "--passes", "magnitude(ratio=0.9)")
    assert "sparse-initializers" not in run(*text).out
    assert "initializers are sparse" in run(*text, "--force", "--sparse-initializers").out


def test_errors_point_at_the_argument(run: Run) -> None:
    outcome = run("compile", "model.onnx", "-o", "s.onnx", "--passes", "wanda(pattern=4:4)")
    assert outcome.code == 2 and "pattern must be" in outcome.err and "^^^" in outcome.err
    outcome = run("compile", "model.onnx", "-o", "s.onnx", "--passes", "wanda")
    assert outcome.code == 2 and "needs calibration data" in outcome.err and "--calibration" in outcome.err
    assert "Traceback" not in outcome.err
