"""Sizes of every value at two generic points of the symbolic dimensions, and the values of shape arithmetic.

Each symbolic dimension gets two primes. A size whose two components agree is static; comparing and factoring
sizes then needs no symbolic algebra. Shape arithmetic is evaluated at both points; an element is `dynamic`
when it depends on a symbolic dimension, even if both points give the same number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper, shape_inference

from graphprune.ir.bodies import Body, open_body, trips, values_of
from graphprune.ir.learned import Learned, Symbols
from graphprune.ir.nodes import input_of, is_if, is_shape, is_size, is_slice
from graphprune.ir.operators import Operator, Operators, Shape, Shaping, Size, Sized, UnknownShapeError
from graphprune.ir.shape_data import DATA_LIMIT, Data, constant, propagate

LEFT_TO_ONNX = Shaping(kind=None)
NOTHING: Mapping[ir.Value, int] = MappingProxyType({})
INFERENCE_ERRORS = (
    shape_inference.InferenceError,
    onnx.checker.ValidationError,
    onnx.defs.SchemaError,
    RuntimeError,
    ValueError,
    KeyError,
)
NO_RESULT = (UnknownShapeError, IndexError, ZeroDivisionError, KeyError)
"""What a shape rule says of inputs that it cannot read."""


@dataclass
class Sizes:
    """What is known about every value of a model (subgraphs of If included).

    Attributes:
        shapes: size pairs per value; None when not even the rank is known.
        data: elements of small constants and of shape arithmetic.
        failures: nodes at which inference failed.
        fixed: sizes of symbols that weights fix, by name, or by input and axis where they have none.
    """

    shapes: dict[ir.Value, Shape | None] = field(default_factory=dict)
    data: dict[ir.Value, Data] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    fixed: Mapping[object, int] = field(default_factory=dict)


def infer(
    model: ir.Model,
    operators: Operators,
    shapes: Mapping[str, Sequence[int]] | None = None,
    rows: Mapping[ir.Value, int] = NOTHING,
) -> Sizes:
    """Computes sizes for the whole model, at the generic points or at the given input `shapes`.

    Args:
        model: only read, but for element types that its values lack.
        operators: whose shapes and types are not left to the onnx package.
        shapes: of inputs.
        rows: how many elements NonZero is to find, by its result: the data decide it otherwise.
    """
    best: Sizes | None = None
    for spatial in (224, 1, 840):
        sizes = _consistent(model, operators, spatial, shapes or {}, rows)
        if best is None or len(sizes.failures) < len(best.failures):
            best = sizes
        if not best.failures:
            break
    assert best is not None
    return best


def _consistent(
    model: ir.Model,
    operators: Operators,
    spatial: int,
    given: Mapping[str, Sequence[int]],
    rows: Mapping[ir.Value, int],
) -> Sizes:
    """Starts again with what a clash of two sizes says about a symbol (total length = past + present)."""
    known, idle = Learned(), 0
    best: Sizes | None = None
    while True:
        inference = _Inference(model, operators, spatial, given, known, rows)
        sizes = inference.run()
        idle = idle + 1 if best is not None and len(sizes.failures) >= len(best.failures) else 0
        if best is None or len(sizes.failures) <= len(best.failures):
            best = sizes
        if inference.symbols.clash is None or known.count >= CLASH_LIMIT or idle >= PATIENCE:
            return best
        known = inference.symbols.clash


PATIENCE = 3
"""Things to learn in a row without a failure less, before inference goes on without them."""
CLASH_LIMIT = 12
"""What may be learned about symbols from clashes before inference goes on without it."""


class _Inference:
    def __init__(
        self,
        model: ir.Model,
        operators: Operators,
        spatial: int,
        given: Mapping[str, Sequence[int]],
        known: Learned,
        rows: Mapping[ir.Value, int],
    ) -> None:
        self.model, self.spatial, self.given, self.symbols = model, spatial, given, Symbols(known)
        self.operators, self.rows = operators, rows
        self.opsets = dict(model.opset_imports)
        self.sizes = Sizes()
        self.unsure: set[ir.Value] = set()
        self.met: dict[ir.Value, set[int]] = {}

    def run(self) -> Sizes:
        for value in self.model.graph.inputs:
            self.sizes.shapes[value] = self._declared(value, self.given.get(value.name or ""))
        with np.errstate(all="ignore"):
            self._graph(self.model.graph)
        self.sizes.fixed = self.symbols.known.fixed
        return self.sizes

    def _declared(self, value: ir.Value, given: Sequence[int] | None = None) -> Shape | None:
        if value.shape is None:
            return None if given is None else tuple((d, d) for d in given)
        if given is not None and len(given) == len(value.shape):
            return tuple((d, d) for d in given)
        out = []
        for position, dim in enumerate(value.shape):
            if isinstance(dim, int):
                out.append((dim, dim))
                continue
            factor = self.spatial if len(value.shape) >= 4 and position >= 2 else 1
            key = dim.value if dim.value is not None else (value, position)
            out.append(self.symbols.size(key, factor))
        return tuple(out)

    def _graph(self, graph: ir.Graph) -> None:
        self._initializers(graph)
        work: list[tuple[Iterator[ir.Node], ir.Node | None]] = [(iter(graph), None)]
        while work:
            node = next(work[-1][0], None)
            if node is None:
                owner = work.pop()[1]
                if owner is not None:
                    self._close_if(owner)
            elif is_if(node):
                work.append((self._branches(node), node))
            elif (body := open_body(node)) is not None:
                self._repeat(body)
            else:
                self._node(node)

    def _branches(self, node: ir.Node) -> Iterator[ir.Node]:
        for name in ("then_branch", "else_branch"):
            branch = node.attributes[name].as_graph()
            self._initializers(branch)
            yield from branch

    def _initializers(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None:
                continue
            dims = tuple(tensor.shape.numpy())
            self.sizes.shapes[value] = tuple((d, d) for d in dims)
            known = prod(dims) <= DATA_LIMIT and tensor.dtype != ir.DataType.STRING
            if known and not value.is_graph_input():  # else a caller may override it
                self.sizes.data[value] = constant(np.asarray(tensor.numpy()))

    def _close_if(self, node: ir.Node) -> None:
        then, other = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
        for out, a, b in zip(node.outputs, then.outputs, other.outputs, strict=True):
            one, two = self.sizes.shapes.get(a), self.sizes.shapes.get(b)
            same = one is not None and one == two
            self.sizes.shapes[out] = one if same else self._declared(out)
            if out.dtype is None and a.dtype is not None:
                out.dtype = a.dtype

    def _repeat(self, body: Body) -> None:
        """A body that runs several times: a state whose shape another run changes has none."""
        unsteady: set[ir.Value] = set()
        failures = len(self.sizes.failures)
        while True:
            for first, inner, _, _ in body.states:
                self.sizes.shapes[inner] = None if inner in unsteady else self._shape_of(first)
            for value in body.scalars:
                self.sizes.shapes[value] = self._declared(value) or ()
            for whole, axis, piece in body.elements:
                shape = self._shape_of(whole)
                self.sizes.shapes[piece] = None if shape is None else (*shape[:axis], *shape[axis:][1:])
            self._graph(body.graph)
            moved = {i for _, i, last, _ in body.states if self._shape_of(i) != self._shape_of(last)}
            if moved <= unsteady:
                break
            unsteady |= moved
            for value in values_of(body.graph):
                self.sizes.shapes.pop(value, None)
                self.sizes.data.pop(value, None)
            del self.sizes.failures[failures:]
        self._leave(body)

    def _leave(self, body: Body) -> None:
        """The results of a body that runs several times."""
        for _, _, last, out in body.states:
            self._result(out, last, self._shape_of(last))
        count = trips(body, self.sizes.shapes, self.sizes.data)
        for piece, out, axis in body.collected:
            shape = self._shape_of(piece)
            size = self.symbols.size((out, axis)) if count is None else count
            self._result(out, piece, None if shape is None else (*shape[:axis], size, *shape[axis:]))

    def _result(self, out: ir.Value, source: ir.Value, shape: Shape | None) -> None:
        self.sizes.shapes[out] = shape if shape is not None else self._declared(out)
        if out.dtype is None and source.dtype is not None:
            out.dtype = source.dtype

    def _shape_of(self, value: ir.Value | None) -> Shape | None:
        return None if value is None else self.sizes.shapes.get(value)

    def _node(self, node: ir.Node) -> None:
        operator = self.operators(node)
        shaping = operator.shaping if operator is not None else None
        self._doubt(node, shaping)
        if self._evaluate(node):
            return
        shaping, at = shaping or LEFT_TO_ONNX, Sized(node, self.sizes.shapes, self.sizes.data)
        if node.graph is self.model.graph:  # a branch may be there for another size
            self.symbols.fix(_alike(operator, at))
        known = self._ruled(shaping, at)
        if known is None:
            known = self._slow(shaping, at)
        else:
            self._type(shaping, at)
        for out, shape in zip(node.outputs, known, strict=False):
            if out in self.rows and shape is not None:
                shape = (*shape[:-1], (self.rows[out], self.rows[out]))
            self.sizes.shapes[out] = shape if shape is not None else self._declared(out)
        self._meet(node, shaping)
        if is_shape(node) or is_size(node):
            self._shape_node(node, self._shape_of(node.inputs[0]))
        elif is_slice(node):
            self._emptied(node, self._shape_of(node.inputs[0]), self.sizes.shapes[node.outputs[0]])

    def _meet(self, node: ir.Node, shaping: Shaping) -> None:
        """Keeps which axes look static only because windows brought both points to one size."""
        windows = shaping.axes == "windows"
        if not (windows or self.met) or shaping.axes is None:
            return
        after = self.sizes.shapes.get(node.outputs[0]) or ()
        for value in node.inputs[:1] if windows else node.inputs:
            before = () if value is None else self.sizes.shapes.get(value) or ()
            old = set() if value is None else self.met.get(value, set())
            if len(before) != len(after):
                continue
            for axis, (one, two) in enumerate(zip(before, after, strict=True)):
                collapsed = windows and one[0] != one[1] and two[0] == two[1]
                if collapsed or (axis in old and two[0] == two[1]):
                    self.met.setdefault(node.outputs[0], set()).add(axis)

    def _shape_node(self, node: ir.Node, shape: Shape | None) -> None:
        if shape is None:
            return
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
        dims = shape[start:end]
        a, b = (np.array([d[i] for d in dims], np.int64) for i in (0, 1))
        value = node.inputs[0]
        met = self.met.get(value, set()) if value is not None else set()
        unsure = np.array([axis in met for axis in range(len(shape))], bool)[start:end] | (
            value in self.unsure
        )
        dynamic = (a != b) | unsure
        if is_size(node):
            a, b = np.asarray(np.prod(a)), np.asarray(np.prod(b))
            dynamic, unsure = np.asarray(dynamic.any()), np.asarray(unsure.any())
        out = node.outputs[0]
        self.sizes.data[out] = Data(a, b, dynamic, unsure if unsure.any() else None)
        self.sizes.shapes[out] = tuple((d, d) for d in a.shape)
        out.dtype = ir.DataType.INT64

    def _evaluate(self, node: ir.Node) -> bool:
        result = propagate(node, self.sizes.data)
        if result is None:
            return False
        a, b, dynamic = result.a, result.b, result.dynamic
        out = node.outputs[0]
        self.sizes.shapes[out] = tuple(zip(a.shape, b.shape, strict=True)) if a.ndim == b.ndim else None
        if out.dtype is None:
            out.dtype = ir.DataType.from_numpy(a.dtype)
        if a.shape == b.shape and a.size <= DATA_LIMIT:
            self.sizes.data[out] = Data(a, b, dynamic, result.decided)
        return True

    def _doubt(self, node: ir.Node, shaping: Shaping | None) -> None:
        """Sizes that a comparison decided, and all that is made of such values, are not written down."""
        reshapes = shaping is None or shaping.axes != "slotwise"
        for value in node.inputs:
            known = None if value is None else self.sizes.data.get(value)
            if value in self.unsure or (reshapes and known is not None and known.doubtful):
                self.unsure.update(node.outputs)
                return

    def _emptied(self, node: ir.Node, before: Shape | None, after: Shape | None) -> None:
        given = input_of(node, 1)
        starts = None if given is None else self.sizes.data.get(given)
        if before is not None and after is not None and starts is not None and starts.a.size == 1:
            self.symbols.emptied((int(starts.a.ravel()[0]), int(starts.b.ravel()[0])), before, after)

    def _ruled(self, shaping: Shaping, at: Sized) -> list[Shape | None] | None:
        """What the operator's own rule says; None where the onnx package is to be asked."""
        if shaping.shape is None:
            return None
        try:
            found = shaping.shape(at)
        except NO_RESULT:
            found = None
        for sizes in at.clashes:
            self.symbols.meet(sizes)
        nothing: list[Shape | None] = [None] * len(at.node.outputs)
        if found is not None:
            return [*found, *nothing][: len(nothing)]
        return None if onnx.defs.has(at.node.op_type, at.node.domain) else nothing

    @staticmethod
    def _type(shaping: Shaping, at: Sized) -> None:
        for position, out in enumerate(at.node.outputs):
            kind = shaping.kind(at, position) if out.dtype is None and shaping.kind is not None else None
            if kind is not None:
                out.dtype = kind

    def _slow(self, shaping: Shaping, at: Sized) -> list[Shape | None]:
        node = at.node
        try:
            a, b = self._infer(node, 0), self._infer(node, 1)
        except INFERENCE_ERRORS:
            self.sizes.failures.append(node.name or node.op_type)
            self._type(shaping, at)  # no shape, but a type that follows an input's
            return [None] * len(node.outputs)
        return [self._joined(out, a.get(out.name), b.get(out.name)) for out in node.outputs]

    def _infer(self, node: ir.Node, point: int) -> dict[str | None, list[int | None] | None]:
        schema = onnx.defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        proto = ir.serde.serialize_node(node)
        types, data = {}, {}
        for value in node.inputs:
            if value is None or value.name is None:
                continue
            shape = self.sizes.shapes.get(value)
            dims = None if shape is None else [d[point] for d in shape]
            types[value.name] = onnx.helper.make_tensor_type_proto(int(value.dtype or 1), dims)
            known = self.sizes.data.get(value)
            if known is not None and known.a.dtype.kind in "iubf":
                data[value.name] = numpy_helper.from_array(np.array(known.b if point else known.a, order="C"))
        opsets = [onnx.helper.make_opsetid(d, v) for d, v in self.opsets.items()]
        found = shape_inference.infer_node_outputs(schema, proto, types, data, None, opsets)
        guessed = any(value is not None and value.dtype is None for value in node.inputs)
        for out in () if guessed else node.outputs:
            if out.dtype is None and out.name in found and found[out.name].HasField("tensor_type"):
                out.dtype = ir.DataType(found[out.name].tensor_type.elem_type)
        return {name: _dims(kind) for name, kind in found.items()}

    def _joined(self, out: ir.Value, a: list[int | None] | None, b: list[int | None] | None) -> Shape | None:
        if a is None or b is None or len(a) != len(b):
            return None
        return tuple(
            self.symbols.size((out, i)) if x is None or y is None else (x, y)
            for i, (x, y) in enumerate(zip(a, b, strict=True))
        )


def _alike(operator: Operator | None, at: Sized) -> list[tuple[Size, Size]]:
    """Pairs of sizes that must be equal for the node to run; none where a shape or the rule is not known."""
    try:
        return [] if operator is None or operator.alike is None else list(operator.alike(at))
    except NO_RESULT:
        return []


def _dims(kind: onnx.TypeProto) -> list[int | None] | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in kind.tensor_type.shape.dim]
