"""What latency budgets are solved by: the model's nodes as they run once lowered, and a device profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING

from graphprune.axes import Analysis, Group
from graphprune.lowering.lower import Rules, lowered
from graphprune.pipeline.alike import fitting
from graphprune.pipeline.built import built
from graphprune.pipeline.settings import Settings
from graphprune.prune.plan import Plan

MOST_POWER = 2.0
"""By which the logarithm of what was foreseen is multiplied at most; the inverse is the least."""

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.prune.allocate import Cuts
    from graphprune.prune.latency import LatencyModel
    from graphprune.prune.select import Ladder
    from graphprune.runtime.device import DeviceProfile
    from graphprune.runtime.pieces import Piece
    from graphprune.runtime.session import Feeds


@dataclass(frozen=True)
class Runs:
    """How models of a compile run in the end.

    Attributes:
        how: the rules that they are lowered by; None where they are not.
        kept: weights that no rule may touch.
        feeds: inputs of the model at hand.
        settings: how models are run.
        threads: of ONNX Runtime.
    """

    how: Rules | None
    kept: frozenset[str]
    feeds: Feeds
    settings: Settings
    threads: int

    def lowered(self, model: ir.Model) -> ir.Model:
        """A model in normal form as it is written; itself where no rule applies."""
        if self.how is None:
            return model
        result, uses = lowered(model, self.how, self.kept)
        return result if uses else model

    def pieces(self, model: ir.Model, lower: bool = True) -> tuple[Piece, ...]:
        """The nodes of a model in normal form that run, once it is lowered if that is said.

        Raises:
            ModelError: it does not run.
        """
        from graphprune.runtime.pieces import pieces

        ready = self.lowered(model) if lower else model
        return pieces(ready, fitting(self.feeds, ready, self.settings), self.threads)


@dataclass(frozen=True)
class Foresight:
    """What a cut is foreseen to take.

    Attributes:
        runs: how models run.
        profile: what nodes cost.
        here: whether it is of this machine, so that what is foreseen can be measured.
        whole: nanoseconds of the lowered dense model by the profile; what a share is one of.
        shares: whether budgets are shares of the model as given, not times.
        factor: what the profile says, times this, is a share of the model as given, or nanoseconds.
    """

    runs: Runs
    profile: DeviceProfile
    here: bool
    whole: int
    shares: bool = True
    factor: float = 1.0

    def of(self, analysis: Analysis, groups: Sequence[Group], ladders: Sequence[Ladder]) -> LatencyModel:
        """Counts the nanoseconds of any cut of some Groups.

        Args:
            analysis: of the model at hand.
            groups: numbered as the ladders say.
            ladders: legal steps of each.
        """
        from graphprune.prune.latency import LatencyModel, follow

        def run(cuts: Cuts) -> Sequence[Piece]:
            widths = {group.id: group.size for group in groups if group.id in cuts}
            plan = Plan(analysis.options, cuts, widths)
            return self.runs.pieces(built(analysis, plan) if cuts else analysis.model)

        nodes = follow(analysis, groups, ladders, run, self.runs.settings.seed)
        return LatencyModel(analysis, nodes, self.profile, self.factor)

    def corrected(self, asked: float, foreseen: float, measured: float, whole: float) -> Foresight:
        """What to solve by where a result took another share than was foreseen.

        What nodes cost alone and what a model of them takes differ by more than a factor: the dense model is
        foreseen exactly, the result is not. So shares of the dense model are taken to turn out as a power of
        what is foreseen, the one that goes through both, and the factor is the one that makes what is asked
        turn out. The power is bounded, since a measurement near that of the dense model says little.

        Args:
            asked: share of the model as given.
            foreseen: of the result, likewise.
            measured: of the result, likewise.
            whole: nanoseconds that are all of that model where a cut is foreseen.
        """
        dense = self.whole * self.factor / whole
        if not max(asked, foreseen) < dense:  # nothing had to go
            return replace(self, factor=self.factor * measured / foreseen)
        power = log(measured / dense) / log(foreseen / dense)
        power = min(max(power, 1 / MOST_POWER), MOST_POWER)
        return replace(self, factor=self.factor * (asked / dense) ** (1 - 1 / power))


def taken(found: Sequence[Piece], profile: DeviceProfile) -> int:
    """Nanoseconds of one run of some nodes by a profile."""
    from graphprune.prune.latency.model import NANOSECONDS, seconds_each

    return round(NANOSECONDS * (profile.overhead + sum(seconds_each(found, profile))))
