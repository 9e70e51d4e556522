"""Layers that are applied more than once: which uses of a weight lose the same slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import onnx_ir as ir

from graphprune.labels.state import Use
from graphprune.ops import has
from graphprune.ops.steps import step_of
from graphprune.ops.traits import Trait

Contracts = Callable[[ir.Node], bool]


def tied_uses(graphs: Iterable[ir.Graph], contracts: Contracts) -> dict[Use, Use]:
    """Every use of a weight in whole layers, and the first of them, whose labels all take.

    A layer multiplies with the weight or looks its rows up: such a use has source and sink axes. Vectors
    (scales, biases, tables) are not among them; where their slots differ they are cloned.

    Args:
        graphs: main graph and subgraphs.
        contracts: whether a node multiplies with its constant operands.
    """
    found: dict[Use, Use] = {}
    for graph in graphs:
        for value in graph.initializers.values():
            if len(value.uses()) > 1 and _is_matrix(value):
                uses = [Use(*use) for use in value.uses() if _is_layer(*use, contracts)]
                if len(uses) > 1:
                    found.update(dict.fromkeys(uses, uses[0]))
    return found


def parted_uses(graphs: Iterable[ir.Graph]) -> dict[Use, Use]:
    """Uses of weights of which all readers take stretches: one label keeps them stretches of one tensor."""
    found: dict[Use, Use] = {}
    for graph in graphs:
        for value in graph.initializers.values():
            uses = [Use(*use) for use in value.uses()]
            if len(uses) > 1 and all(use.position == 0 and has(use.node, Trait.PART) for use in uses):
                found.update(dict.fromkeys(uses, uses[0]))
    return found


def _is_matrix(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and sum(size != 1 for size in tensor.shape.numpy()) > 1


def _is_layer(node: ir.Node, position: int, contracts: Contracts) -> bool:
    if position == 0 and step_of(node) is not None:
        return any(_is_layer(*use, contracts) for use in _readers(node))
    return contracts(node) or (position == 0 and has(node, Trait.LOOKUP))


def _readers(node: ir.Node) -> Iterator[tuple[ir.Node, int]]:
    for out in node.outputs:
        yield from ((user, position) for user, position in out.uses())
