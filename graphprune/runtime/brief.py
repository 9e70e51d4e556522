"""Sessions that run only a few times: whether ONNX Runtime should rewrite the graph for them."""

from __future__ import annotations

from itertools import islice

import onnx_ir as ir

from graphprune.ir.graphs import all_nodes
from graphprune.runtime.exact import has_products

MANY_NODES = 2_000
"""Rewriting takes ONNX Runtime more than linear time: 0.2, 0.7, 1.9 and 6.6 CPU s beyond loading for 1 600,
3 200, 6 400 and 12 800 nodes of residual blocks. A few runs save less."""


def rewriting_pays(model: ir.Model) -> bool:
    """Whether a few runs are cheaper rewritten; bytes are multiplied exactly only by what that fuses."""
    nodes = sum(1 for _ in islice(all_nodes(model.graph), MANY_NODES))
    return nodes < MANY_NODES or has_products(model)


def counts_runs(model: ir.Model) -> bool:
    """Whether a session gives other numbers in its second run: seeded ones are drawn on and on."""
    return any("seed" in node.attributes for node in all_nodes(model.graph))
