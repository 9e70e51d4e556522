"""What routes, before there are labels: which Softmax chooses experts, and how many rows each of them gets.

The axis of such a Softmax may shrink, for a removed expert has logit -infinity. A router that takes a
constant number of experts per token (TopK) sends every token to as many, whatever the data are. Which ones
is not known, so that each expert counts as if all got equally many: exact where experts are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx_ir as ir

from graphprune.ir.domains import is_default
from graphprune.ir.evaluate import integer
from graphprune.ir.shapes import Sizes
from graphprune.labels.structures import Branches
from graphprune.ops import has
from graphprune.ops.traits import Trait

DEPTH = 8
MOVES = (Trait.LAYOUT, Trait.CAST)
"""As many elements, and each its value."""


def find_routers(nodes: Iterable[ir.Node], sizes: Sizes, branches: Branches) -> frozenset[ir.Node]:
    """Softmax nodes over an axis of which a TopK chooses, or whose every slot weighs an expert of its own."""
    picked = {branch.pick.node for branch in branches.found} | {node for node, _ in branches.reasons}
    return frozenset(n for n in nodes if has(n, Trait.PROBABILITIES) and _routes(n, picked, sizes))


def _routes(softmax: ir.Node, picked: set[ir.Node], sizes: Sizes) -> bool:
    shape = sizes.shapes.get(softmax.outputs[0])
    axis = softmax.attributes["axis"].as_int() if "axis" in softmax.attributes else -1
    if shape is None or axis % len(shape) != len(shape) - 1 or shape[-1][0] != shape[-1][1]:
        return False
    starts = [softmax.outputs[0], *(v for v in softmax.inputs if v is not None)]
    return any(_chosen(value, picked, shape[-1], sizes) for value in starts)


def _chosen(value: ir.Value, picked: set[ir.Node], size: tuple[int, int], sizes: Sizes) -> bool:
    """Whether a TopK, a pick or a product with stacked experts reads this axis, directly or slot by slot."""
    work = [(value, 0)]
    for item, depth in work:
        for user, position in item.uses():
            if user in picked:
                return True
            shape = sizes.shapes.get(item)
            if position == 0 and shape is not None and shape[-1] == size and has(user, Trait.SELECT):
                return True
            weighs = has(user, Trait.MULTIPLY, Trait.PRODUCT, Trait.EINSUM)
            if weighs and _stacked(user, 1 - position, size):
                return True
            if depth < DEPTH and has(user, *MOVES, Trait.AFFINE):
                work.append((user.outputs[0], depth + 1))
    return False


def _stacked(node: ir.Node, position: int, size: tuple[int, int]) -> bool:
    """Whether the other operand comes out of a product with weights that are stacked along this axis."""
    value = node.inputs[position] if len(node.inputs) == 2 else None
    for _ in range(DEPTH):
        producer = value.producer() if value is not None else None
        if producer is None:
            return False
        for weight in producer.inputs if has(producer, Trait.PRODUCT, Trait.EINSUM) else ():
            tensor = weight.const_value if weight is not None and weight.producer() is None else None
            if tensor is not None and len(tensor.shape) >= 3 and tensor.shape[-3] == size[0] > 1:
                return True
        value = next((v for v in producer.inputs if v is not None and v.producer() is not None), None)
    return False


def routed_rows(graph: ir.Graph, sizes: Sizes) -> dict[ir.Value, int]:
    """Elements that NonZero finds, by its result, where a router says how many there are."""
    found = {}
    for node in graph:
        if node.op_type == "NonZero" and is_default(node.domain):
            count = _picked(node.inputs[0], sizes)
            if count is not None:
                found[node.outputs[0]] = count
    return found


def _picked(mask: ir.Value | None, sizes: Sizes) -> int | None:
    """Elements that are set in the mask of one expert, or of all."""
    expert, node = None, _source(mask)
    if node is not None and node.op_type == "Gather":
        expert = _number(node.inputs[1], sizes)
        if expert is None:
            return None
        node = _source(node.inputs[0])
    if node is None or node.op_type not in ("Equal", "OneHot") or not is_default(node.domain):
        return None
    router = _router(node, sizes)
    if router is None or (node.op_type == "OneHot" and _number(node.inputs[1], sizes) != router[1]):
        return None
    tokens, experts = router
    if expert is None and node.op_type == "Equal":
        expert = next((number for v in node.inputs if (number := _number(v, sizes)) is not None), None)
    elif expert is not None and _gathered(_source(mask), sizes) != experts:
        return None  # a row of tokens, not of an expert
    return tokens if expert is None else tokens // experts + (expert % experts < tokens % experts)


def _gathered(node: ir.Node | None, sizes: Sizes) -> int | None:
    """The size of the axis that a Gather takes one of."""
    value = None if node is None else node.inputs[0]
    shape = None if value is None else sizes.shapes.get(value)
    return None if node is None or not shape else shape[integer(node.attributes, "axis", 0)][0]


def _router(node: ir.Node, sizes: Sizes) -> tuple[int, int] | None:
    """Tokens times experts per token, and experts, of the TopK whose choice is compared."""
    for value in node.inputs:
        top = _source(value)
        if top is None or top.op_type != "TopK" or _number(top.inputs[1], sizes) is None:
            continue
        scores, chosen = (sizes.shapes.get(v) if v else None for v in (top.inputs[0], top.outputs[1]))
        if scores and chosen and _end(value) is top.outputs[1]:
            return prod(size for size, _ in chosen), scores[integer(top.attributes, "axis", -1)][0]
    return None


def _source(value: ir.Value | None) -> ir.Node | None:
    end = _end(value)
    return None if end is None else end.producer()


def _end(value: ir.Value | None) -> ir.Value | None:
    """Where a value comes from, apart from how it lies."""
    while value is not None:
        node = value.producer()
        if node is None or not has(node, *MOVES):
            break
        value = node.inputs[0]
    return value


def _number(value: ir.Value | None, sizes: Sizes) -> int | None:
    """A constant of one element."""
    known = None if value is None else sizes.data.get(value)
    if known is None or known.a.size != 1 or known.dynamic.any():
        return None
    return int(known.a.ravel()[0])
