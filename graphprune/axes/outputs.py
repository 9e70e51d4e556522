"""What the numbers of a model's outputs are, read from the graph: how far a cut model fell is judged by it.

The walk goes from an output back to the node that gives its numbers their meaning, through operators that
only move, pick or shift them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import onnx_ir as ir

from graphprune.axes.caches import cache_pairs
from graphprune.ir.operators import Shape, Size
from graphprune.ir.shapes import Sizes, infer
from graphprune.ops import has, record_of
from graphprune.ops.forms.distributions import distribution
from graphprune.ops.traits import Trait

OutputKind = Literal["classes", "tokens", "scores", "exact", "values"]
"""Distributions over classes, next-token logits, numbers in [0, 1] with a threshold at one half, what is
right or wrong (whole numbers, strings), and all else."""
UserKind = Literal["classes", "scores", "values"]
"""What a user may say of an output."""
Scale = Literal["logits", "probabilities", "log"]

SAME = (Trait.COPY, Trait.CAST, Trait.DROPOUT, Trait.QUANTISE, Trait.DEQUANTISE, Trait.RESIZE)
DEPTH = 32
ONE: Size = (1, 1)


@dataclass(frozen=True)
class Judged:
    """An output and how it is judged.

    Attributes:
        name: of the output.
        kind: what its numbers are.
        scale: how classes and scores are written.
        axis: of classes.
        tokens: the input that holds the ids that a language model continues; empty for none.
        loose: whether samples may differ in size.
        single: whether a layer sums up each number by itself, and nothing bounds it: a logit, or a quantity.
    """

    name: str
    kind: OutputKind
    scale: Scale = "probabilities"
    axis: int = -1
    tokens: str = ""
    loose: bool = False
    single: bool = False


@dataclass(frozen=True)
class _Read:
    """What a value holds."""

    kind: OutputKind
    scale: Scale
    axis: int = -1


def judged(
    model: ir.Model, sizes: Sizes | None = None, chosen: Mapping[str, UserKind] | None = None
) -> tuple[Judged, ...]:
    """How each output is judged, caches left out; `chosen` is what the user said of some."""
    caches = set(cache_pairs(model.graph).values())
    walk = _Walk(sizes or infer(model, record_of))
    outputs = [value for value in model.graph.outputs if value not in caches]
    found = (_judged(model.graph, value, walk) for value in outputs)
    return tuple(_as_chosen(item, (chosen or {}).get(item.name)) for item in found)


def _judged(graph: ir.Graph, value: ir.Value, walk: _Walk) -> Judged:
    shape = walk.sizes.shapes.get(value)
    loose = shape is None or any(one != two for one, two in shape[1:])
    item = Judged(value.name or "", "values", loose=loose)
    if value.dtype is not None and not value.dtype.is_floating_point():
        return replace(item, kind="exact")
    read = walk.read(value)
    if read is None:
        return replace(item, single=walk.single(value))
    item = replace(item, kind=read.kind, scale=read.scale, axis=read.axis)
    tokens = _tokens(graph, value, read, walk)
    return replace(item, kind="tokens", tokens=tokens) if tokens else item


def _as_chosen(item: Judged, chosen: UserKind | None) -> Judged:
    """What the user says wins; how numbers are written stays as the graph says."""
    if chosen is None or (chosen == "classes" and item.kind == "classes"):
        return item
    known = item.kind in ("classes", "scores", "tokens")
    logits = chosen == "classes" or (chosen == "scores" and item.single)
    scale: Scale = item.scale if known else "logits" if logits else "probabilities"
    axis = item.axis if item.kind in ("classes", "tokens") else -1
    return replace(item, kind=chosen, scale=scale, axis=axis, tokens="")


@dataclass
class _Walk:
    """A walk from an output towards the inputs, as far as anything tells what the numbers are."""

    sizes: Sizes
    depth: int = 0

    def read(self, value: ir.Value | None) -> _Read | None:
        """What the numbers of a value are; None where nothing tells."""
        node = value.producer() if value is not None else None
        if value is None or node is None or self.sizes.shapes.get(value) is None or self.depth > DEPTH:
            return None
        written = distribution(node)
        if written is not None:
            axis = written.axis % max(1, len(self.shape(value)))
            return _Read("classes", "log" if written.log else "probabilities", axis)
        for traits, reader in READERS:
            if has(node, *traits):
                self.depth += 1
                found = reader(self, node, value)
                self.depth -= 1
                return found
        return None

    def single(self, value: ir.Value | None, depth: int = DEPTH) -> bool:
        """Whether a value is what a layer of one column or channel gives, moved at most."""
        node = value.producer() if value is not None else None
        if node is None or depth == 0:
            return False
        shape = self.shape(node.outputs[0])
        if has(node, Trait.PRODUCT, Trait.CONVOLUTION):
            axis = 1 if has(node, Trait.CONVOLUTION) else len(shape) - 1
            return 0 < axis < len(shape) and shape[axis] == ONE
        computed = [v for v in node.inputs if v is not None and v.producer() is not None]
        if has(node, *SAME, Trait.RESHAPE, Trait.TRANSPOSE, Trait.AFFINE) and computed:
            return self.single(computed[0], depth - 1) if len(computed) == 1 else False
        return False

    def shape(self, value: ir.Value | None) -> Shape:
        """Sizes of a value, in two components that differ where they are not known."""
        return (self.sizes.shapes.get(value) if value is not None else None) or ()

    def classes(self, value: ir.Value, axis: int) -> _Read | None:
        """Raw scores of two or more classes."""
        shape = self.shape(value)
        one, two = shape[axis] if 0 < axis < len(shape) else (0, 0)
        return _Read("classes", "logits", axis) if one == two and one >= 2 else None


def _softmax(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    shape = walk.shape(value)
    old = node.graph is not None and node.graph.opset_imports.get("", 13) < 13
    axis = node.attributes.get_int("axis", 1 if old else -1) % max(1, len(shape))
    if old and any(size != ONE for size in shape[axis + 1 :]):
        return None  # before opset 13 all axes behind are classes together
    return _Read("classes", "log" if has(node, Trait.LOG_PROBABILITIES) else "probabilities", axis)


def _product(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    return walk.classes(value, len(walk.shape(value)) - 1)


def _convolution(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    shapes = [walk.shape(other) for other in node.inputs[1:]]
    kernel = next((shape[2:] for shape in shapes if len(shape) == len(walk.shape(value))), ())
    return walk.classes(value, 1) if all(size == ONE for size in kernel) else None


def _classifier(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    return _Read("classes", "probabilities", 1) if value is node.outputs[1] else None


def _sigmoid(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    return _Read("scores", "probabilities")


def _same(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    return walk.read(node.inputs[0])


def _soft_cap(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    """Tanh between two scalings, cap x tanh(logits / cap), keeps the order; any other squashes to values."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    scaled = before is not None and has(before, Trait.SCALE)
    if not scaled or value.is_graph_output() or not all(has(u, Trait.MULTIPLY) for u, _ in value.uses()):
        return None
    found = walk.read(node.inputs[0])
    return found if found is not None and found.scale == "logits" else None


def _shifted(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    """A bias, a scale or a temperature leaves logits logits; a product of scores is a score."""
    rank = len(walk.shape(value))
    computed = [v for v in node.inputs if v is not None and v.producer() is not None]
    found = [walk.read(v) for v in computed if len(walk.shape(v)) == rank]
    if len(found) == 1:
        return found[0] if found[0] is not None and found[0].scale == "logits" else None
    scores = found and all(each is not None and each.kind == "scores" for each in found)
    return found[0] if scores and has(node, Trait.MULTIPLY) else None


def _transposed(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    found, order = walk.read(node.inputs[0]), node.attributes.get("perm")
    steps = list(order.as_ints()) if order is not None else list(range(len(walk.shape(value))))[::-1]
    return found and replace(found, axis=steps.index(found.axis) if found.kind == "classes" else -1)


def _reshaped(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    """Classes stay an axis if what is behind it, or all before it, is as it was."""
    found = walk.read(node.inputs[0])
    if found is None or found.kind != "classes":
        return found
    old, new, axis = walk.shape(node.inputs[0]), walk.shape(value), found.axis
    behind = len(old) - axis
    if new[-behind:] == old[axis:]:
        return replace(found, axis=len(new) - behind)
    return found if new[: axis + 1] == old[: axis + 1] else None


def _picked(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    """Some of the numbers: of probabilities over classes, scores are left where the classes are not whole."""
    if has(node, Trait.SELECT) and value is not node.outputs[0]:
        return None
    found = walk.read(node.inputs[0])
    if found is None or found.kind != "classes":
        return found
    old, new = walk.shape(node.inputs[0]), walk.shape(value)
    if len(old) == len(new) and old[found.axis] == new[found.axis]:
        return found
    return _Read("scores", "probabilities") if found.scale == "probabilities" else None


def _joined(walk: _Walk, node: ir.Node, value: ir.Value) -> _Read | None:
    """Several parts of one kind."""
    found = [walk.read(v) for v in node.inputs if v is not None and v.producer() is not None]
    first = found[0] if found else None
    if first is None or any(each != first for each in found):
        return None
    rank = max(1, len(walk.shape(value)))
    along = node.attributes.get_int("axis", 0) % rank if has(node, Trait.CONCAT) else -1
    return None if first.kind == "classes" and along == first.axis else first


Reader = Callable[[_Walk, ir.Node, ir.Value], _Read | None]
READERS: tuple[tuple[tuple[Trait, ...], Reader], ...] = (
    ((Trait.PROBABILITIES, Trait.LOG_PROBABILITIES), _softmax),
    ((Trait.PRODUCT,), _product),
    ((Trait.CONVOLUTION,), _convolution),
    ((Trait.CLASSIFIER,), _classifier),
    ((Trait.SIGMOID,), _sigmoid),
    (SAME, _same),
    ((Trait.TANH,), _soft_cap),
    ((Trait.AFFINE,), _shifted),
    ((Trait.TRANSPOSE,), _transposed),
    ((Trait.RESHAPE,), _reshaped),
    ((Trait.PICK, Trait.CLIP), _picked),
    ((Trait.JOIN,), _joined),
)


def _tokens(graph: ir.Graph, value: ir.Value, read: _Read, walk: _Walk) -> str:
    """The input with the ids that logits continue: it picks from a table with a row for each class."""
    shape = walk.shape(value)
    if read.kind != "classes" or read.scale == "probabilities" or (len(shape), read.axis) != (3, 2):
        return ""
    ids = [v for v in graph.inputs if v.dtype in (ir.DataType.INT64, ir.DataType.INT32)]
    return next((v.name or "" for v in ids if _looks_up(v, shape[-1], walk)), "")


def _looks_up(ids: ir.Value, rows: Size, walk: _Walk, depth: int = 4) -> bool:
    """Whether ids index a table of so many rows, directly or through casts and reshapes."""
    for node, position in ids.uses():
        gathers = has(node, Trait.GATHER, Trait.LOOKUP)
        if gathers and any(len(walk.shape(v)) == 2 and walk.shape(v)[0] == rows for v in node.inputs):
            return True
        passes = position == 0 and depth > 0 and has(node, *SAME, Trait.RESHAPE)
        if passes and _looks_up(node.outputs[0], rows, walk, depth - 1):
            return True
    return False
