"""A pass of somebody else: everything that a method needs to know about graphprune is on this page."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from graphprune.plugin import Context, Group, Pass, Plan, Subject


@dataclass(frozen=True)
class EveryOther(Pass):
    """Keep one unit in `step` of every group that may shrink, whatever it does."""

    name: ClassVar[str] = "every-other"
    step: int = field(default=2, metadata={"help": "keep units 0, step, 2*step, ... of every block"})

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Cut every prunable group."""
        return Plan(subject.options, {group.id: self._kept(group) for group in subject.analysis.prunable})

    def _kept(self, group: Group) -> tuple[int, ...]:
        """One unit in `step` of each block; most groups are one block."""
        block = np.zeros(group.size, int) if group.block is None else group.block
        kept = [np.flatnonzero(block == each)[:: self.step] for each in np.unique(block)]
        return tuple(np.concatenate(kept).tolist())
