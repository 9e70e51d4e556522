"""Small graphs from tables, and the claim every rule must keep: cut and run equals the masked dense model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.axes import Analysis, Options, analyse
from graphprune.axes.cost import CostModel, cost
from graphprune.axes.kept import Kept
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.proof.prove import prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite

Array = np.ndarray
Attributes = Mapping[str, object]
NodeRow = tuple[str, Sequence[str], Sequence[str], Attributes]
"""Operator ("domain:Name" outside the default domain), inputs, outputs, attributes."""


def floats(*shape: int, seed: int = 7) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def signed(*shape: int) -> Array:
    return np.random.default_rng([11, *shape]).integers(-100, 100, shape).astype(np.int8)


def unsigned(*shape: int) -> Array:
    return np.random.default_rng([13, *shape]).integers(0, 256, shape).astype(np.uint8)


def scales(*shape: int) -> Array:
    return np.random.default_rng([17, *shape]).uniform(0.005, 0.02, shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A graph and what the analysis must find in it.

    Attributes:
        units: sizes of the prunable Groups, ascending.
        runs: False where ONNX Runtime has no CPU kernel, so that only the analysis is checked.
        adds: numbers that edits add, which are counted as parameters.
    """

    name: str
    feeds: Mapping[str, Array]
    weights: Mapping[str, Array | tuple[int, ...]]
    nodes: Sequence[NodeRow]
    outputs: Sequence[str]
    units: Sequence[int]
    options: Options = field(default_factory=Options)
    opset: int = 23
    runs: bool = True
    adds: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def model(self) -> ir.Model:
        """The graph; weights given as shapes are seeded normal numbers."""
        values = {name: _value(name, array) for name, array in self.feeds.items()}
        inputs = list(values.values())
        for index, (name, weight) in enumerate(self.weights.items()):
            array = weight if isinstance(weight, np.ndarray) else floats(*weight, seed=100 + index)
            values[name] = _value(name, array)
            values[name].const_value = ir.Tensor(array, name=name)
        constants = [values[name] for name in self.weights]
        nodes = [_node(row, index, values) for index, row in enumerate(self.nodes)]
        for name, shape in self.shapes.items():
            values[name].shape = ir.Shape(shape)
        outputs = [values[name] for name in self.outputs]
        for value in outputs:
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        imports = {"": self.opset, "com.microsoft": 1}
        graph = ir.Graph(
            inputs, outputs, nodes=nodes, initializers=constants, opset_imports=imports, name="case"
        )
        return ir.Model(graph, ir_version=10)


def _value(name: str, array: Array) -> ir.Value:
    return ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype))
    )


def _node(row: NodeRow, index: int, values: dict[str, ir.Value]) -> ir.Node:
    operator, inputs, outputs, attributes = row
    domain, _, op_type = operator.rpartition(":")
    made = [ir.Value(name=name) for name in outputs]
    values.update({value.name or "": value for value in made})
    given = [values[name] if name else None for name in inputs]
    converted = ir.convenience.convert_attributes(dict(attributes))
    return ir.Node(domain, op_type, given, attributes=converted, outputs=made, name=f"{op_type}_{index}")


def analysed(case: Case) -> Analysis:
    model = case.model()
    return analyse(model, case.options, normalise(model, record_of))


def plans(analysis: Analysis, share: float = 0.4) -> Iterator[Plan]:
    """Two seeded choices of Units that keep balance and floors."""
    for seed in (0, 1):
        draw = np.random.default_rng(seed)
        cuts = {
            group.id: _kept(group.size, group.block, group.floor, share, draw) for group in analysis.prunable
        }
        yield Plan(analysis.options, cuts, {group.id: group.size for group in analysis.prunable})


def _kept(
    size: int, block: Array | None, floor: int, share: float, draw: np.random.Generator
) -> tuple[int, ...]:
    members = [np.arange(size)] if block is None else [np.flatnonzero(block == b) for b in np.unique(block)]
    least = -(-max(1, floor) // len(members))
    kept = [draw.permutation(m)[: max(least, len(m) - max(1, int(share * len(m))))] for m in members]
    return tuple(int(i) for i in np.sort(np.concatenate(kept)))


def holds(case: Case) -> None:
    """Asserts the Groups of a case, and that cutting them equals masking them."""
    analysis = analysed(case)
    found = sorted(group.size for group in analysis.prunable)
    pins = {group.id: group.pin.reason for group in analysis.groups if group.pin is not None}
    assert found == list(case.units), (found, pins)
    if not case.runs or not found:
        return
    for plan in plans(analysis):
        assert not plan.empty
        pruned = rewrite(analysis.model, analysis, plan)
        proof = prove(analysis.model, analysis, plan, pruned, [dict(case.feeds)])
        assert proof.ok, proof.details
        counts_as_foreseen(analysis, plan, pruned, case.adds)


def counts_as_foreseen(analysis: Analysis, plan: Plan, pruned: ir.Model, adds: int = 0) -> None:
    """Asserts that a budget judges what is then in the file, but for constants that an edit adds."""
    foreseen, kept, left = CostModel(analysis, {}), Kept(analysis, plan.cuts), cost(pruned, {})
    macs = None if foreseen.unknown else foreseen.macs(kept)
    assert (foreseen.params(kept) + adds, macs) == (left.params, left.macs)


def reasons(analysis: Analysis) -> set[str]:
    """Why Groups are pinned."""
    return {group.pin.reason for group in analysis.groups if group.pin is not None}
