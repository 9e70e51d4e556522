"""Parameters and multiply-adds of a model, and of what would be left of it after a cut.

Parameters: elements of floating initializers, each stored tensor once. MACs: multiply-adds of convolutions,
matrix products, attention and recurrent operators at concrete shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import onnx_ir as ir

from graphprune.axes.analyse import Analysis, walk
from graphprune.axes.edits import BranchRemoval
from graphprune.axes.kept import Kept
from graphprune.axes.labels import Label, is_fixed, size_of
from graphprune.axes.state import Axes, Use
from graphprune.ir.shapes import Shape, Sizes, infer

Place = tuple[str, int, int]
"""An axis of a node: ("in" or "out", position, axis)."""


@dataclass(frozen=True)
class Term:
    """A count of multiply-adds that is proportional to the kept share of each of these axes."""

    macs: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Cost:
    """Size of a model.

    Attributes:
        params: elements of floating initializers.
        macs: multiply-adds of one run.
        bytes: of all initializers.
        per_node: multiply-adds by node name.
    """

    params: int
    macs: int
    bytes: int
    per_node: Mapping[str, int]


Shapes = Callable[[str, int], Shape]
Counter = Callable[[ir.Node, Shapes], list[Term]]


def _volume(shape: Sequence[tuple[int, int]]) -> int:
    return prod(size[0] for size in shape)


def _conv(data: int, weight: int) -> Counter:
    def count(node: ir.Node, shapes: Shapes) -> list[Term]:
        kernel = _volume(shapes("in", weight)[1:])
        return [Term(_volume(shapes("out", 0)) * kernel, (("out", 0, 1), ("in", weight, 1)))]

    return count


def _conv_transpose(node: ir.Node, shapes: Shapes) -> list[Term]:
    kernel = _volume(shapes("in", 1)[1:])
    return [Term(_volume(shapes("in", 0)) * kernel, (("in", 0, 1), ("in", 1, 1)))]


def _matmul(a: int, b: int) -> Counter:
    def count(node: ir.Node, shapes: Shapes) -> list[Term]:
        left, out = shapes("in", a), shapes("out", 0)
        places: list[Place] = [("out", 0, axis) for axis in range(len(out))]
        return [Term(_volume(out) * left[-1][0], (*places, ("in", a, len(left) - 1)))]

    return count


def _gemm(node: ir.Node, shapes: Shapes) -> list[Term]:
    transposed = "transA" in node.attributes and node.attributes["transA"].as_int() == 1
    inner = 0 if transposed else 1
    return [
        Term(
            _volume(shapes("out", 0)) * shapes("in", 0)[inner][0],
            (("out", 0, 0), ("out", 0, 1), ("in", 0, inner)),
        )
    ]


def _einsum(node: ir.Node, shapes: Shapes) -> list[Term]:
    left = node.attributes["equation"].as_string().replace(" ", "").partition("->")[0]
    if "." in left:
        return [Term(_volume(shapes("out", 0)), ())]
    places: dict[str, Place] = {}
    sizes: dict[str, int] = {}
    for position, term in enumerate(left.split(",")):
        for axis, letter in enumerate(term):
            size = shapes("in", position)[axis][0]
            if size > sizes.get(letter, 0):
                places[letter], sizes[letter] = ("in", position, axis), size
    return [Term(prod(sizes.values()), tuple(places.values()))]


def _recurrent(node: ir.Node, shapes: Shapes) -> list[Term]:
    steps, weight, recurrent = shapes("in", 0), shapes("in", 1), shapes("in", 2)
    runs = steps[0][0] * steps[1][0]
    return [
        Term(runs * _volume(weight), (("in", 0, 2), ("in", 2, 2))),
        Term(runs * _volume(recurrent), (("in", 2, 2), ("in", 2, 2))),
    ]


def _attention(node: ir.Node, shapes: Shapes) -> list[Term]:
    """Scores and weighted sum; 3-D [B,S,H*D] and 4-D [B,H,S,D] forms."""
    query, out = shapes("in", 0), shapes("out", 0)
    sequence = (shapes("in", 1) or query)[-2][0]
    width: tuple[Place, ...] = (
        (("in", 0, len(query) - 1),) if len(query) == 3 else (("in", 0, 1), ("in", 0, 3))
    )
    last: tuple[Place, ...] = (("out", 0, len(out) - 1),) if len(out) == 3 else (("out", 0, 1), ("out", 0, 3))
    return [Term(_volume(query) * sequence, width), Term(_volume(out) * sequence, last)]


COUNTERS: dict[str, Counter] = {
    "Conv": _conv(0, 1),
    "ConvInteger": _conv(0, 1),
    "com.microsoft:FusedConv": _conv(0, 1),
    "QLinearConv": _conv(0, 3),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul(0, 1),
    "MatMulInteger": _matmul(0, 1),
    "com.microsoft:FusedMatMul": _matmul(0, 1),
    "com.microsoft:MatMulNBits": _matmul(0, 1),
    "QLinearMatMul": _matmul(0, 3),
    "Gemm": _gemm,
    "com.microsoft:FusedGemm": _gemm,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Attention": _attention,
    "com.microsoft:MultiHeadAttention": _attention,
    "com.microsoft:GroupQueryAttention": _attention,
}


def concrete_shapes(model: ir.Model, given: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Input shapes to count at: what the user gave, else batch 1, 224 pixels and 16 of anything else."""
    shapes: dict[str, tuple[int, ...]] = {}
    for value in model.graph.inputs:
        name = value.name or ""
        if name in given:
            shapes[name] = tuple(given[name])
        elif value.shape is not None:
            image = len(value.shape) >= 4
            guesses = [
                1 if axis == 0 else 224 if image and axis > 1 else 16 for axis in range(len(value.shape))
            ]
            dims = zip(value.shape, guesses, strict=True)
            shapes[name] = tuple(dim if isinstance(dim, int) else guess for dim, guess in dims)
    return shapes


def terms(node: ir.Node, sizes: Sizes) -> list[Term]:
    """The multiply-adds of a node; none where nothing is multiplied or shapes are not known."""
    counter = COUNTERS.get(
        f"{node.domain}:{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    )
    if counter is None:
        return []

    def shapes(side: str, position: int) -> Shape:
        values = node.inputs if side == "in" else node.outputs
        value = values[position] if position < len(values) else None
        found = None if value is None else sizes.shapes.get(value)
        return found or ()

    try:
        return counter(node, shapes)
    except IndexError:
        return []


def cost(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> Cost:
    """Counts a model as it is."""
    sizes = infer(model, concrete_shapes(model, shapes))
    per_node: dict[str, int] = {}
    for node in walk(model.graph):
        macs = sum(term.macs for term in terms(node, sizes))
        if macs:
            name = node.name or node.op_type
            per_node[name] = per_node.get(name, 0) + macs
    tensors = {id(v.const_value): v.const_value for v in _initializers(model) if v.const_value is not None}
    params = sum(t.size for t in tensors.values() if t.dtype.is_floating_point())
    return Cost(params, sum(per_node.values()), sum(t.nbytes for t in tensors.values()), per_node)


def _initializers(model: ir.Model) -> list[ir.Value]:
    return [v for graph in (model.graph, *model.graph.subgraphs()) for v in graph.initializers.values()]


class CostModel:
    """Parameters and MACs of what would be left after any cut, without making it.

    Args:
        analysis: the analysed model.
        shapes: concrete input shapes for counting MACs.
    """

    def __init__(self, analysis: Analysis, shapes: Mapping[str, Sequence[int]]) -> None:
        self._params: list[list[tuple[int, Axes]]] = []
        self._constant = 0
        self._macs: list[tuple[int, tuple[Label, ...]]] = []
        removals = [edit for edit in analysis.edits if isinstance(edit, BranchRemoval)]
        self._owners = {node: edit.label for edit in removals for node in edit.branch.nodes}
        self._count_params(analysis)
        sizes = infer(analysis.model, concrete_shapes(analysis.model, shapes))
        for node in walk(analysis.model.graph):
            for term in terms(node, sizes):
                labels = [_label(analysis, node, place) for place in term.places]
                labels.append(self._owners.get(node, ()))
                self._macs.append((term.macs, tuple(label for label in labels if not is_fixed(label))))
        nothing = Kept(analysis, {})
        self.dense_params, self.dense_macs = self.params(nothing), self.macs(nothing)

    def _count_params(self, analysis: Analysis) -> None:
        uses: dict[ir.Value, list[tuple[int, Axes]]] = {}
        for use, labels in analysis.uses.items():
            expert = self._owners.get(use.node)  # a node of an expert goes with it
            owned = labels if expert is None else (*labels, expert)
            if any(not is_fixed(label) for label in owned):
                every = (analysis.state.blocks.get((use, axis), 1) for axis in range(len(labels)))
                blocks = max(every, default=1)
                uses.setdefault(use.value, []).append((blocks, owned))
        for value in _initializers(analysis.model):
            tensor = value.const_value
            if tensor is None or not tensor.dtype.is_floating_point():
                continue
            if value in uses:
                self._params.append(uses[value])
            else:
                self._constant += tensor.size

    def params(self, kept: Kept) -> int:
        """Floating parameters left; uses of a shared tensor that keep different slots count as clones."""
        total = self._constant
        for uses in self._params:
            alone = len(uses) == 1
            tensors = {() if alone else _slots(kept, use[1]): use for use in uses}
            total += sum(prod(map(kept.count, labels)) // blocks for blocks, labels in tensors.values())
        return total

    def macs(self, kept: Kept) -> int:
        """Multiply-adds left."""
        total = Fraction(0)
        for macs, labels in self._macs:
            share = Fraction(macs)
            for label in labels:
                share = share * kept.count(label) / size_of(label)[0]
            total += share
        return int(total)


def _slots(kept: Kept, labels: Axes) -> tuple[bytes, ...]:
    """Equal for uses that keep the same slots, and so read one tensor."""
    return tuple(kept.mask(label).tobytes() if kept.touches(label) else b"" for label in labels)


def _label(analysis: Analysis, node: ir.Node, place: Place) -> Label:
    side, position, axis = place
    values = node.inputs if side == "in" else node.outputs
    value = values[position] if position < len(values) else None
    if value is None:
        return ()
    labels = (
        analysis.values.get(value) or analysis.uses.get(Use(node, position), ())
        if side == "in"
        else analysis.values.get(value, ())
    )
    return labels[axis] if axis < len(labels) else ()
