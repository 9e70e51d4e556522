"""How a weight is stored: read as the numbers that its node multiplies with, written back in its own form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Singles
from graphprune.ir.mapped import in_place
from graphprune.ir.nodes import input_of
from graphprune.ir.operators import Held
from graphprune.ir.shapes import Sizes
from graphprune.labels.state import Chain, Use
from graphprune.labels.stored import chain_of, is_stored
from graphprune.ops import has, layer_of, record_of
from graphprune.ops.forms.dynamic import scaled
from graphprune.ops.steps import step_of
from graphprune.ops.traits import Trait
from graphprune.statistics.packed import Packing, packing_of


@dataclass(frozen=True)
class Grid:
    """The numbers that a quantised tensor can hold: (code - zero) * scale.

    Attributes:
        scale, zero: broadcast against the tensor.
        low, high: least and largest code.
    """

    scale: Singles
    zero: Singles
    low: float
    high: float

    def values(self, codes: Array) -> Singles:
        """What codes stand for."""
        return np.asarray((codes.astype(np.float32) - self.zero) * self.scale, np.float32)


def grid_of(use: Use) -> Grid | None:
    """The grid of a tensor that is read as quantised numbers with constant parameters; None for others."""
    node, tensor, held = use.node, use.value.const_value, _held(use)
    packing = packing_of(use)
    if packing is not None and tensor is not None:
        found = packing.parameters(node)
        return None if found is None else Grid(*found, 0.0, float(packing.highest))
    if held is None or held.bits is not None or tensor is None or tensor.dtype.is_floating_point():
        return None
    scales, zeros = scales_of(use), [] if held.zero is None else [input_of(node, held.zero)]
    if any(value is not None and not is_stored(value) for value in (*scales, *zeros)):
        return None
    shape, axis = tuple(tensor.shape.numpy()), _axis(node, held)
    scale = reduce(_times, (_aligned(v, shape, axis, 1) for v in scales), np.ones((), np.float32))
    zero = _aligned(zeros[0] if zeros else None, shape, axis, 0)
    if not all(_fits(each, shape) for each in (scale, zero)):
        return None  # ONNX Runtime's quantiser gives a bias [1, n] a scale per row; only its fusions run that
    return Grid(scale, zero, *_span(np.asarray(tensor.numpy()), tensor.dtype, zero))


def _fits(numbers: Singles, shape: tuple[int, ...]) -> bool:
    """Whether there is one number for all, or one per slot of every axis that has several."""
    return all(n in (1, size) for n, size in zip(numbers.shape[::-1], shape[::-1], strict=False))


def _times(one: Singles, two: Singles) -> Singles:
    return np.asarray(one * two, np.float32)


def scales_of(use: Use) -> list[ir.Value | None]:
    """The values whose product is the scale of a tensor."""
    held = _held(use)
    if held is None or (held.bits is not None and packing_of(use) is None):
        return []
    if held.scales:
        return [input_of(use.node, at) for at in held.scales]
    found, layer = scaled(use.node), layer_of(use.node)
    one = None if found is None or found.scale.const_value is None else found.scale.const_value
    product = layer is not None and layer.kernel is None
    along = one is not None and (one.size == 1 or (product and len(one.shape) == 1))
    return [found.scale] if found is not None and along else []


def _held(use: Use) -> Held | None:
    """What says which numbers the codes of a weight or bias stand for; None for others."""
    record = record_of(use.node)
    held = None if record is None else record.data(use.position)
    activation = record is not None and record.layer is not None and use.position == 0
    return None if held is None or held.scales is None or activation else held


def _axis(node: ir.Node, held: Held) -> int:
    if "axis" in node.attributes:
        return node.attributes["axis"].as_int()
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    return 0 if transposed else held.axis


def _aligned(value: ir.Value | None, shape: tuple[int, ...], axis: int, default: int) -> Singles:
    """A scale or zero point, repeated to broadcast against the tensor."""
    if value is None or value.const_value is None:
        return np.full((), default, np.float32)
    return np.asarray(_repeated(np.asarray(value.const_value.numpy()), shape, axis), np.float32)


def _repeated(parameter: Array, shape: tuple[int, ...], axis: int) -> Array:
    """One for the tensor, one per slot or one per block of an axis."""
    if parameter.size == 1:
        return parameter.reshape(())
    if parameter.ndim == 1:
        return parameter.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    return parameter.repeat(-(-shape[axis] // parameter.shape[axis]), axis=axis)[tuple(map(slice, shape))]


def _span(codes: Array, dtype: ir.DataType, zero: Singles) -> tuple[float, float]:
    """Codes as far from their zeros as the tensor itself goes.

    Narrow ranges are chosen: 127 on both sides, or 64, with which kernels that add in 16 bits never saturate.
    """
    reach = float(np.abs(codes.astype(np.float32) - zero).max(initial=0.0))
    low, high = float(dtype.min), float(dtype.max)
    return max(low, float(zero.min()) - reach), min(high, float(zero.max()) + reach)


@dataclass(frozen=True, eq=False)
class Stored:
    """A weight and the constant nodes between it and its reader.

    Attributes:
        chain: the way from the tensor.
        shapes: of the tensor, and behind each step.
        reader: the node, which may say itself what codes stand for.
        packing: how codes lie in the bytes of the tensor; None for a byte or a number each.
    """

    chain: Chain
    shapes: tuple[tuple[int, ...], ...]
    reader: Use | None = None
    packing: Packing | None = None

    @property
    def value(self) -> ir.Value:
        """The initializer."""
        return self.chain.value

    @property
    def shape(self) -> tuple[int, ...]:
        """As its reader sees it."""
        return self.shapes[-1] if self.packing is None else (self.packing.rows, self.packing.columns)

    @property
    def plain(self) -> bool:
        """Whether the reader reads the initializer itself, and as it is."""
        return not self.chain.steps and self.grid is None

    @property
    def readers(self) -> int:
        """How many nodes read any part of the way."""
        ways = (self.value, *(step.outputs[0] for step in self.chain.steps))
        return max(len(way.uses()) for way in ways)

    @cached_property
    def grid(self) -> Grid | None:
        """The grid that its codes lie on, in the layout that its reader sees; None for floating ones."""
        found = None if self.first is None else grid_of(self.first)
        if found is None:
            return None
        if self.packing is not None:
            return found
        wide = (np.broadcast_to(each, self.shapes[0]) for each in (found.scale, found.zero))
        scale, zero = (np.asarray(self.moved(each), np.float32) for each in wide)
        return Grid(scale, zero, found.low, found.high)

    @property
    def writable(self) -> bool:
        """Whether new numbers can be put back through all steps."""
        decoded = any(has(step, Trait.DEQUANTISE) for step in self.chain.steps)
        return self.grid is not None if decoded else True

    def read(self) -> Array:
        """What the reader multiplies with; it may lie in the file, where nothing is aligned."""
        assert self.value.const_value is not None
        array = in_place(self.value.const_value)
        if not self.chain.steps and self.grid is not None:
            return self.grid.values(self.codes())
        for step, shape in zip(self.chain.steps, self.shapes[1:], strict=True):
            array = _decoded(step, array) if step_of(step) == "kept" else _step(step, array, shape)
        return array

    def codes(self) -> Array:
        """The stored numbers in the layout that the reader sees."""
        assert self.value.const_value is not None
        array = np.asarray(self.value.const_value.numpy())
        return self.moved(array) if self.packing is None else self.packing.unpack(array)

    def write(self, array: Array) -> Array:
        """The tensor that holds these numbers (of a quantised weight: these codes) for the reader."""
        if self.packing is not None:
            return self.packing.pack(array)
        for step, shape in zip(self.chain.steps[::-1], self.shapes[-2::-1], strict=True):
            if step_of(step) == "transposed":
                array = array.transpose(np.argsort(_order(step, array.ndim)))
            elif step_of(step) == "shaped":
                array = array.reshape(shape)
        dtype = self.value.dtype or ir.DataType.FLOAT
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array.astype(dtype.numpy(), copy=False))

    @property
    def first(self) -> Use | None:
        """Where the tensor itself is read."""
        return Use(self.chain.steps[0], 0) if self.chain.steps else self.reader

    def scale_places(self) -> tuple[ir.Value, Array] | None:
        """What holds its scales, and which of these each element has, in the layout that the reader sees.

        None where it has none, or they are a product.
        """
        use = self.first
        held, scales = (None, []) if use is None else (_held(use), scales_of(use))
        value = scales[0] if len(scales) == 1 else None
        if use is None or held is None or value is None or value.const_value is None or not is_stored(value):
            return None
        numbers = np.arange(value.const_value.size).reshape(value.const_value.shape.numpy())
        if self.packing is not None:
            return value, numbers.reshape(self.packing.rows, -1).repeat(self.packing.block, axis=1)
        each = _repeated(numbers, self.shapes[0], _axis(use.node, held))
        return value, self.moved(np.broadcast_to(each, self.shapes[0]))

    def moved(self, array: Array) -> Array:
        """What lies in the layout of the tensor, such as a gradient, in the layout that the reader sees."""
        for step, shape in zip(self.chain.steps, self.shapes[1:], strict=True):
            array = array if step_of(step) == "kept" else _step(step, array, shape)
        return array


def _step(step: ir.Node, array: Array, shape: tuple[int, ...]) -> Array:
    moved = step_of(step) == "transposed"
    return array.transpose(_order(step, array.ndim)) if moved else array.reshape(shape)


def _order(step: ir.Node, rank: int) -> list[int]:
    return list(step.attributes["perm"].as_ints()) if "perm" in step.attributes else list(range(rank))[::-1]


def _decoded(step: ir.Node, array: Array) -> Array:
    if has(step, Trait.CAST):
        return array.astype(ir.DataType(step.attributes["to"].as_int()).numpy())
    if has(step, Trait.COPY):
        return array
    found = grid_of(Use(step, 0)) if is_stored(step.inputs[0]) else None
    return array.astype(np.float32) if found is None else found.values(array)


def stored_of(value: ir.Value | None, sizes: Sizes, reader: Use | None = None) -> Stored | None:
    """How the weight that a node reads is stored; None where it is no constant, or cannot be read."""
    chain = None if value is None else chain_of(value, sizes.shapes, step_of)
    if chain is None or chain.value.const_value is None or chain.value.is_graph_input():
        return None
    shapes = [tuple(chain.value.const_value.shape.numpy())]
    for step in chain.steps:
        shape = sizes.shapes.get(step.outputs[0])
        if shape is None or any(a != b for a, b in shape):
            return None
        shapes.append(tuple(a for a, _ in shape))
    if any(has(s, Trait.DEQUANTISE) and grid_of(Use(s, 0)) is None for s in chain.steps):
        return None
    packing = None if reader is None or chain.steps else packing_of(reader)
    if packing is not None:
        chain = replace(chain, axes=(0, 1))
    return Stored(chain, tuple(shapes), reader, packing)
