"""Powers as products."""

from __future__ import annotations

import onnx_ir as ir

from graphprune.lowering.rule import REALS, Rewrite, Rule
from graphprune.lowering.rules.activations import example
from graphprune.lowering.scene import Scene, is_op


def squared(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Pow(x, 2), but in a normalisation, which ONNX Runtime fuses by it."""
    x, exponent = node.inputs[:2]
    if x is None or x.dtype != node.outputs[0].dtype or scene.number(exponent, x) != 2:
        return None
    if any(is_op(user, "ReduceMean") for user, _ in node.outputs[0].uses()):
        return None
    return Rewrite((node,), lambda to: to.op("Mul", x, x))


RULES = (
    Rule(
        "square",
        ("Pow",),
        "Pow(x, 2)",
        "x · x",
        "no ReduceMean reads it, as in normalisations that ONNX Runtime fuses",
        "bits",
        squared,
        example("n@ = Constant<value_float=2.0>()\nu@ = Pow(t@,n@)"),
        types=REALS,
    ),
)
