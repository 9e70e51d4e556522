"""Vectors added to the results of contractions: into a bias that is there, or by a new Add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Array, Doubles
from graphprune.ir.build import Names, initializer, new_node, supersede
from graphprune.ir.names import quote
from graphprune.ir.nodes import is_constant
from graphprune.ops import record_of
from graphprune.ops.forms.sums import adder
from graphprune.ops.record import Layer

PREFIX = "graphprune/bias/"


def with_biases(model: ir.Model, biases: Mapping[str, Array]) -> ir.Model:
    """A model that adds each vector to the value of that name; the given model is only read.

    The vector joins the constant that is added already (the bias input of a Conv or Gemm, or the Add that
    alone reads a MatMul), where there is one. A constant that several nodes read stays one where all of them
    get the same vector; else it is cloned, and the others keep theirs.

    Args:
        model: in normal form.
        biases: one number per output channel, by name of the result of a Conv, ConvTranspose, Gemm or MatMul
            of the main graph.

    Raises:
        ArgumentError: no such value, or the vector has another length.
    """
    # -0.0 is +0.0 once it is added
    adding = _Adding(model.clone(), {name: np.asarray(biases[name], np.float64) + 0.0 for name in biases})
    for name in sorted(biases):
        adding.add(name)
    adding.settle()
    return adding.model


@dataclass
class _Adding:
    """A model on its way to more biases."""

    model: ir.Model
    vectors: Mapping[str, Doubles]
    producers: dict[str, ir.Node] = field(init=False)
    names: Names = field(init=False)
    made: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)
    left: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.producers = {out.name or "": node for node in graph for out in node.outputs}
        self.names = Names(PREFIX, (*graph.initializers, *self.producers, *(node.name for node in graph)))

    def add(self, name: str) -> None:
        vector = self.vectors[name]
        node = self.producers.get(name)
        if node is None or _layer(node) is None:
            raise ArgumentError(f"no bias can be added to {quote(name)}: no Conv, Gemm or MatMul computes it")
        _require_length(node, vector)
        place = place_of(node)
        if place is None:
            self._insert(node, vector)
            return
        reader, position = place
        vector = vector / beta(node)
        value = reader.inputs[position] if position < len(reader.inputs) else None
        self._extend(reader, position, value, aligned(node, vector) if reader is not node else vector)

    def settle(self) -> None:
        """A constant that all its readers have left takes what the last of them reads, under its own name."""
        for old, new in self.left.items():
            if not old.uses() and not old.is_graph_output() and new.const_value is not None:
                old.const_value = ir.Tensor(np.asarray(new.const_value.numpy()), name=old.name)
                old.shape = new.shape
                new.replace_all_uses_with(old)
                del self.model.graph.initializers[new.name or ""]

    def _extend(self, reader: ir.Node, position: int, old: ir.Value | None, vector: Doubles) -> None:
        """The constant plus the vector, which all readers share that get the same."""
        dtype = element_type(reader)
        total = vector
        if old is not None and old.const_value is not None:
            total = np.asarray(old.const_value.numpy()).astype(np.float64) + vector
        array = total.astype(dtype.numpy())
        reader.resize_inputs(max(position + 1, len(reader.inputs)))
        reader.replace_input_with(position, self._constant(array, dtype))
        if old is not None:
            self.left[old] = self._constant(array, dtype)

    def _insert(self, node: ir.Node, vector: Doubles) -> None:
        """A new Add behind the node; a graph output keeps its name."""
        out, dtype = node.outputs[0], element_type(node)
        array = aligned(node, vector).astype(dtype.numpy())
        name = self.names.fresh()
        add = new_node("Add", [out, self._constant(array, dtype)], name)
        add.outputs[0].shape, add.outputs[0].type = out.shape, out.type
        self.model.graph.insert_after(node, add)
        supersede(out, add.outputs[0], {add})

    def _constant(self, array: Array, dtype: ir.DataType) -> ir.Value:
        key = (dtype, array.shape, array.tobytes())
        if key not in self.made:
            self.made[key] = initializer(self.model.graph, self.names.fresh(), array)
        return self.made[key]


def place_of(node: ir.Node) -> tuple[ir.Node, int] | None:
    """The node and input position where a vector can be added without a new node; None if there is none."""
    position = bias_of(node)
    if position is not None:
        value = node.inputs[position] if position < len(node.inputs) else None
        usable = beta(node) != 0 and channel_axis(node) != -2
        return (node, position) if usable and (value is None or _constant(value)) else None
    place = adder(node.outputs[0])
    return (place.node, place.position) if place is not None and _constant(place.value) else None


def bias_of(node: ir.Node) -> int | None:
    """The input with what such a node adds to its product; None where another node adds it."""
    layer = _layer(node)
    return None if layer is None else layer.bias


def _layer(node: ir.Node) -> Layer | None:
    """Where a node that multiplies with floats, and does nothing else, has its weight."""
    record = record_of(node)
    layer = None if record is None or record.held else record.layer
    return layer if layer is not None and layer.result == "sum" else None


def _constant(value: ir.Value | None) -> bool:
    return is_constant(value) and not value.is_graph_output()


def channel_axis(node: ir.Node) -> int:
    """The axis of a contraction's result that the rows of its weight make."""
    layer = _layer(node)
    left, right = node.inputs[:2]
    if layer is not None and layer.either and _weight(left) and not _weight(right):
        return -2
    return -1 if layer is None else layer.channel


def _weight(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None


def aligned(node: ir.Node, vector: Doubles) -> Doubles:
    """The vector in a shape that broadcasts against the node's result."""
    axis, shape = channel_axis(node), node.outputs[0].shape
    if axis >= 0:
        assert shape is not None
        axis -= len(shape)
    return vector.reshape(-1, *[1] * (-1 - axis))


def beta(node: ir.Node) -> float:
    """What a node multiplies its bias by: beta of a Gemm."""
    return node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0


def element_type(node: ir.Node) -> ir.DataType:
    """The type that a node computes in: that of its weights."""
    tensors = (value.const_value for value in node.inputs if value is not None)
    found = next((tensor.dtype for tensor in tensors if tensor is not None), node.outputs[0].dtype)
    assert found is not None
    return found


def _require_length(node: ir.Node, vector: Doubles) -> None:
    shape = node.outputs[0].shape
    length = None if shape is None else shape[channel_axis(node)]
    if vector.ndim != 1 or (isinstance(length, int) and length != len(vector)):
        name = quote(node.outputs[0].name or "")
        raise ArgumentError(f"the bias of {name} has shape {vector.shape}, but {name} has {length} channels")
