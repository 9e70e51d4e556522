"""Where a graph picks single slots, one by one, off a routing axis or off stacked weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir

from graphprune.ir.domains import is_default
from graphprune.ir.evaluate import slice_bounds
from graphprune.ir.shapes import Sizes
from graphprune.labels.structures import Effect, Pick
from graphprune.ops import has
from graphprune.ops.traits import Trait

ROUTES = frozenset(["TopK", "ScatterElements", "OneHot", "Softmax", "Sigmoid", "Equal", "Scatter", "ArgMax"])
"""Operators that make routing weights."""
THROUGH = frozenset(["ReduceSum", "Where"])
"""Operators between the routing weights and a pick, beside arithmetic and layout."""
DEPTH = 12
FAMILY_LIMIT = 512
"""Experts per layer."""


def find_picks(nodes: Iterable[ir.Node], sizes: Sizes) -> list[list[Pick]]:
    """Families of picks that together read every slot of an axis exactly once."""
    families: dict[tuple[ir.Value, int], list[Pick]] = {}
    counts: dict[tuple[ir.Value, int], int] = {}
    for node in nodes:
        for pick, size in _picks(node, sizes):
            value = node.inputs[pick.position]
            assert value is not None
            families.setdefault((value, pick.axis), []).append(pick)
            counts[(value, pick.axis)] = size  # 0 where only the labels know it
    whole = []
    for key, picks in families.items():
        slots = sorted(pick.slot for pick in picks)
        if 2 <= len(slots) <= FAMILY_LIMIT and slots == list(range(counts[key] or len(slots))):
            whole.append(sorted(picks, key=lambda pick: pick.slot))
    return whole


def _picks(node: ir.Node, sizes: Sizes) -> Iterator[tuple[Pick, int]]:
    """The picks of one node, each with the size of the axis it picks from."""
    if not is_default(node.domain) or node.op_type not in PICKERS or node.inputs[0] is None:
        return
    shape = sizes.shapes.get(node.inputs[0])
    if shape is None:
        return
    for output, axis, slot in PICKERS[node.op_type](node, sizes):
        if node.op_type == "Equal":
            yield Pick(node, 0, output, 0, slot, "zero"), 0
            continue
        axis %= max(1, len(shape))
        size = shape[axis]
        state = _state(node.inputs[0])
        if size[0] == size[1] > 1 and state is not None:
            yield Pick(node, output, 0, axis, slot % size[0], state), size[0]


def _gathered(node: ir.Node, sizes: Sizes) -> Iterator[tuple[int, int, int]]:
    index = _constant(node, 1)
    if index is not None and index.size == 1:
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        yield 0, axis, int(index.ravel()[0])


def _sliced(node: ir.Node, sizes: Sizes) -> Iterator[tuple[int, int, int]]:
    inputs = [None, *(_constant(node, position) for position in range(1, len(node.inputs)))]
    if any(
        array is None and value is not None for array, value in zip(inputs[1:], node.inputs[1:], strict=True)
    ):
        return
    shape = sizes.shapes.get(node.inputs[0]) or () if node.inputs[0] is not None else ()
    bounds = slice_bounds([np.empty(0), *inputs[1:]], node.attributes, len(shape))
    if bounds is None or len(bounds) != 1:
        return
    axis, start, end, _ = bounds[0]
    chosen = np.arange(shape[axis][0])[start:end]
    if len(chosen) == 1:
        yield 0, axis, int(chosen[0])


def _split(node: ir.Node, sizes: Sizes) -> Iterator[tuple[int, int, int]]:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    shapes = [sizes.shapes.get(out) for out in node.outputs]
    if all(shape is not None and shape[axis] == (1, 1) for shape in shapes):
        for slot in range(len(shapes)):
            yield slot, axis, slot


def _compared(node: ir.Node, sizes: Sizes) -> Iterator[tuple[int, int, int]]:
    """Positions of a TopK compared with the number of one expert; the first item is the input they are."""
    for position in (0, 1):
        number, value = _constant(node, 1 - position), node.inputs[position]
        if (
            number is not None
            and number.size == 1
            and number.dtype.kind == "i"
            and value is not None
            and _chosen(value)
        ):
            yield position, 0, int(number.ravel()[0])


def _chosen(value: ir.Value) -> bool:
    for _ in range(DEPTH):
        producer = value.producer()
        if producer is None or producer.inputs[0] is None:
            return False
        if has(producer, Trait.SELECT):
            return True
        if not has(producer, Trait.CAST, Trait.LAYOUT):
            return False
        value = producer.inputs[0]
    return False


PICKERS = {"Gather": _gathered, "Slice": _sliced, "Split": _split, "Equal": _compared}


def _constant(node: ir.Node, position: int) -> np.ndarray | None:
    value = node.inputs[position] if position < len(node.inputs) else None
    if (
        value is None
        or value.producer() is not None
        or value.const_value is None
        or value.const_value.size > 64
    ):
        return None
    return np.asarray(value.const_value.numpy())


def _state(value: ir.Value) -> Effect | None:
    """Weights: any; a running count: offset; what a router made: zero; else it picks no expert."""
    if value.producer() is None:
        return "any" if value.const_value is not None else None
    work, seen, depth = [value], {value}, 0
    while work and depth < DEPTH:
        depth += 1
        producer = work.pop(0).producer()
        if producer is None:
            continue
        if producer.op_type == "CumSum":
            return "offset"
        if producer.op_type in ROUTES:
            return "zero"
        if producer.op_type in THROUGH or has(producer, Trait.CAST, Trait.LAYOUT, Trait.AFFINE):
            fresh = [v for v in producer.inputs if v is not None and v not in seen]
            seen.update(fresh)
            work.extend(fresh)
    return None
