"""Graph inputs and outputs that are two ends of one cache (past and present of a decoder)."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphprune.ops import has, record_of
from graphprune.ops.traits import Trait


def cache_pairs(graph: ir.Graph) -> dict[ir.Value, ir.Value]:
    """Maps each past input to its present output; both are then free on their static axes."""
    outputs = set(graph.outputs)
    pairs: dict[ir.Value, ir.Value] = {}
    for value in graph.inputs:
        for node, position in _readers(value):
            present = _present(node, position)
            if present is not None and present in outputs:
                pairs[value] = present
    return pairs


def token_axis(past: ir.Value) -> int | None:
    """The axis on which a Concat appends new tokens to a past; None where an attention operator does."""
    for node, _ in _readers(past):
        if has(node, Trait.CONCAT):
            rank = len(past.shape) if past.shape is not None else 1
            return node.attributes["axis"].as_int() % rank
    return None


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Uses of a value, looking through operators that only pass it on (a Concat of one input is one)."""
    for node, position in value.uses():
        passes = has(node, Trait.COPY) or (has(node, Trait.CONCAT) and len(node.inputs) == 1)
        if passes and not node.outputs[0].is_graph_output():
            yield from _readers(node.outputs[0])
        else:
            yield node, position


def _present(node: ir.Node, position: int) -> ir.Value | None:
    if has(node, Trait.CONCAT):
        return node.outputs[0]
    row = record_of(node)
    for past, present in row.caches if row is not None else ():
        if past == position and present < len(node.outputs):
            return node.outputs[present]
    return None
