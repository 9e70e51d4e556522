"""A cut by hand: the Units that somebody named go, and everything that depends on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from graphprune.errors import ArgumentError, PromiseError, did_you_mean
from graphprune.ir.names import quote
from graphprune.pipeline.passes import Context, Pass, Subject, Turn, argument
from graphprune.pipeline.repairing import HELP, Repair, repaired, settled, tell
from graphprune.prune.plan import Plan

if TYPE_CHECKING:
    from graphprune.axes import Analysis, Group, Options


@dataclass(frozen=True)
class Cut(Pass):
    """Removes the Units that are named by Group and index, and everything that depends on them."""

    name: ClassVar[str] = "cut"
    turn: ClassVar[Turn | None] = "structure"

    remove: Mapping[str, tuple[int, ...]] = field(
        default_factory=dict, metadata={"help": "indices of the Units that go, by Group id"}
    )
    repair: Repair = argument("auto", HELP)
    layernorm: Literal["refuse", "expand", "slice"] = argument(
        "refuse", "widths under LayerNorm: leave, cut exactly, or cut and change the function"
    )
    allow_inexact: bool = argument(False, "permit cuts that change what a normaliser computes")

    def __post_init__(self) -> None:
        found = {name: tuple(sorted({int(unit) for unit in units})) for name, units in self.remove.items()}
        object.__setattr__(self, "remove", found)

    def options(self) -> Options:
        """What the analysis may assume."""
        from graphprune.axes import Options

        return Options(layernorm=self.layernorm, allow_inexact=self.allow_inexact)

    def decide(self, subject: Subject, context: Context) -> Plan:
        """What is left of each Group, and a repair of what is behind it."""
        from graphprune.prune.fits import misfit

        if not any(self.remove.values()):
            raise ArgumentError("cut names no Units to remove", 'name some: cut(remove={"GROUP": [0, 3, 5]})')
        analysis = subject.analysis
        groups = {name: _group(analysis, name) for name in self.remove}
        cuts = {name: _left(group, self.remove[name]) for name, group in groups.items()}
        plan = Plan(
            options=self.options(), cuts=cuts, widths={name: group.size for name, group in groups.items()}
        )
        wrong = misfit(analysis, plan)
        if wrong:
            raise ArgumentError(f"remove cannot be carried out: {wrong}")
        how = settled(self.repair, context)
        made = repaired(analysis, cuts, how, context)
        tell(made, how, context)
        return Plan(plan.options, cuts, plan.widths, replaced=made.replaced, biases=made.biases)


def _group(analysis: Analysis, name: str) -> Group:
    """A Group that may shrink.

    Raises:
        ArgumentError: there is none of this name.
        PromiseError: it is pinned.
    """
    found = next((group for group in analysis.groups if group.id == name), None)
    if found is None:
        meant = sorted(_holding(analysis, name))
        hint = f"did you mean {meant[0]!r}?" if meant else did_you_mean(name, [g.id for g in analysis.groups])
        raise ArgumentError(f"there is no group {quote(name)}", hint)
    if found.pin is not None:
        raise PromiseError(
            f"group {quote(name)} is pinned: {found.pin.reason} [{found.pin.node}]", found.pin.unblock
        )
    return found


def _holding(analysis: Analysis, name: str) -> Iterator[str]:
    """Groups that own slots of an initializer of this name."""
    for group in analysis.groups:
        if any(name in (each.initializer, f"{each.initializer}:{each.axis}") for each in group.sources):
            yield group.id


def _left(group: Group, gone: tuple[int, ...]) -> tuple[int, ...]:
    """The Units that stay.

    Raises:
        ArgumentError: an index is of no Unit, or too few stay.
    """
    wrong = [unit for unit in gone if not 0 <= unit < group.size]
    if wrong:
        raise ArgumentError(
            f"group {quote(group.id)} has no unit {wrong[0]}", f"it has {group.size}: 0 to {group.size - 1}"
        )
    left = tuple(sorted(set(range(group.size)) - set(gone)))
    if len(left) < group.floor:
        raise ArgumentError(
            f"{len(left)} units would be left of group {quote(group.id)}", f"at least {group.floor} must stay"
        )
    return left
