"""Products of stored codes: operators that multiply with quantised weights themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.ir.shapes import Sizes
from graphprune.labels.state import Use
from graphprune.labels.stored import is_stored
from graphprune.ops.forms.dynamic import added, scaled
from graphprune.statistics.site import WINDOWED, Site
from graphprune.statistics.stored import Grid, Stored, stored_of

WEIGHT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})
IN_FLOATS = frozenset({"DynamicQuantizeMatMul", "MatMulNBits"})
"""What they read at input 0 are floats."""


@dataclass(frozen=True)
class Operands:
    """Inputs of such a product; x is the first.

    Attributes:
        w: the weight.
        scale, zero: of x; None where the edge says what its integers are made of.
        bias: None where it is added by another node, or never.
    """

    w: int = 1
    scale: int | None = None
    zero: int | None = None
    bias: int | None = None


OPERANDS: Mapping[str, Operands] = {
    "MatMulInteger": Operands(),
    "ConvInteger": Operands(),
    "QLinearConv": Operands(3, 1, 2, 8),
    "QLinearMatMul": Operands(3, 1, 2),
    "QGemm": Operands(3, 1, 2, 6),
    "QAttention": Operands(1, 3, 6, 2),
    "MatMulIntegerToFloat": Operands(1, 2, 4, 6),
    "DynamicQuantizeMatMul": Operands(bias=4),
    "MatMulNBits": Operands(bias=5),
}


def product_of(graph: ir.Graph, node: ir.Node, sizes: Sizes) -> Site | None:
    """The Site of a node, whose results are in real units where the scale of its weight is known."""
    places = OPERANDS[node.op_type]
    edge = _edge(node, places)
    stored = stored_of(_input(node, places.w), sizes, Use(node, places.w))
    windowed = node.op_type in WINDOWED
    if edge is None or stored is None or stored.grid is None or not _usual(node):
        return None
    if graph.initializers.get(stored.value.name or "") is not stored.value:
        return None
    if len(stored.shape) < 3 if windowed else len(stored.shape) != 2:
        return None
    blocks = node.attributes["group"].as_int() if windowed and "group" in node.attributes else 1
    axis, kernel = (1, stored.shape[2:]) if windowed else (-1, ())
    across = not (windowed or node.op_type == "MatMulNBits" or _flag(node, "transB"))
    outputs = stored.shape[1 if across else 0]
    held = _held(node, places, sizes, outputs, len(kernel))
    given = None if places.bias is None else _input(node, places.bias)
    name = stored.value.name or ""
    site = Site(node, places.w, edge, stored, None, held, name, blocks, axis, axis, kernel, across)
    if not site.hidden and given is not None and held is None:
        return None  # what it adds is no constant vector
    return site if site.edge is not _input(node, 0) or node.op_type in IN_FLOATS else _read(site, places)


def _read(site: Site, places: Operands) -> Site | None:
    """The Site with what the integers of its edge stand for."""
    values = [None if p is None else _input(site.node, p) for p in (places.scale, places.zero)]
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


def _edge(node: ir.Node, places: Operands) -> ir.Value | None:
    """What x is made of where it is quantised by its own range, else x."""
    x = _input(node, 0)
    maker = None if x is None else x.producer()
    if maker is not None and maker.op_type == "DynamicQuantizeLinear":
        return maker.inputs[0]
    known = places.scale is not None or node.op_type in IN_FLOATS
    return x if known and not is_stored(x) else None


def _held(node: ir.Node, places: Operands, sizes: Sizes, outputs: int, behind: int) -> Stored | None:
    """The bias: an input, or what an Add adds to the scaled product; one number per output."""
    if places.bias is not None:
        stored, behind = stored_of(_input(node, places.bias), sizes, Use(node, places.bias)), 0
    else:
        found = scaled(node)
        stored = None if found is None else stored_of(added(found.result), sizes)
    if stored is None or prod(stored.shape) != outputs or len(stored.shape) <= behind:
        return None
    known = stored.grid is not None or stored.value.dtype in WEIGHT_TYPES
    return stored if known and stored.shape[-1 - behind] == outputs else None


def _usual(node: ir.Node) -> bool:
    return not (_flag(node, "channels_last") or _flag(node, "transA"))


def _input(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() == 1
