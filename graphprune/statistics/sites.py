"""Finds the Sites of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod

import onnx_ir as ir

from graphprune.ir.shapes import Sizes, infer
from graphprune.labels.state import Use
from graphprune.ops import record_of
from graphprune.ops.forms.sums import added
from graphprune.ops.record import Layer
from graphprune.ops.traits import Trait
from graphprune.statistics.products import WEIGHT_TYPES, product_of
from graphprune.statistics.site import WHOLE_COLUMNS, Site, number_of
from graphprune.statistics.stored import Stored, stored_of

__all__ = ["WHOLE_COLUMNS", "Site", "find_maskable", "find_products", "find_sites"]


def find_sites(model: ir.Model, sizes: Sizes | None = None) -> tuple[Site, ...]:
    """Every Site of the main graph, in its order; subgraphs have none."""
    sizes = sizes or infer(model, record_of)
    found = [site for node in model.graph for site in _sites(model.graph, node, sizes)]
    readers = Counter(site.weight for site in found)
    return tuple(_named(site, readers[site.weight]) for site in found)


def find_products(model: ir.Model, sizes: Sizes | None = None) -> tuple[Site, ...]:
    """The Sites whose W x is a value of the graph, and whose nodes read the stored weight itself."""
    return tuple(site for site in find_sites(model, sizes) if not site.hidden and site.stored.plain)


def find_maskable(model: ir.Model, sizes: Sizes | None = None) -> tuple[Site, ...]:
    """The Sites whose W x is a value of the graph, and in whose stored weight a zero is one to the node."""
    return tuple(site for site in find_sites(model, sizes) if not site.hidden and zero_is_zero(site.stored))


def zero_is_zero(stored: Stored) -> bool:
    """Whether stored zeros are what the node multiplies with as zero: not so behind other zero points."""
    return stored.packing is None and (stored.grid is None or not stored.grid.zero.any())


def _named(site: Site, readers: int) -> Site:
    if readers == 1:
        return site
    return replace(site, name=f"{site.name}@{site.output.name}")


def _sites(graph: ir.Graph, node: ir.Node, sizes: Sizes) -> Iterator[Site]:
    record = record_of(node)
    layer = None if record is None else record.layer
    if record is None or layer is None or layer.result == "fused":
        return
    if record.held:
        integers = product_of(graph, node, layer, record.data(0), sizes)
        if integers is not None:
            yield integers
        return
    find = _recurrent if Trait.RECURRENT in record.traits else _conv if layer.kernel else _product
    for position in (0, 1) if layer.either else (layer.weight,):
        stored, edge = _weight(graph, Use(node, position), sizes), node.inputs[1 - position]
        if edge is None or stored is None or stored_of(edge, sizes) is not None:
            continue
        found = find(graph, node, layer, position, stored, sizes)
        if found is not None:
            yield found


def _conv(
    graph: ir.Graph, node: ir.Node, layer: Layer, position: int, stored: Stored, sizes: Sizes
) -> Site | None:
    edge, axis = node.inputs[0], layer.channel
    if edge is None or len(stored.shape) < 3:
        return None
    blocks = node.attributes["group"].as_int() if "group" in node.attributes else 1
    bias, held = _biases(graph, node, layer, sizes)
    name, kernel, across = stored.value.name or "", stored.shape[2:], layer.kernel == "rows"
    return Site(node, layer, position, edge, stored, bias, held, name, blocks, axis, axis, kernel, across)


def _product(
    graph: ir.Graph, node: ir.Node, layer: Layer, position: int, stored: Stored, sizes: Sizes
) -> Site | None:
    """A' is [.., M, K] and B' is [.., K, N]; a weight on the left makes y[.., out, n]."""
    edge = node.inputs[1 - position]
    shape = None if edge is None else sizes.shapes.get(edge)
    if edge is None or len(stored.shape) != 2 or (layer.bias is None and len(shape or ()) < 2):
        return None
    # contracted axes of both are 1 and 0 before a transposition
    contracted = (0 if _flag(node, "transA") else 1, 1 if _flag(node, "transB") else 0)
    across = contracted[position] == 0
    bias, held = _summand(graph, node, layer, position, stored.shape[1 if across else 0], sizes)
    inner, name = contracted[1 - position] - 2, stored.value.name or ""
    return Site(node, layer, position, edge, stored, bias, held, name, 1, inner, position - 2, (), across)


def _summand(
    graph: ir.Graph, node: ir.Node, layer: Layer, position: int, outputs: int, sizes: Sizes
) -> tuple[ir.Value | None, Stored | None]:
    """What is added to a product, one number per output; a bias of rows runs along the other axis."""
    if position == 0 or number_of(node, layer.factor) == 0:
        return None, None
    if layer.bias is None:
        other = _vector(graph, added(node.outputs[0]))
        return other if other is not None and _shape(other) == (outputs,) else None, None
    bias, held = _biases(graph, node, layer, sizes)
    return (
        bias if bias is not None and prod(_shape(bias)) == outputs else None,
        held if held is not None and prod(held.shape) == outputs else None,
    )


def _recurrent(
    graph: ir.Graph, node: ir.Node, layer: Layer, position: int, stored: Stored, sizes: Sizes
) -> Site | None:
    edge = node.inputs[0]
    if edge is None or len(stored.shape) != 3 or not stored.plain:
        return None
    bias = _given(node, layer.bias)
    bias = bias if bias is not None and _is_weight(graph, bias) else None
    name, axis = stored.value.name or "", layer.channel
    return Site(node, layer, position, edge, stored, bias, None, name, 1, axis, axis, (), False)


def _given(node: ir.Node, position: int | None) -> ir.Value | None:
    return node.inputs[position] if position is not None and position < len(node.inputs) else None


def _vector(graph: ir.Graph, value: ir.Value | None) -> ir.Value | None:
    """A constant that holds one float per output, as [n] or [1, n]."""
    if value is None or not _is_weight(graph, value):
        return None
    shape = _shape(value)
    return value if len(shape) == 1 or (len(shape) == 2 and shape[0] == 1) else None


def _biases(
    graph: ir.Graph, node: ir.Node, layer: Layer, sizes: Sizes
) -> tuple[ir.Value | None, Stored | None]:
    """The bias input of a node, as a float vector or as one on a grid."""
    value = _given(node, layer.bias)
    plain = _vector(graph, value)
    stored = stored_of(value, sizes) if plain is None else None
    return plain, stored if stored is not None and stored.grid is not None else None


def _weight(graph: ir.Graph, use: Use, sizes: Sizes) -> Stored | None:
    stored = stored_of(use.node.inputs[use.position], sizes, use)
    if stored is None or graph.initializers.get(stored.value.name or "") is not stored.value:
        return None
    return stored if stored.grid is not None or stored.value.dtype in WEIGHT_TYPES else None


def _is_weight(graph: ir.Graph, value: ir.Value) -> bool:
    return _is_constant(graph, value) and value.dtype in WEIGHT_TYPES and not value.is_graph_input()


def _is_constant(graph: ir.Graph, value: ir.Value) -> bool:
    return graph.initializers.get(value.name or "") is value and value.const_value is not None


def _shape(value: ir.Value) -> tuple[int, ...]:
    tensor = value.const_value
    return () if tensor is None else tuple(tensor.shape.numpy())


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() == 1
