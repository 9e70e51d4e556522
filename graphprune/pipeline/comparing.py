"""Allocations made and repaired on some samples, and what the outputs lose by each on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphprune.axes import Analysis
from graphprune.pipeline.built import built
from graphprune.pipeline.collecting import Collector
from graphprune.pipeline.method import Method
from graphprune.pipeline.passes import Context
from graphprune.pipeline.repairing import repaired
from graphprune.prune.allocate import Cuts
from graphprune.prune.plan import Plan

if TYPE_CHECKING:
    from graphprune.runtime.session import Feeds


@dataclass(frozen=True)
class Comparison:
    """How allocations are compared.

    Args:
        item: the pass, which says how they are repaired.
        analysis: of the dense model.
        context: what the pass may use.
        held: samples to compare outputs on.
        rest: samples to repair on.
    """

    item: Method
    analysis: Analysis
    context: Context
    held: Sequence[Feeds]
    rest: Sequence[Feeds]

    def losses(self, cuts: Sequence[Cuts], how: str) -> list[float]:
        """What the outputs lose by each of some cuts, repaired as the result will be."""
        from graphprune.prune.loss import Loss
        from graphprune.runtime.session import open_session

        model = self.analysis.model
        loss = Loss(model, self.held, open_session(model, exact=True).run)
        found = []
        for number, each in enumerate(cuts):
            self.context.run.progress(number, len(cuts), "allocations")
            found.append(loss.lost(open_session(built(self.analysis, self._made(each, how)), exact=True).run))
        return found

    def _made(self, cuts: Cuts, how: str) -> Plan:
        context = replace(self.context, calibration=tuple(self.rest), collector=Collector())
        item = self.item
        made = repaired(self.analysis, cuts, how, context, driver=item.driver, refresh=item.refreshes)
        widths = {group.id: group.size for group in self.analysis.groups if group.id in cuts}
        return Plan(self.analysis.options, cuts, widths, replaced=made.replaced, biases=made.biases)
