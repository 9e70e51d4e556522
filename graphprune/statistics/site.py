"""A Site: a node that contracts an activation edge with a constant weight, seen as y = W x."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.axes.groups import Slice
from graphprune.ir.arrays import Array, Floats, Ids
from graphprune.labels.state import Use
from graphprune.ops import has
from graphprune.ops.record import Layer
from graphprune.ops.traits import Trait
from graphprune.statistics.stored import Grid, Stored

WHOLE_COLUMNS = 2**14
"""Most columns of a matrix of second moments: 2 GB, and minutes to solve with."""


@dataclass(frozen=True, eq=False)
class Site:
    """A node that multiplies a constant weight with an activation.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul; LSTM, GRU or RNN, whose W multiplies their input.
        layer: what its record says about its weight.
        position: input position of the weight.
        edge: the activation that is contracted.
        stored: how the weight is stored.
        bias: initializer that is added to the result: input 2 of Conv, ConvTranspose and Gemm, or the 1-D
            constant of an Add that alone reads a MatMul; None where a vector per output has no such place.
            Input 3 of a recurrent node, whose first half is added.
        held: a bias that is no plain vector of a Conv, Gemm or MatMul: integers on a grid of its own, or
            what a product of integers adds; it is changed where it is stored.
        name: the weight's name; "weight@output" where several Sites read that weight.
        blocks: groups of a convolution, else 1.
        in_axis, out_axis: channel axis of `edge` and of `output`; negative where counted from the end.
        kernel: window of a convolution, empty for a product.
        transposed: whether the weight is stored with its input axis first.
        reads: what the integers of `edge` stand for; None where it holds floats.
    """

    node: ir.Node
    layer: Layer
    position: int
    edge: ir.Value
    stored: Stored
    bias: ir.Value | None
    held: Stored | None
    name: str
    blocks: int
    in_axis: int
    out_axis: int
    kernel: tuple[int, ...]
    transposed: bool
    reads: Grid | None = None

    @property
    def weight(self) -> ir.Value:
        """The initializer that holds the weight."""
        return self.stored.value

    @property
    def use(self) -> Use:
        """Where the stored tensor is read, on the way to the node."""
        return self.stored.chain.use(Use(self.node, self.position))

    @property
    def hidden(self) -> bool:
        """Whether W x is no value of the graph: gates of a recurrent node, or a product of integers."""
        return self.layer.result == "hidden"

    @property
    def recurrent(self) -> bool:
        """Whether the rows of W are gates, over all directions."""
        return has(self.node, Trait.RECURRENT)

    @property
    def windowed(self) -> bool:
        """Whether columns are windows of a convolution."""
        return self.layer.kernel == "columns"

    @property
    def output(self) -> ir.Value:
        """What the node computes, before an Add that holds the bias; of a hidden Site not W x."""
        return self.node.outputs[0]

    @property
    def scale(self) -> float:
        """Factor between the stored weight and W: alpha of a Gemm."""
        return number_of(self.node, "alpha")

    @property
    def bias_scale(self) -> float:
        """Factor between the stored bias and what is added: beta of a Gemm, alpha of one of integers."""
        return number_of(self.node, self.layer.factor)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight as the node reads it."""
        return self.stored.shape

    @property
    def outputs(self) -> int:
        """Output channels over all blocks."""
        if self.recurrent:
            return prod(self.shape[:-1])
        outer = self.shape[1 if self.transposed else 0]
        return outer * self.blocks if self.layer.kernel == "rows" else outer

    @property
    def row_span(self) -> int:
        """Rows of W per output channel: positions of the kernel for a ConvTranspose, else 1."""
        return prod(self.kernel) if self.layer.kernel == "rows" else 1

    @property
    def column_span(self) -> int:
        """Columns of W per input channel: positions of the kernel for a Conv, else 1."""
        return prod(self.kernel) if self.windowed else 1

    @property
    def slot_span(self) -> int:
        """Columns of W per slot of the stored tensor's input axis: those of a block where it is packed."""
        packing = self.stored.packing
        return self.column_span if packing is None else packing.block

    @property
    def columns(self) -> int:
        """Columns of W per block."""
        size = prod(self.shape)
        return size // (self.outputs * self.row_span)

    @property
    def dense(self) -> Floats:
        """W, [blocks, rows, columns], at least in single precision."""
        found = self.matrix(self.stored.read())
        return np.asarray(found, np.result_type(found.dtype, np.float32))

    def matrix(self, array: Array) -> Array:
        """W as [blocks, rows, columns] of a weight in the layout that the node reads, alpha included.

        Columns of a Conv are ordered (input channel, kernel position). A ConvTranspose has columns only for
        its input channels, and a row for every (output channel, kernel position).
        """
        found = self.arranged(array)
        return found if self.scale == 1 else np.multiply(found, self.scale, dtype=found.dtype)

    def arranged(self, array: Array) -> Array:
        """The elements of a weight where `matrix` has them, as they are."""
        rows = self.outputs * self.row_span // self.blocks
        if self.transposed:
            return array.reshape(self.blocks, self.columns, rows).transpose(0, 2, 1)
        return array.reshape(self.blocks, rows, self.columns)

    def restore(self, matrix: Array) -> Array:
        """The weight in its stored layout and type: the inverse of `matrix`."""
        found = matrix if self.scale == 1 else np.divide(matrix, self.scale, dtype=matrix.dtype)
        return self.stored.write(self.shaped(found))

    def shaped(self, matrix: Array) -> Array:
        """A matrix in the layout that the node reads."""
        found = matrix.transpose(0, 2, 1) if self.transposed else matrix
        return found.reshape(self.shape)

    def numbers(self, edge: Array) -> Array:
        """What values of the edge stand for."""
        return edge if self.reads is None else self.reads.values(edge)

    def columns_of(self, touched: Slice) -> tuple[Ids, Ids]:
        """(unit, column) pairs of a sink (or depthwise) Slice; column counts over all blocks."""
        per_block = self.columns // self.slot_span
        if self._is_input(self._axis(touched)):
            return self._spread(touched, per_block, self.slot_span)
        units, slots = touched.pairs  # depthwise: a Unit owns whole blocks
        blocks = slots // max(1, self.outputs // self.blocks)
        pairs = np.unique(np.stack([units, blocks]), axis=1)
        return _widen(pairs[0], pairs[1], self.columns)

    def rows_of(self, touched: Slice) -> tuple[Ids, Ids]:
        """(unit, row) pairs of a source Slice; row counts over all blocks, and over all directions."""
        if self.recurrent:
            units, slots = touched.pairs
            starts = np.arange(self.shape[0]) * self.shape[1]
            return np.repeat(units, len(starts)), (slots[:, None] + starts).ravel()
        return self._spread(touched, self.outputs // self.blocks, self.row_span)

    def owns(self, touched: Slice) -> bool:
        """Whether a Slice is about this Site's weight, at this node."""
        return touched.use == self.use and touched.axis in self.stored.chain.axes

    def _axis(self, touched: Slice) -> int:
        """The axis as the node sees it."""
        return self.stored.chain.axes.index(touched.axis)

    def _is_input(self, axis: int) -> bool:
        return axis == (2 if self.recurrent else 0 if self.transposed else 1)

    def _spread(self, touched: Slice, per_block: int, span: int) -> tuple[Ids, Ids]:
        units, slots = touched.pairs
        if touched.length == per_block and self.blocks > 1:  # the same slot of every block
            starts = np.arange(self.blocks) * per_block
            units, slots = np.repeat(units, self.blocks), (slots[:, None] + starts).ravel()
        return _widen(units, slots, span)


def number_of(node: ir.Node, name: str) -> float:
    """An attribute of a node; 1 where it is not given."""
    return node.attributes.get_float(name, 1.0)


def _widen(units: Ids, slots: Ids, span: int) -> tuple[Ids, Ids]:
    wide = slots[:, None] * span + np.arange(span)
    return np.repeat(units, span), wide.ravel()
