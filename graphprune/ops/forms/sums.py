"""A vector that is added to a product by a node of its own."""

from __future__ import annotations

import onnx_ir as ir

from graphprune.ir.domains import is_default
from graphprune.labels.state import Use


def adder(value: ir.Value) -> Use | None:
    """Where the Add that alone reads a value, in the graph of its maker, reads what it adds to it."""
    uses, maker = list(value.uses()), value.producer()
    if len(uses) != 1 or value.is_graph_output() or maker is None:
        return None
    node, position = uses[0]
    plain = node.op_type == "Add" and is_default(node.domain) and node.graph is maker.graph
    return Use(node, 1 - position) if plain else None


def added(value: ir.Value) -> ir.Value | None:
    """What the Add that alone reads a value adds to it."""
    place = adder(value)
    return None if place is None else place.node.inputs[place.position]
