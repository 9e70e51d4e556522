"""Sites: the nodes that contract an activation edge with a constant weight, each seen as y = W x."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.axes.groups import Slice
from graphprune.ir.arrays import Array, Floats, Ids
from graphprune.ir.domains import is_default
from graphprune.ir.shapes import Sizes, infer
from graphprune.labels.state import Use
from graphprune.statistics.stored import Stored, stored_of

WHOLE_COLUMNS = 2**14
"""Most columns of a matrix of second moments: 2 GB, and minutes to solve with."""
RECURRENT = ("LSTM", "GRU", "RNN")
INTEGER = ("MatMulInteger", "ConvInteger")
"""Products of what DynamicQuantizeLinear makes of a float edge."""
WEIGHT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True, eq=False)
class Site:
    """A node that multiplies a constant weight with an activation.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul; LSTM, GRU or RNN, whose W multiplies their input.
        position: input position of the weight.
        edge: the activation that is contracted.
        stored: how the weight is stored.
        bias: initializer that is added to the result: input 2 of Conv, ConvTranspose and Gemm, or the 1-D
            constant of an Add that alone reads a MatMul; None where a vector per output has no such place.
            Input 3 of a recurrent node, whose first half is added.
        coded: a bias that is stored as integers on a grid of its own.
        name: the weight's name; "weight@output" where several Sites read that weight.
        blocks: groups of a convolution, else 1.
        in_axis, out_axis: channel axis of `edge` and of `output`; negative where counted from the end.
        kernel: window of a convolution, empty for a product.
        transposed: whether the weight is stored with its input axis first.
    """

    node: ir.Node
    position: int
    edge: ir.Value
    stored: Stored
    bias: ir.Value | None
    coded: Stored | None
    name: str
    blocks: int
    in_axis: int
    out_axis: int
    kernel: tuple[int, ...]
    transposed: bool

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
        return self.recurrent or self.node.op_type in INTEGER

    @property
    def recurrent(self) -> bool:
        """Whether the rows of W are gates, over all directions."""
        return self.node.op_type in RECURRENT

    @property
    def windowed(self) -> bool:
        """Whether columns are windows of a convolution."""
        return self.node.op_type in ("Conv", "ConvInteger")

    @property
    def output(self) -> ir.Value:
        """What the node computes, before an Add that holds the bias; of a hidden Site not W x."""
        return self.node.outputs[0]

    @property
    def scale(self) -> float:
        """Factor between the stored weight and W: alpha of a Gemm."""
        return _float(self.node, "alpha")

    @property
    def bias_scale(self) -> float:
        """Factor between the stored bias and what is added: beta of a Gemm."""
        return _float(self.node, "beta")

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
        return outer * self.blocks if self.node.op_type == "ConvTranspose" else outer

    @property
    def row_span(self) -> int:
        """Rows of W per output channel: positions of the kernel for a ConvTranspose, else 1."""
        return prod(self.kernel) if self.node.op_type == "ConvTranspose" else 1

    @property
    def column_span(self) -> int:
        """Columns of W per input channel: positions of the kernel for a Conv, else 1."""
        return prod(self.kernel) if self.windowed else 1

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

    def columns_of(self, touched: Slice) -> tuple[Ids, Ids]:
        """(unit, column) pairs of a sink (or depthwise) Slice; column counts over all blocks."""
        per_block = self.columns // self.column_span
        if self._is_input(self._axis(touched)):
            return self._spread(touched, per_block, self.column_span)
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


def find_sites(model: ir.Model, sizes: Sizes | None = None) -> tuple[Site, ...]:
    """Every Site of the main graph, in its order; subgraphs have none."""
    sizes = sizes or infer(model)
    found = [site for node in model.graph for site in _sites(model.graph, node, sizes)]
    readers = Counter(site.weight for site in found)
    return tuple(_named(site, readers[site.weight]) for site in found)


def find_products(model: ir.Model, sizes: Sizes | None = None) -> tuple[Site, ...]:
    """The Sites whose W x is a value of the graph, and whose nodes read the stored weight itself."""
    return tuple(site for site in find_sites(model, sizes) if not site.hidden and site.stored.plain)


def _named(site: Site, readers: int) -> Site:
    if readers == 1:
        return site
    return replace(site, name=f"{site.name}@{site.output.name}")


def _sites(graph: ir.Graph, node: ir.Node, sizes: Sizes) -> Iterator[Site]:
    find = KINDS.get(node.op_type) if is_default(node.domain) else None
    if find is None:
        return
    for position in (0, 1):
        stored, edge = _weight(graph, Use(node, position), sizes), node.inputs[1 - position]
        if edge is None or stored is None or stored_of(edge, sizes) is not None:
            continue
        found = find(graph, node, position, stored, sizes)
        if found is not None:
            yield found


def _conv(graph: ir.Graph, node: ir.Node, position: int, stored: Stored, sizes: Sizes) -> Site | None:
    edge = node.inputs[0]
    if position != 1 or edge is None or len(stored.shape) < 3:
        return None
    blocks = node.attributes["group"].as_int() if "group" in node.attributes else 1
    bias, coded = _biases(graph, node, sizes)
    transposed = node.op_type == "ConvTranspose"
    name, kernel = stored.value.name or "", stored.shape[2:]
    return Site(node, 1, edge, stored, bias, coded, name, blocks, 1, 1, kernel, transposed)


def _gemm(graph: ir.Graph, node: ir.Node, position: int, stored: Stored, sizes: Sizes) -> Site | None:
    edge = node.inputs[1 - position]
    if edge is None or len(stored.shape) != 2:
        return None
    flags = (_flag(node, "transA"), _flag(node, "transB"))
    # A' is [M, K] and B' is [K, N]: contracted axes are 1 and 0 before a transposition.
    contracted = (0 if flags[0] else 1, 1 if flags[1] else 0)
    transposed = contracted[position] == 0
    bias, coded = _biases(graph, node, sizes)
    if position == 0 or _float(node, "beta") == 0:
        bias, coded = None, None  # C runs along the other axis, or is not added at all
    outputs = stored.shape[1 if transposed else 0]
    if bias is not None and prod(_shape(bias)) != outputs:
        bias = None
    if coded is not None and prod(coded.shape) != outputs:
        coded = None
    inner, name = contracted[1 - position], stored.value.name or ""
    return Site(node, position, edge, stored, bias, coded, name, 1, inner - 2, position - 2, (), transposed)


def _matmul(graph: ir.Graph, node: ir.Node, position: int, stored: Stored, sizes: Sizes) -> Site | None:
    edge = node.inputs[1 - position]
    shape = None if edge is None else sizes.shapes.get(edge)
    if edge is None or len(stored.shape) != 2 or shape is None or len(shape) < 2:
        return None
    axis = position - 2  # weight on the left: y[.., out, n] = W[out, in] x[.., in, n]
    bias = _added(graph, node.outputs[0], stored.shape[1]) if position == 1 else None
    name = stored.value.name or ""
    return Site(node, position, edge, stored, bias, None, name, 1, axis, axis, (), position == 1)


def _recurrent(graph: ir.Graph, node: ir.Node, position: int, stored: Stored, sizes: Sizes) -> Site | None:
    edge = node.inputs[0]
    if position != 1 or edge is None or len(stored.shape) != 3 or not stored.plain:
        return None
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    bias = bias if bias is not None and _is_weight(graph, bias) else None
    return Site(node, 1, edge, stored, bias, None, stored.value.name or "", 1, -1, -1, (), False)


def _integer(graph: ir.Graph, node: ir.Node, position: int, stored: Stored, sizes: Sizes) -> Site | None:
    """What the integers are made of is what the Site reads; its results are in units of both scales."""
    source = None if node.inputs[0] is None else node.inputs[0].producer()
    edge = source.inputs[0] if source is not None and source.op_type == "DynamicQuantizeLinear" else None
    rank = 2 if node.op_type == "MatMulInteger" else len(stored.shape)
    if position != 1 or edge is None or stored.grid is None or len(stored.shape) != rank:
        return None
    name = stored.value.name or ""
    if rank == 2:
        return Site(node, 1, edge, stored, None, None, name, 1, -1, -1, (), True)
    blocks = node.attributes["group"].as_int() if "group" in node.attributes else 1
    return Site(node, 1, edge, stored, None, None, name, blocks, 1, 1, stored.shape[2:], False)


KINDS: dict[str, Callable[[ir.Graph, ir.Node, int, Stored, Sizes], Site | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(RECURRENT, _recurrent),
    **dict.fromkeys(INTEGER, _integer),
}


def _added(graph: ir.Graph, product: ir.Value, outputs: int) -> ir.Value | None:
    readers = list(product.uses())
    if len(readers) != 1 or readers[0][0].op_type != "Add" or product.is_graph_output():
        return None
    node, position = readers[0]
    if not is_default(node.domain) or node.graph is not graph:
        return None
    other = _vector(graph, node.inputs[1 - position])
    return other if other is not None and _shape(other) == (outputs,) else None


def _vector(graph: ir.Graph, value: ir.Value | None) -> ir.Value | None:
    """A constant that holds one float per output, as [n] or [1, n]."""
    if value is None or not _is_weight(graph, value):
        return None
    shape = _shape(value)
    return value if len(shape) == 1 or (len(shape) == 2 and shape[0] == 1) else None


def _biases(graph: ir.Graph, node: ir.Node, sizes: Sizes) -> tuple[ir.Value | None, Stored | None]:
    """The bias input of a node, as a float vector or as one on a grid."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    plain = _vector(graph, value)
    stored = stored_of(value, sizes) if plain is None else None
    return plain, stored if stored is not None and stored.grid is not None else None


def _weight(graph: ir.Graph, use: Use, sizes: Sizes) -> Stored | None:
    stored = stored_of(use.node.inputs[use.position], sizes, use)
    if stored is None or graph.initializers.get(stored.value.name or "") is not stored.value:
        return None
    return stored if stored.grid is not None or stored.value.dtype in WEIGHT_TYPES else None


def _is_weight(graph: ir.Graph, value: ir.Value) -> bool:
    return _is_constant(graph, value) and value.dtype in WEIGHT_TYPES and not value.is_graph_input()


def _is_constant(graph: ir.Graph, value: ir.Value) -> bool:
    return graph.initializers.get(value.name or "") is value and value.const_value is not None


def _shape(value: ir.Value) -> tuple[int, ...]:
    tensor = value.const_value
    return () if tensor is None else tuple(tensor.shape.numpy())


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() == 1


def _float(node: ir.Node, name: str) -> float:
    return node.attributes[name].as_float() if name in node.attributes else 1.0


def _widen(units: Ids, slots: Ids, span: int) -> tuple[Ids, Ids]:
    wide = slots[:, None] * span + np.arange(span)
    return np.repeat(units, span), wide.ravel()
