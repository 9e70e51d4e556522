"""FLAP: heads and neurons whose inputs hardly fluctuate become a bias (arXiv 2312.11983)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphprune.pipeline.structured import Structured
from graphprune.prune.allocate import Cost


@dataclass(frozen=True)
class Flap(
    Structured,
    criterion="fluctuation",
    allocate="local",
    repair="bias",
    driver="oneshot",
    kinds=("heads", "neurons"),
):
    """Heads and neurons of all layers compete by standardised fluctuation; their mean is kept as a bias.

    `ratio` is the share of the heads' and neurons' parameters, so that a head counts as much as it costs.
    """

    name: ClassVar[str] = "flap"
    counted: ClassVar[Cost] = "params"
