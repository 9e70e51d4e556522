"""The normal form that proofs start from is compared with the file itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.ir.operators import Operators
from graphprune.ir.shapes import Sizes
from graphprune.pipeline import agreement
from graphprune.pipeline import compile as driver
from graphprune.pipeline.manager import ProofError
from graphprune.pipeline.passes import Context, Subject
from graphprune.prune.plan import Plan
from tests.proof.building import model as built

from .conftest import Half, mlp


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


@dataclass(frozen=True)
class Meddling(Half):
    """Changes the model that it was to decide about."""

    name: ClassVar[str] = "meddling"

    def decide(self, subject: Subject, context: Context) -> Plan:
        weight = subject.model.graph.initializers["w3"]
        assert weight.const_value is not None
        weight.const_value = ir.Tensor(weight.const_value.numpy() * np.float32(1.01), name=weight.name)
        return super().decide(subject, context)


def test_what_a_pass_does_to_the_normal_form_is_noticed(model: Path) -> None:
    with pytest.raises(ProofError, match="normalising the model changed what it computes"):
        graphprune.compile(model, Meddling())


DRAWN = """(float[n,6] x) => (float[n,4] y) {
    a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2)
    noise = RandomNormalLike <seed = 1.0> (c) y = Add(c, noise)
}"""


@pytest.mark.parametrize(("text", "opened"), [(None, 1), (DRAWN, 2)])
def test_the_normal_form_is_opened_once_unless_its_runs_are_counted(
    monkeypatch: pytest.MonkeyPatch, text: str | None, opened: int
) -> None:
    dense = built(text, 18, w1=(6, 8), w2=(8, 4)) if text else mlp()
    sessions: list[agreement.OpenedOnce] = []
    monkeypatch.setattr(agreement.OpenedOnce, "_open", lambda once: sessions.append(once) or honest(once))
    graphprune.compile(dense, Half())
    assert len(sessions) == opened


honest = agreement.OpenedOnce._open
