"""What a rule sees of a graph, and how it writes its replacement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Doubles
from graphprune.ir.build import Names, initializer
from graphprune.ir.domains import is_default
from graphprune.ir.evaluate import axes_of
from graphprune.ir.nodes import input_of, is_constant
from graphprune.ir.shapes import Sizes

Attribute = ir.Attr | int | float | str
Dims = tuple[tuple[int, int], ...]
"""Sizes at the two points that `ir.shapes` infers them for."""


@dataclass(frozen=True)
class Scene:
    """A graph, as rules read it.

    Attributes:
        graph: whose nodes are looked at.
        opset: of the model.
        sizes: of its values.
        kept: names of weights that no rule may touch.
    """

    graph: ir.Graph
    opset: int
    sizes: Sizes
    kept: frozenset[str] = frozenset()

    def made_by(self, value: ir.Value | None, *ops: str) -> ir.Node | None:
        """The node of this graph that makes a value, if it is one of these operators."""
        node = value.producer() if value is not None else None
        return node if node is not None and node.graph is self.graph and is_op(node, *ops) else None

    def shape(self, value: ir.Value | None) -> tuple[int | None, ...] | None:
        """Sizes of a value, None where one is open; None where not even the rank is known."""
        found = self.sizes.shapes.get(value) if value is not None else None
        return None if found is None else tuple(a if a == b else None for a, b in found)

    def least(self, value: ir.Value) -> int:
        """Elements of a value, with a batch of one where that is open, and 16 of what else is."""
        count = 1
        for axis, size in enumerate(self.shape(value) or ()):
            count *= (16 if axis else 1) if size is None else size
        return count

    def alike(self, one: ir.Value, two: ir.Value) -> bool:
        """Whether two values have one shape, open sizes included."""
        first, second = self.sizes.shapes.get(one), self.sizes.shapes.get(two)
        return first is not None and first == second

    def array(self, value: ir.Value | None) -> Doubles | None:
        """A constant of real numbers, in double precision."""
        if not is_constant(value) or value.const_value is None or value.const_value.dtype not in REAL:
            return None
        return np.asarray(value.const_value.numpy()).astype(np.float64)

    def beside(self, constant: ir.Value | None, value: ir.Value | None) -> Doubles | None:
        """A finite constant that meets a value element by element and leaves its shape as it is."""
        if not is_constant(constant) or constant.const_value is None or constant.const_value.size > LARGE:
            return None
        dims, shape = constant.const_value.shape.numpy(), self.shape(value)
        if dims and (shape is None or len(dims) > len(shape)):
            return None
        if not all(own in (1, other) for own, other in zip(dims[::-1], (shape or ())[::-1], strict=False)):
            return None
        found = self.array(constant)
        return found if found is not None and np.isfinite(found).all() else None

    def number(self, constant: ir.Value | None, value: ir.Value | None) -> float | None:
        """The same, where it is one number all over."""
        found = self.beside(constant, value)
        if found is None or not found.size or not (found == found.flat[0]).all():
            return None
        return float(found.flat[0])

    def with_array(self, node: ir.Node) -> tuple[ir.Value, Doubles] | None:
        """The operand and the constant of an operator that takes them in either order."""
        for data, constant in (node.inputs[:2], node.inputs[1::-1]):
            if data is not None and (found := self.beside(constant, data)) is not None:
                return data, found
        return None

    def with_number(self, node: ir.Node | None) -> tuple[ir.Value, float] | None:
        """The same, where the constant is one number."""
        found = self.with_array(node) if node is not None else None
        if found is None or not found[1].size or not (found[1] == found[1].flat[0]).all():
            return None
        return found[0], float(found[1].flat[0])


LARGE = 2**20
"""Elements of a constant above which it is no scale or shift to look at."""
REAL = frozenset([ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE])


def is_op(node: ir.Node, *ops: str) -> bool:
    """Whether a node is one of these operators of ONNX's own."""
    return node.op_type in ops and is_default(node.domain)


def number_of(node: ir.Node, name: str, default: float) -> float:
    """A float attribute."""
    return float(node.attributes.get_float(name, default))


def operands(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Both inputs of an operator that takes them in either order, in either order."""
    one, two = input_of(node, 0), input_of(node, 1)
    if one is not None and two is not None:
        yield one, two
        yield two, one


def reduced(node: ir.Node, rank: int) -> tuple[int, ...] | None:
    """The axes that a reduction is over and keeps, sorted; None where they are not known, or go."""
    given = input_of(node, 1)
    if not (given is None or is_constant(given)) or node.attributes.get_int("keepdims", 1) != 1:
        return None
    content = None if given is None or given.const_value is None else np.asarray(given.const_value.numpy())
    axes = axes_of([None, content], node.attributes)
    return tuple(sorted(axis % rank for axis in axes)) if axes is not None and rank else None


@dataclass
class Writer:
    """Writes what replaces a pattern, before its last node.

    Attributes:
        scene: the graph; what is written is entered into its sizes.
        at: the node to write before.
        names: names that are not taken.
    """

    scene: Scene
    at: ir.Node
    names: Names
    made: list[ir.Node] = field(default_factory=list)

    @property
    def dtype(self) -> ir.DataType:
        """Of what the pattern computes with."""
        found = dtype_of(self.at)
        assert found is not None
        return found

    def op(
        self,
        op: str,
        *inputs: ir.Value | None,
        like: ir.Value | None = None,
        dims: Dims | None = None,
        dtype: ir.DataType | None = None,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> ir.Value:
        """The result of a new node: of these sizes, or those of `like`, by default of what is replaced."""
        name = self.names.fresh(f"{op.lower()}_")
        stored = [_stored(name, content) for name, content in (attributes or {}).items()]
        node = ir.Node("", op, inputs, stored, num_outputs=1, name=name)
        out, model = node.outputs[0], like or self.at.outputs[0]
        out.name, out.type = name, self.at.outputs[0].type or ir.TensorType(self.dtype)
        if dtype is not None:
            out.type = ir.TensorType(dtype)
        out.shape = model.shape if dims is None else ir.Shape([a if a == b else None for a, b in dims])
        self.scene.sizes.shapes[out] = self.scene.sizes.shapes.get(model) if dims is None else dims
        self.scene.graph.insert_before(self.at, node)
        self.made.append(node)
        return out

    def constant(self, content: Array | float, dtype: ir.DataType | None = None) -> ir.Value:
        """A new initializer, in the type of the pattern."""
        return self._stored(np.asarray(content).astype((dtype or self.dtype).numpy()))

    def whole(self, *content: int) -> ir.Value:
        """A new initializer of whole numbers, for shapes and axes."""
        return self._stored(np.array(content, np.int64))

    def _stored(self, content: Array) -> ir.Value:
        value = initializer(self.scene.graph, self.names.fresh("c"), content)
        shape = value.const_value.shape.numpy() if value.const_value is not None else ()
        self.scene.sizes.shapes[value] = tuple((d, d) for d in shape)
        return value


def _stored(name: str, content: Attribute) -> ir.Attr:
    """An attribute; `ir.node` looks for its type with run-time protocols, which costs more than all else."""
    if isinstance(content, ir.Attr):
        return content
    if isinstance(content, str):
        return ir.AttrString(name, content)
    return ir.AttrInt64(name, content) if isinstance(content, int) else ir.AttrFloat32(name, content)


def dtype_of(node: ir.Node) -> ir.DataType | None:
    """The type that a node computes in."""
    for value in (*node.outputs[:1], *node.inputs):
        if value is not None and value.dtype is not None:
            return value.dtype
    return None
