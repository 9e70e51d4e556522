"""Declared biases: a model with biases is the dense one plus exactly the vectors that the Plan names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Doubles
from graphprune.ir.graphs import all_nodes, graphs_of
from graphprune.ir.names import called
from graphprune.proof.pairing import (
    INSERTED,
    contents,
    is_constant,
    same_attribute,
    subgraphs,
)

WITH_BIAS = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Operators whose third input is their bias."""


def undeclared(dense: ir.Model, biased: ir.Model, biases: Mapping[str, Array]) -> tuple[str, ...]:
    """Differences between two models that these biases do not explain, and biases that are not there.

    Three forms of a bias are known: the bias input of a Conv or Gemm, the constant of the Add that alone
    reads a MatMul, and an inserted Add that every reader of the value now reads. Every number is compared bit
    by bit with the double-precision sum, rounded once.
    """
    return tuple(_Comparison(dense, biased, dict(biases)).differences())


@dataclass(eq=False)
class _Comparison:
    """Two models side by side."""

    dense: ir.Model
    biased: ir.Model
    biases: dict[str, Array]
    values: dict[ir.Value, ir.Value] = field(default_factory=dict)
    explained: set[str] = field(default_factory=set)

    def differences(self) -> Iterator[str]:
        pairs, adds, problems = self._paired()
        yield from problems
        if problems:
            return
        for add in adds:
            yield from self._inserted(add)
        for one, two in pairs:
            yield from self._node(one, two)
        yield from self._results()
        for name in sorted(self.biases.keys() - self.explained):
            if np.any(self.biases[name]):
                yield f"the bias of {name!r} is not in the model"

    def _paired(self) -> tuple[list[tuple[ir.Node, ir.Node]], list[ir.Node], list[str]]:
        """Nodes by order and name; what only the second model has must be an inserted Add."""
        rest = list(all_nodes(self.biased.graph))[::-1]
        pairs: list[tuple[ir.Node, ir.Node]] = []
        adds: list[ir.Node] = []
        for node in all_nodes(self.dense.graph):
            while rest and not _alike(node, rest[-1]) and _is_inserted(rest[-1]):
                adds.append(rest.pop())
            if not rest or not _alike(node, rest[-1]):
                return pairs, adds, [f"{called(node)} has no counterpart in the model with biases"]
            pairs.append((node, rest.pop()))
            self.values.update(zip(node.outputs, pairs[-1][1].outputs, strict=True))
        adds += [node for node in rest if _is_inserted(node)]
        problems = [f"{called(node)} is new" for node in rest if not _is_inserted(node)]
        inputs = [self.dense.graph.inputs, self.biased.graph.inputs]
        if [v.name for v in inputs[0]] != [v.name for v in inputs[1]]:
            problems.append("the graph inputs differ")
        self.values.update(zip(*inputs, strict=False))
        for one, two in pairs:
            for graph, other in zip(subgraphs(one), subgraphs(two), strict=False):
                self.values.update(zip(graph.inputs, other.inputs, strict=False))
        return pairs, adds, problems

    def _inserted(self, add: ir.Node) -> Iterator[str]:
        """An Add that stands behind a dense value: from now on its result is that value's partner."""
        dense = next((old for old, new in self.values.items() if new is add.inputs[0]), None)
        producer = None if dense is None else dense.producer()
        if dense is None or producer is None or not is_constant(add.inputs[1]):
            yield f"{called(add)} adds nothing that a plan can declare"
            return
        name = dense.name or ""
        expected = self._vector(producer, name, spread=True)
        if expected is None:
            yield f"{called(add)} adds to {name!r}, for which the plan declares no bias"
        elif not _same(np.zeros(()), expected, contents(add.inputs[1])):
            yield f"{called(add)} does not add the declared bias to {name!r}"
        self.explained.add(name)
        self.values[dense] = add.outputs[0]

    def _node(self, one: ir.Node, two: ir.Node) -> Iterator[str]:
        if one.attributes.keys() != two.attributes.keys() or any(
            not same_attribute(one.attributes[key], two.attributes[key]) for key in one.attributes
        ):
            yield f"the attributes of {called(one)} differ"
        for position in range(max(len(one.inputs), len(two.inputs))):
            old, new = _input(one, position), _input(two, position)
            # In this order: a bias may be so small that the sum rounds to the dense constant.
            if not self._declared(one, position, old, new) and not self._follows(old, new):
                yield f"input {position} of {called(one)} is not the dense model's, and no bias explains it"

    def _follows(self, old: ir.Value | None, new: ir.Value | None) -> bool:
        if old is None or new is None:
            return old is new
        if is_constant(old) and is_constant(new):
            return _equal(contents(old), contents(new))
        return self.values.get(old) is new

    def _declared(self, node: ir.Node, position: int, old: ir.Value | None, new: ir.Value | None) -> bool:
        """Whether a constant is the dense one plus the bias of the value that it belongs to."""
        if not is_constant(new) or not (old is None or is_constant(old)):
            return False
        target, factor = self._target(node, position)
        name = "" if target is None else target.outputs[0].name or ""
        expected = None if target is None else self._vector(target, name, spread=target is not node)
        if expected is None or name in self.explained:
            return False
        base = np.zeros(()) if old is None else np.asarray(contents(old).numpy())
        if not _same(base.astype(np.float64), expected / factor, contents(new)):
            return False
        self.explained.add(name)
        return True

    @staticmethod
    def _target(node: ir.Node, position: int) -> tuple[ir.Node | None, float]:
        """Whose result a constant input is added to, and what multiplies it on the way."""
        if node.op_type in WITH_BIAS:
            scale = node.attributes.get_float("beta", 1.0)
            return (node, scale) if position == 2 and not _left(node) else (None, 1.0)
        other = _input(node, 1 - position) if node.op_type == "Add" else None
        if other is None or len(other.uses()) > 1 or other.is_graph_output():
            return None, 1.0
        producer = other.producer()
        return (producer if producer is not None and producer.op_type == "MatMul" else None), 1.0

    def _vector(self, node: ir.Node, name: str, spread: bool) -> Doubles | None:
        """The declared vector, if asked for in a shape that broadcasts against the node's result."""
        if name not in self.biases:
            return None
        vector = np.asarray(self.biases[name], np.float64)
        if not spread:
            return vector
        shape = node.outputs[0].shape
        if node.op_type in WITH_BIAS - {"Gemm"}:
            return vector.reshape(-1, *[1] * (0 if shape is None else len(shape) - 2))
        return vector.reshape(-1, 1) if _left(node) else vector

    def _results(self) -> Iterator[str]:
        """Graph outputs, those of branches included."""
        for one, two in zip(graphs_of(self.dense), graphs_of(self.biased), strict=True):
            if len(one.outputs) != len(two.outputs):
                yield "the number of graph outputs differs"
            for old, new in zip(one.outputs, two.outputs, strict=False):
                if old.name != new.name or not self._follows(old, new):
                    yield f"graph output {old.name!r} comes from something else"


def _alike(one: ir.Node, two: ir.Node) -> bool:
    return (one.op_type, one.domain, one.name) == (two.op_type, two.domain, two.name) and len(
        one.outputs
    ) == len(two.outputs)


def _left(node: ir.Node) -> bool:
    """Whether a product has its weight on the left: its channels are the second axis from the end."""
    return (
        node.op_type in ("MatMul", "Gemm") and is_constant(node.inputs[0]) and not is_constant(node.inputs[1])
    )


def _is_inserted(node: ir.Node) -> bool:
    plain = (node.op_type, node.domain) == ("Add", "") and not node.attributes
    return plain and (node.name or "").startswith(INSERTED)


def _input(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _equal(one: ir.TensorProtocol, two: ir.TensorProtocol) -> bool:
    return one is two or (
        one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
    )


def _same(base: Doubles, vector: Doubles, found: ir.TensorProtocol) -> bool:
    """Whether a tensor is base + vector, rounded once."""
    actual = np.asarray(found.numpy())
    with np.errstate(over="ignore"):
        expected = (base + vector).astype(actual.dtype)
    return expected.shape == actual.shape and expected.tobytes() == np.ascontiguousarray(actual).tobytes()
