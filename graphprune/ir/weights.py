"""Which stored tensors are weights: what `params` counts, and which operator each of them feeds.

A weight is a stored tensor, in whatever form, whose elements a network learns: floating or quantised, an
initializer or a Constant node, read by its operator directly or through a constant expression (Cast,
Transpose, Reshape, DequantizeLinear, weight norm). Scales, zero points and indices are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import onnx_ir as ir

from graphprune.ir.graphs import graphs_of
from graphprune.ir.nodes import is_literal
from graphprune.ir.operators import Held, Operators


class Read(NamedTuple):
    """Input `position` of `node`, where a stored tensor or what is computed from it is read."""

    node: ir.Node
    position: int


@dataclass(frozen=True, eq=False)
class Weight:
    """A stored tensor that holds weights.

    Attributes:
        value: an initializer, or the output of a Constant node.
        tensor: its contents.
        packing: weights per stored element; 2 where one byte holds two of four bits.
        reads: operators that it ends up at, behind all constant expressions.
    """

    value: ir.Value
    tensor: ir.TensorProtocol
    packing: int
    reads: tuple[Read, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.tensor.size * self.packing


CODES = frozenset(
    [
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.INT4,
        ir.DataType.UINT4,
        ir.DataType.INT2,
        ir.DataType.UINT2,
    ]
)
"""Integers narrow enough to be quantised weights where no operator says so."""

FROM_CODES = frozenset(["DequantizeLinear", "QuantizeLinear"])
SCALED = frozenset(["Mul", "Div", "Sub", "Add"])
"""Operators that turn quantised numbers into what they stand for: (code - zero point) * scale."""


def find_weights(model: ir.Model, operators: Operators) -> dict[ir.Value, Weight]:
    """Every weight of a model by the value that holds it, its graphs in order."""
    constants = Constants(model, operators)
    found = {}
    for value, tensor in stored(model):
        weight = _weight(value, tensor, constants)
        if weight is not None:
            found[value] = weight
    return found


def parameters(model: ir.Model, operators: Operators) -> int:
    """Elements of all weights, each stored tensor once."""
    found = find_weights(model, operators).values()
    return sum({id(weight.tensor): weight.size for weight in found}.values())


def stored_bytes(model: ir.Model) -> int:
    """Bytes of all stored tensors, weights or not, each once."""
    return sum({id(tensor): tensor.nbytes for _, tensor in stored(model)}.values())


def stored(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Stored tensors with the values that hold them: initializers and Constant nodes of every graph."""
    for graph in graphs_of(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value, value.const_value
        for node in graph:
            if is_literal(node) and "value" in node.attributes:
                # as_tensor() checks a protocol, which is slow
                yield node.outputs[0], cast(ir.TensorProtocol, node.attributes["value"].value)


class Constants:
    """Values that are the same in every run: stored ones, and what is computed from nothing else."""

    def __init__(self, model: ir.Model, operators: Operators) -> None:
        self._operators = operators
        self.values = {value for value, _ in stored(model)}
        self._decoded: set[ir.Value] = set()
        for graph in graphs_of(model):
            for node in graph:
                if self.computes(node):
                    self._compute(node)

    def computes(self, node: ir.Node) -> bool:
        """Whether a node belongs to a constant expression."""
        inputs = [value for value in node.inputs if value is not None]
        if not inputs or not all(value in self.values for value in inputs):
            return False
        return all(attribute.type != ir.AttributeType.GRAPH for attribute in node.attributes.values())

    def held(self, node: ir.Node) -> tuple[Held, ...]:
        """Inputs that hold data, of an operator on codes."""
        operator = self._operators(node)
        return () if operator is None else operator.held

    def _compute(self, node: ir.Node) -> None:
        self.values.update(node.outputs)
        first = node.inputs[0]
        casts = node.op_type == "Cast" and first is not None and first.dtype in CODES
        if casts or (node.op_type not in FROM_CODES and any(v in self._decoded for v in node.inputs)):
            self._decoded.update(node.outputs)

    def scales(self, read: Read) -> bool:
        """Whether a factor or summand turns quantised numbers into what they stand for."""
        if read.node.op_type not in SCALED:
            return False
        others = (value for at, value in enumerate(read.node.inputs) if at != read.position)
        return any(
            value is not None and (value in self._decoded or self._is_counted(value)) for value in others
        )

    def _is_counted(self, value: ir.Value) -> bool:
        """Whether a value is a product of integers, or the scale that was found for one factor of it."""
        producer = value.producer()
        if producer is not None and producer.op_type == "Cast":
            before = producer.inputs[0]
            producer = None if before is None else before.producer()
            return producer is not None and any(each.scales == () for each in self.held(producer))
        return producer is not None and producer.op_type == "DynamicQuantizeLinear"


def _weight(value: ir.Value, tensor: ir.TensorProtocol, constants: Constants) -> Weight | None:
    floating = tensor.dtype.is_floating_point()
    if not floating and tensor.dtype not in (*CODES, ir.DataType.INT32):
        return None
    reads = tuple(_reads(value, constants))
    holding = [read for read in reads if _holds(read, tensor, constants)]
    if not holding and (reads or not floating):
        return None
    packing = max((_packing(read, tensor, constants) for read in holding), default=1)
    return Weight(value, tensor, packing, tuple(_ends(holding, constants)))


def _reads(value: ir.Value, constants: Constants) -> Iterator[Read]:
    """Where a value is read: at an operator that computes, or at one that says what it stands for."""
    work, seen = [value], {value}
    while work:
        for node, position in work.pop().uses():
            read = Read(node, position)
            decodes = value.dtype in CODES and node.op_type == "Cast"
            if constants.held(node) or decodes or constants.scales(read) or not constants.computes(node):
                yield read
            else:
                work.extend(out for out in node.outputs if out not in seen)
                seen.update(node.outputs)


def _holds(read: Read, tensor: ir.TensorProtocol, constants: Constants) -> bool:
    """Whether what is read there is data, not a scale, a zero point or an index."""
    held = constants.held(read.node)
    if held:
        return read.position in {each.position for each in held}
    if constants.scales(read):
        return False
    if tensor.dtype.is_floating_point():
        return True
    if read.node.op_type == "Cast":
        return tensor.dtype in CODES and tensor.size > 1
    return tensor.dtype in CODES and read.node.op_type == "Gather" and read.position == 0


def _packing(read: Read, tensor: ir.TensorProtocol, constants: Constants) -> int:
    names = [each.bits for each in constants.held(read.node) if each.position == read.position]
    if tensor.dtype != ir.DataType.UINT8 or not names or names[0] is None:
        return 1
    attribute = read.node.attributes.get(names[0])
    return 8 // (4 if attribute is None else attribute.as_int())


def _ends(reads: Sequence[Read], constants: Constants) -> Iterator[Read]:
    """Operators behind the whole constant expression, DequantizeLinear and the like included."""
    work, seen = list(reads), set(reads)
    while work:
        read = work.pop(0)
        if not constants.computes(read.node):
            yield read
            continue
        behind = [Read(*use) for out in read.node.outputs for use in out.uses()]
        work.extend(each for each in behind if each not in seen)
        seen.update(behind)
