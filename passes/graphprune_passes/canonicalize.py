"""Saves the normal form that every other pass reads, with optional clean-ups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from graphprune.errors import ArgumentError
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.passes import Context, Pass, Turn, argument


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Inlines functions, lifts constants, folds static shape arithmetic and weight-only chains."""

    name: ClassVar[str] = "canonicalize"
    turn: ClassVar[Turn | None] = "normalise"

    optimizer: Literal["none", "onnxscript"] = argument(
        "none", "further clean-up; onnxscript must be installed and takes 0.3 to 90 s"
    )

    def transform(self, model: ir.Model, context: Context) -> ir.Model:
        """The model in normal form."""
        normalise(model, record_of)
        if self.optimizer == "onnxscript":
            _optimize(model)
        return model


def _optimize(model: ir.Model) -> None:
    try:
        from onnxscript import optimizer
    except ImportError:
        raise ArgumentError("optimizer=onnxscript needs onnxscript", "pip install onnxscript") from None
    optimizer.optimize_ir(model, num_iterations=2)
