"""A pass of somebody else: everything that a method needs to know about graphprune is on this page."""

from dataclasses import dataclass, field
from typing import ClassVar

from graphprune.plugin import Context, Pass, Plan, Subject


@dataclass(frozen=True)
class EveryOther(Pass):
    """Keep one unit in `step` of every group that may shrink, whatever it does."""

    name: ClassVar[str] = "every-other"
    step: int = field(default=2, metadata={"help": "keep units 0, step, 2*step, ..."})

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Cut every prunable group."""
        widths = {group.id: group.size for group in subject.analysis.prunable}
        return Plan(
            subject.options, {name: tuple(range(0, n, self.step)) for name, n in widths.items()}, widths
        )
