"""Initializers that are graph inputs as well: the weights among them are constants, a setting stays an input.

Up to IR 3 every initializer had to be an input, so being one says nothing, and ONNX Runtime lets nobody
override it. Since IR 4 it is a default that a caller may override, and no runtime folds what may change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.domains import is_default
from graphprune.ir.names import listed

STAND_ALONE = 4
"""Since this IR version an initializer need not be a graph input as well."""

SETTINGS = {
    "NonMaxSuppression": (2, 3, 4),
    "TopK": (1,),
    "Clip": (1, 2),
    "Dropout": (1, 2),
    "Range": (0, 1, 2),
    "If": (0,),
    "Loop": (0, 1),
    "LSTM": (4,),
    "GRU": (4,),
    "RNN": (4,),
}
"""Inputs of operators that a caller may want to set: thresholds, counts, lengths."""
SCALABLE = frozenset([
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Mod", "Where", "Cast", "Identity", "Concat", "Equal",
    "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not",
])  # fmt: skip
"""Operators where one number is a setting (a temperature, a threshold) rather than a weight or a shape."""
CONTRACTIONS = frozenset(["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"])


@dataclass(frozen=True)
class Defaults:
    """What became of the initializers that were graph inputs.

    Attributes:
        weights: those that are constants now, in the order of the inputs.
        settings: those that are still inputs with a default.
        ir_version: what the model declared.
    """

    weights: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    ir_version: int = STAND_ALONE

    def said(self, kept: bool) -> str:
        """A line for the report; empty where there is nothing to say."""
        parts = []
        if self.weights:
            what = "stay inputs" if kept else "are constants now, no longer inputs"
            parts.append(f"{len(self.weights)} initializers that were inputs as well {what}")
        if self.settings:
            parts.append(f"inputs with a default stay: {listed(self.settings)}")
        if self.weights and self.ir_version < STAND_ALONE:
            parts.append(f"IR {self.ir_version} became {STAND_ALONE}, which allows that")
        return "; ".join(parts)


class Held(Mapping[str, Array]):
    """Contents of constants by name, read when they are asked for: samples may repeat them."""

    def __init__(self, tensors: Mapping[str, ir.TensorProtocol]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self._tensors[name].numpy())

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def held(model: ir.Model) -> Held:
    """Weights and fixed inputs of a model, also where they are listed as inputs; a setting is none."""
    may_be_set = (model.ir_version or STAND_ALONE) >= STAND_ALONE
    values = model.graph.initializers.items()
    free = {name for name, value in values if may_be_set and value.is_graph_input() and _is_setting(value)}
    tensors = {name: value.const_value for name, value in values if name not in free}
    return Held({name: tensor for name, tensor in tensors.items() if tensor is not None})


def make_constant(model: ir.Model) -> Defaults:
    """Takes weights off the inputs of a model, in place; IR below 4, which forbids that, becomes 4."""
    graph, version = model.graph, model.ir_version or STAND_ALONE
    given = [value for value in graph.inputs if value.name in graph.initializers]
    settings = [value for value in given if version >= STAND_ALONE and _is_setting(value)]
    weights = [value for value in given if value not in settings]
    if version < STAND_ALONE:
        model.ir_version = STAND_ALONE
    for value in weights:
        graph.inputs.remove(value)
    return Defaults(_names(weights), _names(settings), version)


def make_inputs(model: ir.Model, names: Iterable[str]) -> None:
    """Lists initializers that are left as inputs again, in place."""
    graph = model.graph
    present = {value.name for value in graph.inputs}
    for name in names:
        if name in graph.initializers and name not in present:
            graph.inputs.append(graph.initializers[name])


def settings(model: ir.Model) -> dict[str, Array]:
    """Contents of the inputs of a normalised model that have a default."""
    held = ((value.name or "", value.const_value) for value in model.graph.inputs)
    return {name: np.asarray(tensor.numpy()) for name, tensor in held if tensor is not None}


def _is_setting(value: ir.Value) -> bool:
    """Whether a caller may want to set this: some node reads it as a setting, or all as one plain number."""
    readers = [(node, position) for node, position in value.uses() if is_default(node.domain)]
    if any(position in SETTINGS.get(node.op_type, ()) for node, position in readers):
        return True
    tensor = value.const_value
    if tensor is None or tensor.size != 1 or len(readers) != len(value.uses()):
        return False
    return all(node.op_type in SCALABLE and not _is_bias(value, node) for node, _ in readers)


def _is_bias(value: ir.Value, node: ir.Node) -> bool:
    """Whether this is the bias of a layer with one output: an axis of its own, added to products."""
    others = [other for other in node.inputs if other is not None and other is not value]
    products = [other.producer() for other in others]
    return (
        node.op_type == "Add"
        and bool(value.shape)
        and any(product is not None and product.op_type in CONTRACTIONS for product in products)
    )


def _names(values: Iterable[ir.Value]) -> tuple[str, ...]:
    return tuple(value.name or "" for value in values)
