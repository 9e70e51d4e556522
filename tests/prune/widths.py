"""Small models for decisions: what is kept, at which cost."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.axes import Analysis
from graphprune.prune.plan import Plan
from graphprune.prune.scoring import score_groups
from tests.axes.claims import sketch

Array = np.ndarray

MLP = "(float[n,{0}] x) => (float[n,3] y) {{ a = MatMul(x, w1)\n b = Relu(a)\n y = MatMul(b, w2) }}"
DEEP = """(float[n,6] x) => (float[n,4] y) {
    a = MatMul(x, w1)\n b = Tanh(a)\n c = MatMul(b, w2)\n d = Tanh(c)\n e = MatMul(d, w3)\n f = Tanh(e)
    y = MatMul(f, w4) }"""
CONVS = """(float[n,3,8,8] x) => (float[n,5,8,8] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)\n b = Relu(a)\n c = Conv <pads = [1, 1, 1, 1]> (b, w2)
    d = Relu(c)\n y = Conv(d, w3) }"""
NORMED = """(float[n,3,6,6] x) => (float[n,2,6,6] y) { a = Conv(x, w1)\n b = BatchNormalization(a, g, s, m, v)
    c = Relu(b)\n y = Conv(c, w2) }"""
GROUPED = """(float[n,3,6,6] x) => (float[n,2,4,4] y) {{ a = Conv(x, w1)\n b = Relu(a)
    c = Conv <group = {g}> (b, w2)
    d = Relu(c)\n y = Conv(d, w3) }}"""


def rows(*vectors: object) -> Analysis:
    """Units whose weights are exactly these vectors."""
    w1 = np.array(vectors, np.float32).T
    return sketch(MLP.format(w1.shape[0]), w1=w1, w2=(w1.shape[1], 3))


def scores(analysis: Analysis, criterion: str, seed: int = 0) -> Array:
    """Scores of the first prunable Group."""
    group = analysis.prunable[0]
    return score_groups(analysis, (group,), criterion, seed)[group.id]


def deep() -> ir.Model:
    return sketch(DEEP, w1=(6, 20), w2=(20, 40), w3=(40, 12), w4=(12, 4)).model


def convs(*widths: int) -> ir.Model:
    return sketch(
        CONVS, w1=(widths[0], 3, 3, 3), w2=(widths[1], widths[0], 3, 3), w3=(5, widths[1], 1, 1)
    ).model


def grouped(g: int) -> ir.Model:
    return sketch(GROUPED.format(g=g), w1=(16, 3, 1, 1), w2=(24, 16 // g, 3, 3), w3=(2, 24, 1, 1)).model


def plan_of(model: ir.Model, passes: str, **options: object) -> Plan:
    """What a pipeline of one pass decides."""
    (plan,) = graphprune.compile(model, passes, **options).plans  # type: ignore[arg-type]
    return plan


def widths(plan: Plan) -> dict[str, int]:
    """Kept Units per Group."""
    return {name: len(kept) for name, kept in plan.cuts.items()}


def params(model: ir.Model) -> int:
    """Elements of floating initializers."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return sum(t.size for t in tensors if t is not None and t.dtype.is_floating_point())
