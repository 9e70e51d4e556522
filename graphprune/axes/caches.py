"""Graph inputs and outputs that are two ends of one cache (past and present of a decoder)."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphprune.ir.domains import is_default

PAST_PRESENT = {
    "Attention": ((4, 1), (5, 2)),
    "com.microsoft:Attention": ((4, 1),),
    "com.microsoft:MultiHeadAttention": ((6, 1), (7, 2)),
    "com.microsoft:GroupQueryAttention": ((3, 1), (4, 2)),
}
"""(past input, present output) positions of attention operators."""


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
        if node.op_type == "Concat":
            rank = len(past.shape) if past.shape is not None else 1
            return node.attributes["axis"].as_int() % rank
    return None


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Uses of a value, looking through operators that only pass it on (a Concat of one input is one)."""
    for node, position in value.uses():
        passes = node.op_type == "Identity" or (node.op_type == "Concat" and len(node.inputs) == 1)
        if passes and not node.outputs[0].is_graph_output():
            yield from _readers(node.outputs[0])
        else:
            yield node, position


def _present(node: ir.Node, position: int) -> ir.Value | None:
    if node.op_type == "Concat" and is_default(node.domain):
        return node.outputs[0]
    key = f"{node.domain}:{node.op_type}" if not is_default(node.domain) else node.op_type
    for past, present in PAST_PRESENT.get(key, ()):
        if past == position and present < len(node.outputs):
            return node.outputs[present]
    return None
