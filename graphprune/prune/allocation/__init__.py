"""How much of each Group goes: losses per width and costs in, one width per Group out."""

from __future__ import annotations

from graphprune.prune.allocation.costs import Axis, Costs, Layer, Sum, Table, Width
from graphprune.prune.allocation.solve import Solution, solve

__all__ = ["Axis", "Costs", "Layer", "Solution", "Sum", "Table", "Width", "solve"]
