"""Wanda-sp: Wanda's score summed over heads and neurons, the same share in every layer (FLAP's baseline)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from graphprune.pipeline.repairing import Repair
from graphprune.pipeline.structured import Criterion, Structured
from graphprune.prune.kinds import Chosen
from graphprune.prune.select import Scope


@dataclass(frozen=True)
class WandaSp(Structured):
    """Removes heads and neurons of small weight times activation norm (arXiv 2306.11695), without repair."""

    name: ClassVar[str] = "wanda-sp"

    criterion: Criterion = field(default="wanda", metadata={"help": "how Units are scored"})
    scope: Scope = field(default="local", metadata={"help": "which Units compete"})
    repair: Repair = field(default="none", metadata={"help": "what makes up for the cut"})
    kinds: tuple[Chosen, ...] = field(
        default=("heads", "neurons"), metadata={"help": "kinds of Groups to prune"}
    )
