"""Structured pruning: score Units, choose the least salient within a budget, cut them, repair the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphprune.pipeline.structured import Structured


@dataclass(frozen=True)
class Prune(Structured):
    """Removes whole Units (channels, heads, hidden widths) and everything that depends on them."""

    name: ClassVar[str] = "prune"
