"""Minitron: widths by mean absolute activation on a small calibration set (arXiv 2407.14679)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from graphprune.pipeline.repairing import Repair
from graphprune.pipeline.structured import Criterion, Structured
from graphprune.prune.kinds import Chosen
from graphprune.prune.select import Scope


@dataclass(frozen=True)
class Minitron(Structured):
    """Removes heads, neurons and stream channels of small activation, as before distillation."""

    name: ClassVar[str] = "minitron"

    criterion: Criterion = field(default="minitron", metadata={"help": "how Units are scored"})
    scope: Scope = field(default="local", metadata={"help": "which Units compete"})
    repair: Repair = field(default="none", metadata={"help": "what makes up for the cut"})
    kinds: tuple[Chosen, ...] = field(
        default=("heads", "neurons", "stream"), metadata={"help": "kinds of Groups to prune"}
    )
