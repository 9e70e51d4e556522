"""Hints of errors that Python raises name arguments of the function that was called, not flags."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import graphprune
from graphprune.errors import ArgumentError, GraphpruneError
from graphprune.passes import Magnitude, Prune
from graphprune.pipeline.calls import spoken

MODEL = "models/digits_cnn/model.onnx"


@pytest.mark.parametrize(
    "made", [lambda: Prune(ratio=50), lambda: graphprune.compile(MODEL, "prune(ratio=50)")]
)
def test_a_ratio_in_percent_is_answered_by_the_share(made) -> None:
    with pytest.raises(ArgumentError) as caught:
        made()
    assert caught.value.hint == "did you mean ratio=0.5?"
    assert "ratio must be in [0, 1), got 50" in caught.value.message


def test_other_shares_in_percent_are_answered_too() -> None:
    with pytest.raises(ArgumentError) as caught:
        Magnitude(ratio=80)
    assert caught.value.hint == "did you mean ratio=0.8?"
    with pytest.raises(ArgumentError) as caught:
        Prune(ratio="50%")
    assert caught.value.hint == "a share is written 0.5"
    with pytest.raises(ArgumentError) as caught:
        Prune(ratio=-1)
    assert caught.value.hint == ""


def test_flags_are_arguments(tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    out.write_bytes(b"mine")
    np.savez(tmp_path / "x.npz", y=np.zeros(3))
    calls = {
        "force=True replaces it": lambda: graphprune.compile(MODEL, "prune", out),
        "give some: calibration=FILE": lambda: graphprune.compile(MODEL, "prune(criterion=wanda)"),
        "give some: calibration=FILE or inputs=FILE": lambda: graphprune.compile(
            MODEL, "prune", max_drop=0.1
        ),
    }
    for says, call in calls.items():
        with pytest.raises(GraphpruneError) as caught:
            call()
        assert says in caught.value.hint and "--" not in caught.value.hint
    assert out.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("--allow-short writes it all the same", "allow_short=True writes it all the same"),
        ("--no-lower writes the result", "lower=False writes the result"),
        ("smaller (--shape), or allow more (--timeout)", "smaller (shape=...), or allow more (timeout=...)"),
        ("--shape NAME=2,3,224,224, or more", "shape={'NAME': [2,3,224,224]}, or more"),
        ("samples with --inputs FILE.npz", "samples with inputs=FILE.npz"),
        ("--metric metric:accuracy for metric.py", "--metric metric:accuracy for metric.py"),
        ("python -m tf2onnx.convert --inputs X:0", "python -m tf2onnx.convert --inputs X:0"),
        ("graphprune check a b --shape x=1", "graphprune check a b --shape x=1"),
    ],
)
def test_how_flags_are_read(hint: str, said: str) -> None:
    assert spoken(hint, inspect.signature(graphprune.compile)) == said
