"""Concrete sizes to count multiply-adds at: as the user gave them, and assumed where nobody did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import onnx_ir as ir

from graphprune.ir.operators import Shape, Size
from graphprune.ir.shapes import Sizes, infer
from graphprune.ops import record_of
from graphprune.ops.forms.routing import routed_rows

SPATIAL = 224
OTHER = 16
"""What is assumed for an axis of unknown size; for the first axis, the batch, it is 1."""
LARGER = (1, 64, 4096)
"""Factors by which assumed sizes grow where windows of the model do not fit into them."""


def concrete_sizes(
    model: ir.Model, given: Mapping[str, Sequence[int]], generic: Sizes | None = None
) -> Sizes:
    """Sizes of all values at concrete input shapes.

    Args:
        model: in normal form.
        given: shapes of inputs; sizes that other inputs share with them follow, and declared ones win.
        generic: sizes at the generic points, if they are at hand.
    """
    inputs = [value for value in model.graph.inputs if value.name in given]
    own = {value.name or "": declared(value, given[value.name or ""]) for value in inputs}
    shapes, found = _concrete(model, own, generic)
    rows = routed_rows(model.graph, found)
    return infer(model, record_of, shapes, rows) if rows else found


def declared(value: ir.Value, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape with the sizes that a model declares for an input: a cut may have narrowed a cache."""
    if value.shape is None or len(value.shape) != len(shape):
        return tuple(shape)
    return tuple(dim if isinstance(dim, int) else size for dim, size in zip(value.shape, shape, strict=True))


def input_shapes(model: ir.Model, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs at concrete sizes, of those inputs that have one."""
    found = {value.name or "": sizes.shapes.get(value) for value in model.graph.inputs}
    return {name: tuple(first for first, _ in shape) for name, shape in found.items() if shape is not None}


def _concrete(
    model: ir.Model, given: Mapping[str, Sequence[int]], generic: Sizes | None
) -> tuple[Mapping[str, Sequence[int]], Sizes]:
    """Shapes of the inputs, and the sizes that follow from them."""
    inputs = [value for value in model.graph.inputs if value.const_value is None]
    if all(value.name in given or _static(value) for value in inputs):
        return given, generic if generic is not None and not given else infer(model, record_of, given)
    generic = generic or infer(model, record_of)
    best: tuple[Mapping[str, Sequence[int]], Sizes] | None = None
    for factor in LARGER:
        shapes = _shapes(inputs, given, generic, factor)
        found = infer(model, record_of, shapes)
        if best is None or _impossible(found) < _impossible(best[1]):
            best = shapes, found
        if not _impossible(best[1]):
            break
    assert best is not None
    return best


def _static(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(dim, int) for dim in value.shape)


def _impossible(sizes: Sizes) -> int:
    """Values with a negative size, and nodes that do not fit what they read."""
    negative = sum(1 for shape in sizes.shapes.values() if shape and any(a < 0 for a, _ in shape))
    return negative + len(sizes.failures)


def _shapes(
    inputs: Sequence[ir.Value], given: Mapping[str, Sequence[int]], generic: Sizes, factor: int
) -> dict[str, tuple[int, ...]]:
    """A size per symbol; the generic sizes tell which axes share one, and which are the sum of two."""
    shapes = {value.name or "": shape for value in inputs if (shape := generic.shapes.get(value)) is not None}
    sums, known = _sums(shapes), dict[Size, int]()
    for name, shape in shapes.items():
        known.update(zip(shape, given.get(name, ()), strict=False))
    for shape in shapes.values():
        for axis, pair in enumerate(shape):
            image = len(shape) >= 4 and axis > 1
            guess = 1 if axis == 0 else factor * (SPATIAL if image else OTHER)
            known.setdefault(pair, pair[0] if pair[0] == pair[1] else guess)
    for whole, parts in sums.items():
        if not any(whole in shapes[name] for name in given if name in shapes):
            known[whole] = sum(known[part] for part in parts)
    assumed = {name: tuple(known[pair] for pair in shape) for name, shape in shapes.items()}
    return assumed | {name: tuple(shape) for name, shape in given.items()}


def _sums(shapes: Mapping[str, Shape]) -> dict[Size, tuple[Size, Size]]:
    """Sizes that are the sum of two others, as the tokens of a mask are of past and current ones."""
    free = sorted({pair for shape in shapes.values() for pair in shape if pair[0] != pair[1]})
    sums = {(a[0] + b[0], a[1] + b[1]): (a, b) for a, b in combinations(free, 2)}
    return {pair: sums[pair] for pair in free if pair in sums}
