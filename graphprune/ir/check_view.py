"""What an operator rule may look at: a node's attributes, the known dims and small constants around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper

from graphprune.errors import ModelError
from graphprune.ir.nodes import is_literal
from graphprune.ir.preflight.structure import describe
from graphprune.ir.preflight.wire import INLINE_BYTES

Dims = tuple[int | None, ...]


def dims_of(info: onnx.ValueInfoProto) -> Dims | None:
    """Declared dims, None for each that is symbolic; None where the rank is unknown."""
    holder = info.type
    if not holder.HasField("tensor_type"):
        return None
    kind = holder.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple([d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim])


@dataclass(frozen=True)
class Scope:
    """Known dims and constants by name, of one graph and those around it."""

    dims: dict[str, Dims]
    constants: dict[str, onnx.TensorProto]
    outer: Scope | None

    @classmethod
    def of(cls, graph: onnx.GraphProto, outer: Scope | None) -> Scope:
        """The scope of a graph whose shapes are inferred."""
        dims: dict[str, Dims] = {}
        for info in (*graph.input, *graph.value_info, *graph.output):
            known = dims_of(info)
            if known is not None:
                dims[info.name] = known
        overridable = {value.name for value in graph.input}
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if is_literal(node):
                constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
        dims.update((name, tuple(tensor.dims)) for name, tensor in constants.items())
        return cls(dims, {n: t for n, t in constants.items() if n not in overridable}, outer)

    def find_dims(self, name: str) -> Dims | None:
        """Dims of a tensor, None where the rank is unknown."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.dims:
                return scope.dims[name]
            scope = scope.outer
        return None

    def find_constant(self, name: str) -> onnx.TensorProto | None:
        """A constant tensor, None where the value is computed."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.constants:
                return scope.constants[name]
            scope = scope.outer
        return None


@dataclass(frozen=True)
class Op:
    """One node as a rule sees it."""

    node: onnx.NodeProto
    scope: Scope

    def require(self, condition: bool, problem: str) -> None:
        """Refuse the model unless the condition holds.

        Raises:
            ModelError: naming the node and the problem.
        """
        if not condition:
            raise ModelError(f"{describe(self.node)}: {problem}")

    def has_input(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def shape(self, index: int) -> Dims | None:
        """Dims of an input, None where it is absent or its rank unknown."""
        return self.scope.find_dims(self.node.input[index]) if self.has_input(index) else None

    def constant(self, index: int) -> np.ndarray | None:
        """The value of a small constant integer input, None where it is absent, computed or big."""
        tensor = self.scope.find_constant(self.node.input[index]) if self.has_input(index) else None
        if tensor is None or tensor.ByteSize() > 4 * INLINE_BYTES:
            return None
        array = onnx.numpy_helper.to_array(tensor)
        return array if array.dtype.kind in "iuf" else None

    def require_dims(self, index: int, wanted: Dims, name: str) -> None:
        """Refuse an input whose known dims differ from the known wanted ones."""
        have = self.shape(index)
        if have is None:
            return
        self.require(len(have) == len(wanted), f"{name} has rank {len(have)}, not {len(wanted)}")
        for a, b in zip(have, wanted, strict=True):
            self.require(None in (a, b) or a == b, f"{name} has shape {list(have)}, needs {list(wanted)}")

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return next((a.i for a in self.node.attribute if a.name == name), default)

    def integers(self, name: str) -> list[int] | None:
        """A list attribute, None where it is absent."""
        return next((list(a.ints) for a in self.node.attribute if a.name == name), None)

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        return next((a.s.decode("utf-8", "replace") for a in self.node.attribute if a.name == name), default)

    def axis(self, name: str, rank: int, default: int | None, *, end: int = 0) -> int:
        """An axis attribute as a number from 0; `end` admits positions behind the last axis."""
        given = next((a.i for a in self.node.attribute if a.name == name), default)
        self.require(given is not None, f"attribute {name} is missing")
        axis = given or 0
        self.require(-rank <= axis < rank + end, f"{name} {axis} is outside rank {rank}")
        return axis % rank if axis < rank else axis

    def unique_axes(self, axes: list[int], rank: int) -> None:
        """Refuse axes out of range or given twice."""
        self.require(all(-rank <= axis < rank for axis in axes), f"axes {axes} are outside rank {rank}")
        self.require(len({axis % rank for axis in axes}) == len(axes), f"axes {axes} name one axis twice")


Rule = Callable[[Op], None]
