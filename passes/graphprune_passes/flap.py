"""FLAP: heads and neurons whose inputs hardly fluctuate become a bias (arXiv 2312.11983)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from graphprune.pipeline.repairing import Repair
from graphprune.pipeline.structured import Criterion, Structured
from graphprune.prune.allocate import Cost
from graphprune.prune.kinds import Chosen


@dataclass(frozen=True)
class Flap(Structured):
    """Heads and neurons of all layers compete by standardised fluctuation; their mean is kept as a bias.

    `ratio` is the share of the heads' and neurons' parameters, so that a head counts as much as it costs.
    """

    name: ClassVar[str] = "flap"
    counted: ClassVar[Cost] = "params"

    criterion: Criterion = field(default="fluctuation", metadata={"help": "how Units are scored"})
    repair: Repair = field(default="bias", metadata={"help": "what makes up for the cut"})
    driver: Literal["sequential", "oneshot"] = field(
        default="oneshot",
        metadata={"help": "repair from the dense model's statistics, or behind the cut layers"},
    )
    kinds: tuple[Chosen, ...] = field(
        default=("heads", "neurons"), metadata={"help": "kinds of Groups to prune"}
    )
