"""Tiny models of every class, a Plan for them, and the rewrite under proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.axes import Analysis, Options, analyse
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.proof import Proof, prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.run import Run
from graphprune.runtime.inputs import runnable_inputs

HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>\ng '
SHARES = {"third": 2 / 3, "half": 1 / 2}


@dataclass(frozen=True, eq=False)
class Case:
    """A dense model, a plan for it, and its rewrite."""

    dense: ir.Model
    analysis: Analysis
    plan: Plan
    pruned: ir.Model
    feeds: list[dict[str, np.ndarray]]

    def prove(self, pruned: ir.Model | None = None) -> Proof:
        return prove(self.dense, self.analysis, self.plan, pruned or self.pruned, self.feeds)

    def node(self, name: str) -> ir.Node:
        return next(node for node in self.pruned.graph if node.name == name)

    def tensor(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replaces an initializer of the pruned model by a changed copy."""
        value = self.pruned.graph.initializers[name]
        assert value.const_value is not None
        array = change(np.array(value.const_value.numpy()))
        value.const_value = ir.tensor(np.ascontiguousarray(array), name=name)


def model(body: str, opset: int = 17, dtype: type = np.float32, **weights: object) -> ir.Model:
    """A normalised model from ONNX text; a tuple stands for random weights of that shape."""
    built = parsed(body, opset, dtype, **weights)
    normalise(built, record_of)
    return built


def parsed(body: str, opset: int = 17, dtype: type = np.float32, **weights: object) -> ir.Model:
    """The same as it is written."""
    rng = np.random.default_rng(7)
    tensors = []
    for name, weight in weights.items():
        array = rng.standard_normal(weight).astype(dtype) if isinstance(weight, tuple) else np.asarray(weight)
        tensors.append(ir.tensor(array, name=name))
    built = ir.from_onnx_text(HEADER.format(opset=opset) + body, initializers=tensors)
    for value in built.graph.initializers.values():  # the text format gives them neither type nor shape
        assert value.const_value is not None
        value.dtype, value.shape = value.const_value.dtype, value.const_value.shape
    return built


def keep(analysis: Analysis, share: float, seed: int = 3) -> Plan:
    """A random plan that keeps this share of every prunable Group, equal per block."""
    rng = np.random.default_rng(seed)
    cuts = {}
    for group in analysis.prunable:
        block = np.zeros(group.size, int) if group.block is None else group.block
        kept: list[int] = []
        for number in np.unique(block):
            members = np.flatnonzero(block == number)
            count = max(1, group.floor if group.block is None else 1, int(np.ceil(len(members) * share)))
            kept += rng.permutation(members)[:count].tolist()
        cuts[group.id] = tuple(sorted(kept))
    return Plan(analysis.options, cuts, {name: analysis.group(name).size for name in cuts})


def cut(
    dense: ir.Model, options: Options | None = None, share: float = 0.5, plan: Plan | None = None
) -> Case:
    analysis = analyse(dense, options)
    plan = plan or keep(analysis, share)
    assert any(len(kept) < plan.widths[name] for name, kept in plan.cuts.items()), "nothing is cut"
    feeds = [runnable_inputs(dense, run=Run(seed)) for seed in (0, 1)]
    return Case(dense, analysis, plan, rewrite(dense, analysis, plan), feeds)
