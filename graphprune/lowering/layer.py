"""Layers with a constant weight, as what is folded into them sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Doubles
from graphprune.ir.nodes import input_of, is_constant
from graphprune.lowering.scene import Attribute, Scene, Writer, is_op, number_of


@dataclass(frozen=True)
class Layer:
    """A node that computes W x + b.

    Attributes:
        node: of the graph.
        data: x.
        weight: W.
        content: of W in double precision, as (groups, rows, columns, positions) whatever the operator.
        bias: b; None where there is none.
        shift: content of b, one number per row; zeros where there is none.
        axis: of x and of the result, from the end, on which the rows are.
    """

    node: ir.Node
    data: ir.Value
    weight: ir.Value
    content: Doubles
    bias: ir.Value | None
    shift: Doubles
    axis: int

    @property
    def rows(self) -> int:
        """Channels of the result."""
        return int(self.content.shape[0] * self.content.shape[1])

    @property
    def columns(self) -> int:
        """Channels of x."""
        return int(self.content.shape[0] * self.content.shape[2])

    @property
    def constants(self) -> tuple[ir.Value, ...]:
        """W, and b where there is one."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def scaled(self, rows: Doubles | None = None, columns: Doubles | None = None) -> Doubles:
        """W with its rows and columns times a number each."""
        found, groups = self.content, self.content.shape[0]
        if rows is not None:
            found = found * rows.reshape(groups, -1, 1, 1)
        if columns is not None:
            found = found * columns.reshape(groups, 1, -1, 1)
        return found

    def times(self, column: Doubles) -> Doubles:
        """W x for x the same everywhere, as long as nothing is padded."""
        groups = self.content.shape[0]
        return np.asarray((self.content * column.reshape(groups, 1, -1, 1)).sum((2, 3)).ravel())

    @property
    def pads(self) -> bool:
        """Whether positions beyond the border are read as zeros, or are missing."""
        return padded(self.node)

    def write(self, to: Writer, data: ir.Value, content: Doubles, shift: Doubles) -> ir.Value:
        """The layer with another weight and bias, on another input."""
        weight = self.weight
        if content is not self.content:
            weight = to.constant(stored(self.node, content, self.weight))
        bias = self.bias
        if shift is not self.shift:
            bias = to.constant(shift.reshape(self._bias_shape()))
        inputs = [data, weight] + ([] if bias is None else [bias])
        attributes: dict[str, Attribute] = dict(self.node.attributes)
        if shift is not self.shift and "beta" in attributes:
            attributes["beta"] = 1.0
        if content is not self.content and "alpha" in attributes:
            attributes["alpha"] = 1.0
        return to.op(self.node.op_type, *inputs, attributes=attributes)

    def _bias_shape(self) -> tuple[int, ...]:
        return (-1,)

    @property
    def takes_bias(self) -> bool:
        """Whether the operator has a place for b."""
        return not is_op(self.node, "MatMul")


def padded(node: ir.Node) -> bool:
    """Whether a convolution meets its border."""
    if is_op(node, "ConvTranspose"):
        return True
    if not is_op(node, "Conv"):
        return False
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    return auto not in ("NOTSET", "VALID") or any(node.attributes.get_ints("pads", ()))


def layer_at(node: ir.Node | None, scene: Scene) -> Layer | None:
    """The layer that a node is; None where it is none, or its weight is no constant."""
    if node is None or not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    data, weight = node.inputs[:2]
    content = scene.array(weight)
    if data is None or weight is None or content is None or not np.isfinite(content).all():
        return None
    turned = _turned(node, content)
    rank = len(scene.shape(data) or ())
    if turned is None or not rank:
        return None
    rows = turned.shape[0] * turned.shape[1]
    bias = input_of(node, 2)
    shift = _shift(node, bias, rows, scene)
    if shift is None:
        return None
    axis = rank - 1 if is_op(node, "Conv", "ConvTranspose") else 1
    return Layer(node, data, weight, turned, bias, shift, axis)


def _turned(node: ir.Node, content: Doubles) -> Doubles | None:
    """A weight as (groups, rows, columns, positions), times what the operator multiplies it by."""
    groups = node.attributes.get_int("group", 1)
    if is_op(node, "Conv") and content.ndim >= 3 and content.shape[0] % groups == 0:
        return content.reshape(groups, content.shape[0] // groups, content.shape[1], -1)
    if is_op(node, "ConvTranspose") and content.ndim >= 3 and content.shape[0] % groups == 0:
        parts = content.reshape(groups, content.shape[0] // groups, content.shape[1], -1)
        return parts.transpose(0, 2, 1, 3)
    if content.ndim != 2:
        return None
    if is_op(node, "Gemm"):
        if node.attributes.get_int("transA", 0):
            return None
        matrix = content if node.attributes.get_int("transB", 0) else content.T
        return (matrix * number_of(node, "alpha", 1.0))[None, :, :, None]
    return content.T[None, :, :, None] if is_op(node, "MatMul") else None


def stored(node: ir.Node, content: Doubles, weight: ir.Value) -> Array:
    """A weight in the form that the operator takes."""
    assert weight.const_value is not None
    shape = weight.const_value.shape.numpy()
    if is_op(node, "ConvTranspose"):
        return content.transpose(0, 2, 1, 3).reshape(shape)
    if is_op(node, "Conv"):
        return content.reshape(shape)
    matrix = content[0, :, :, 0]
    return matrix if node.attributes.get_int("transB", 0) else matrix.T


def _shift(node: ir.Node, bias: ir.Value | None, rows: int, scene: Scene) -> Doubles | None:
    """One number per row; None where the bias is another one for each sample, or no constant."""
    if bias is None:
        return np.zeros(rows)
    found = scene.array(bias) if is_constant(bias) else None
    if found is None or not np.isfinite(found).all() or (found.ndim > 1 and found.size != found.shape[-1]):
        return None
    if found.size not in (1, rows):
        return None
    return np.broadcast_to(found.ravel(), (rows,)) * number_of(node, "beta", 1.0)


def per_channel(content: Doubles, axis: int, channels: int) -> Doubles | None:
    """A constant beside a value as one number per channel, on an axis counted from the end."""
    if content.size == 1:
        return np.broadcast_to(content.ravel(), (channels,))
    if content.ndim < axis or content.size != channels or content.shape[-axis] != channels:
        return None
    return content.ravel()
