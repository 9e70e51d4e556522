"""Products of stored codes: operators that multiply with quantised weights themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.ir.nodes import input_of
from graphprune.ir.operators import Held
from graphprune.ir.shapes import Sizes
from graphprune.labels.state import Use
from graphprune.labels.stored import is_stored
from graphprune.ops.forms.dynamic import before_codes, scaled
from graphprune.ops.forms.sums import added
from graphprune.ops.record import Layer
from graphprune.statistics.site import Site
from graphprune.statistics.stored import Grid, Stored, stored_of

WEIGHT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})


def product_of(graph: ir.Graph, node: ir.Node, layer: Layer, x: Held | None, sizes: Sizes) -> Site | None:
    """The Site of a node, whose results are in real units where the scale of its weight is known.

    Args:
        graph: the main graph.
        node: the product.
        layer: where its weight is.
        x: what is known of its input 0.
        sizes: of the model.
    """
    scales = None if x is None else x.scales
    edge = _edge(node, scales)
    stored = stored_of(input_of(node, layer.weight), sizes, Use(node, layer.weight))
    windowed = layer.kernel is not None
    if edge is None or stored is None or stored.grid is None or not _usual(node):
        return None
    if graph.initializers.get(stored.value.name or "") is not stored.value:
        return None
    if len(stored.shape) < 3 if windowed else len(stored.shape) != 2:
        return None
    blocks = node.attributes["group"].as_int() if windowed and "group" in node.attributes else 1
    axis, kernel = (1, stored.shape[2:]) if windowed else (-1, ())
    across = layer.columns == -2 and not _flag(node, "transB")
    outputs = stored.shape[1 if across else 0]
    held = _held(node, layer.bias, sizes, outputs, len(kernel))
    given = None if layer.bias is None else input_of(node, layer.bias)
    name = stored.value.name or ""
    site = Site(node, layer, layer.weight, edge, stored, None, held, name, blocks, axis, axis, kernel, across)
    if not site.hidden and given is not None and held is None:
        return None  # what it adds is no constant vector
    made = site.edge is not input_of(node, 0)
    return site if made or not scales else _read(site, (*scales, None if x is None else x.zero))


def _read(site: Site, positions: Sequence[int | None]) -> Site | None:
    """The Site with what the integers of its edge stand for, by their scale and zero point."""
    values = [None if p is None else input_of(site.node, p) for p in positions]
    if not is_stored(values[0]) or any(v is not None and not is_stored(v) for v in values):
        return None
    scale, zero = (
        np.zeros(1, np.float32) if v is None or v.const_value is None else v.const_value.numpy()
        for v in values
    )
    if scale.size != 1 or zero.size != 1:
        return None
    one, nothing = (np.asarray(each, np.float32).reshape(()) for each in (scale, zero))
    return replace(site, reads=Grid(one, nothing, -np.inf, np.inf))


def _edge(node: ir.Node, scales: tuple[int, ...] | None) -> ir.Value | None:
    """What x is made of where it is quantised by its own range, else x."""
    x = input_of(node, 0)
    floats = before_codes(x)
    if floats is not None:
        return floats
    return x if scales != () and not is_stored(x) else None


def _held(node: ir.Node, bias: int | None, sizes: Sizes, outputs: int, behind: int) -> Stored | None:
    """The bias: an input, or what an Add adds to the scaled product; one number per output."""
    if bias is not None:
        stored, behind = stored_of(input_of(node, bias), sizes, Use(node, bias)), 0
    else:
        found = scaled(node)
        stored = None if found is None else stored_of(added(found.result), sizes)
    if stored is None or prod(stored.shape) != outputs or len(stored.shape) <= behind:
        return None
    known = stored.grid is not None or stored.value.dtype in WEIGHT_TYPES
    return stored if known and stored.shape[-1 - behind] == outputs else None


def _usual(node: ir.Node) -> bool:
    return not (_flag(node, "channels_last") or _flag(node, "transA"))


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() == 1
