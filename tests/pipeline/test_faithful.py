"""The normal form that proofs start from is compared with the file itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.ir.operators import Operators
from graphprune.ir.shapes import Sizes
from graphprune.pipeline import compile as driver
from graphprune.pipeline.manager import ProofError

from .conftest import Half


def careless(model: ir.Model, operators: Operators, shapes: Mapping[str, Sequence[int]]) -> Sizes:
    """A normal form with one weight a little off."""
    sizes = normalise(model, operators, shapes)
    weight = next(v for v in model.graph.initializers.values() if v.const_value is not None)
    assert weight.const_value is not None
    weight.const_value = ir.Tensor(weight.const_value.numpy() * np.float32(1.01), name=weight.name)
    return sizes


normalise = driver.normalise


@pytest.mark.parametrize("memory", [False, True])
def test_a_normal_form_that_computes_something_else_is_no_base_for_a_proof(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    monkeypatch.setattr(driver, "normalise", careless)
    with pytest.raises(ProofError, match="normalising the model changed what it computes"):
        graphprune.compile(ir.load(model) if memory else model, Half(), tmp_path / "small.onnx")
    assert not (tmp_path / "small.onnx").exists()


def test_an_honest_normal_form_says_nothing(model: Path) -> None:
    assert graphprune.compile(model, Half()).report.warnings == ()
