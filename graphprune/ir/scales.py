"""Scales per slot of an axis that name another axis than the one that they fit."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graphprune.ir.domains import is_default
from graphprune.ir.graphs import all_nodes
from graphprune.ir.names import listed
from graphprune.ir.weights import FROM_CODES, stored

AXES_FROM = 13
"""The first opset in which a scale may belong to an axis."""


def fit_scales(model: ir.Model) -> tuple[str, ...]:
    """Names the axis that a scale fits where the one that is named has another size, in place.

    ONNX Runtime's static quantiser gives a bias of shape [1, n] n scales along axis 0. No kernel runs that;
    the file works as long as the bias is fused into a product, which reads the n numbers along the columns.
    An axis is named only where exactly one has that size, and for stored tensors alone.

    Returns:
        Names of the nodes that were changed.
    """
    if model.opset_imports.get("", 0) < AXES_FROM:
        return ()
    nodes = [node for node in all_nodes(model.graph) if takes_scales(node)]
    dims = {value: tensor.shape.numpy() for value, tensor in stored(model)} if nodes else {}
    found = []
    for node in nodes:
        axis = _fitting(node, *(dims.get(value) if value is not None else None for value in node.inputs[:2]))
        if axis is not None:
            node.attributes["axis"] = ir.AttrInt64("axis", axis)
            found.append(node.name or node.op_type)
    return tuple(found)


def takes_scales(node: ir.Node) -> bool:
    """Whether a node turns numbers into codes, or codes into numbers."""
    return node.op_type in FROM_CODES and is_default(node.domain)


def _fitting(node: ir.Node, dims: Sequence[int] | None, scales: Sequence[int] | None) -> int | None:
    """The only axis of as many slots as there are scales, where the named one has another number of them."""
    if (
        dims is None
        or scales is None
        or len(scales) != 1
        or scales[0] == 1
        or "block_size" in node.attributes
    ):
        return None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    rank, count = len(dims), scales[0]
    if -rank <= axis < rank and dims[axis] == count:
        return None
    places = [at for at, size in enumerate(dims) if size == count]
    return places[0] if len(places) == 1 else None


def said(names: Sequence[str]) -> str:
    """A line for the report; empty where there is nothing to say."""
    if not names:
        return ""
    return f"scales named an axis that they do not fit, and name the one that they fit now: {listed(names)}"
