"""Normalisations in the form that ONNX Runtime runs as one node, or runs fastest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphprune.ir.nodes import is_constant
from graphprune.lowering.rule import SINGLES, Rewrite, Rule
from graphprune.lowering.scene import Scene, Writer, is_op, operands, reduced


def summed(node: ir.Node, scene: Scene) -> Rewrite | None:
    """X + y before LayerNormalization, both computed."""
    one, two = node.inputs[:2]
    if one is None or two is None or is_constant(one) or is_constant(two) or not scene.alike(one, two):
        return None
    readers = [user for user, _ in node.outputs[0].uses()]
    if not any(is_op(user, "LayerNormalization") for user in readers) and not _centred(readers):
        return None
    return Rewrite((node,), lambda to: to.op("Sum", one, two))


def _centred(readers: Sequence[ir.Node]) -> bool:
    """Whether a value's mean is taken and taken off, as in a LayerNormalization that is written out."""
    return all(any(is_op(user, op) for user in readers) for op in ("ReduceMean", "Sub"))


def root_mean_square(node: ir.Node, scene: Scene) -> Rewrite | None:
    """X over the root of the mean of its squares, times weights, in a form that is not fused."""
    readers = [user for user, _ in node.outputs[0].uses()]
    if len(readers) != 1 or not is_op(readers[0], "Mul") or scene.with_array(readers[0]) is None:
        return None
    for x, divisor, nodes in _quotients(node, scene):
        found = _root(divisor, x, scene)
        if found is None:
            continue
        if is_op(found.square, "Pow") and not is_op(nodes[0], "Reciprocal"):
            return None  # ONNX Runtime fuses it as it is
        return _fusible((*found.nodes, *nodes), x, found)
    return None


def _fusible(gone: tuple[ir.Node, ...], x: ir.Value, root: _Root) -> Rewrite:
    return Rewrite(gone, lambda to: _divided(to, x, root))


def _quotients(
    node: ir.Node, scene: Scene
) -> Iterator[tuple[ir.Value, ir.Value | None, tuple[ir.Node, ...]]]:
    """(x, divisor, nodes): what a node may divide by what, in the nodes that do it."""
    if is_op(node, "Div"):
        if node.inputs[0] is not None:
            yield node.inputs[0], node.inputs[1], (node,)
        return
    for x, inverse in operands(node):
        made = scene.made_by(inverse, "Reciprocal", "Div")
        if made is None:
            continue
        if is_op(made, "Reciprocal") or scene.number(made.inputs[0], made.inputs[1]) == 1:
            yield x, made.inputs[-1], (made, node)


@dataclass(frozen=True)
class _Root:
    """The nodes of √(mean(x²) + ε)."""

    square: ir.Node
    mean: ir.Node
    shift: ir.Node
    root: ir.Node

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """In order."""
        return (self.square, self.mean, self.shift, self.root)


def _root(value: ir.Value | None, x: ir.Value, scene: Scene) -> _Root | None:
    """What makes a value as the root of the mean of x² over the last axis."""
    root = scene.made_by(value, "Sqrt")
    shift = scene.made_by(root.inputs[0], "Add") if root is not None else None
    given = scene.with_number(shift)
    mean = scene.made_by(given[0], "ReduceMean") if given is not None and given[1] > 0 else None
    square = scene.made_by(mean.inputs[0], "Pow", "Mul") if mean is not None else None
    if root is None or shift is None or mean is None or square is None or square.inputs[0] is not x:
        return None
    twice = square.inputs[1] is x if is_op(square, "Mul") else scene.number(square.inputs[1], x) == 2
    rank = len(scene.shape(x) or ())
    return _Root(square, mean, shift, root) if twice and reduced(mean, rank) == (rank - 1,) else None


def _divided(to: Writer, x: ir.Value, old: _Root) -> ir.Value:
    """As ONNX Runtime fuses it."""
    narrow, attributes = old.mean.outputs[0], dict(old.mean.attributes)
    square = to.op("Pow", x, to.constant(2.0), like=x)
    mean = to.op("ReduceMean", square, *old.mean.inputs[1:], like=narrow, attributes=attributes)
    moved = (mean if each is narrow else each for each in old.shift.inputs)
    return to.op("Div", x, to.op("Sqrt", to.op("Add", *moved, like=narrow), like=narrow))


_NORMED = (
    "n = Constant<value_ints=[1,896,28]>()\ni = Constant<value_ints=[-1]>()\n"
    "q = Constant<value_float=2.0>()\nf = Constant<value_float=0.000001>()\nr = Reshape(x,n)\n"
    "t = MatMul(r,matrix)\n"
)

RULES = (
    Rule(
        "add-norm",
        ("Add",),
        "x + y before LayerNormalization",
        "Sum(x, y), which ONNX Runtime does not make one slow node of",
        "x and y are computed, and of one shape",
        "bits",
        summed,
        _NORMED + "u = Relu(t)\na = Add(t,u)\ny = LayerNormalization<axis=-1>(a,b,b)",
        opset=17,
        types=SINGLES,
    ),
    Rule(
        "rms-norm",
        ("Mul", "Div"),
        "x · (1 / √(mean(x²) + ε)) · w, the square as a product, or the quotient as Reciprocal",
        "x / √(mean(x²) + ε) · w, which ONNX Runtime fuses",
        "the mean is over the last axis, ε is positive, w is constant",
        "rounding",
        root_mean_square,
        _NORMED + "s = Pow(t,q)\nm = ReduceMean<axes=[-1]>(s)\na = Add(m,f)\nd = Sqrt(a)\nj = Reciprocal(d)\n"
        "k = Mul(t,j)\ny = Mul(k,b)",
        types=SINGLES,
    ),
)
