"""What may stand between a stored weight and the node that multiplies with it."""

from __future__ import annotations

import onnx_ir as ir

from graphprune.labels.state import Step
from graphprune.ops import has
from graphprune.ops.traits import Trait


def step_of(node: ir.Node) -> Step | None:
    """What a node makes of the weight at its input 0; None where that is no longer the weight."""
    cast = "to" in node.attributes and has(node, Trait.CAST)
    if cast or has(node, Trait.COPY, Trait.DEQUANTISE):
        return "kept"
    if has(node, Trait.TRANSPOSE):
        return "transposed"
    return "shaped" if has(node, Trait.RESHAPE) else None
