"""Budgets: what passes were asked to leave of the model as given, judged once, on the final model.

A `ratio` is judged as well, on what the plan of its pass removes: that the file does what the plan says is
proved tensor by tensor, and a later pass can only remove more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphprune.errors import PromiseError
from graphprune.pipeline.amounts import MEASURES, What, budgets, shown
from graphprune.pipeline.passes import Pass
from graphprune.pipeline.planfile import Replay
from graphprune.pipeline.report import BudgetReport, Size

if TYPE_CHECKING:
    from graphprune.pipeline.manager import Step

SLACK = 0.03
"""Share of the model by which less than a budget may be left without a line on it."""
ROUNDING = 1e-9
HINT = "--allow-short writes it all the same; cut more, or repair=none"


@dataclass(frozen=True)
class Verdict:
    """A budget as the report has it, and what there is to say about it."""

    report: BudgetReport
    missed: str = ""
    behind: str = ""


def judge(
    steps: Sequence[Step], sizes: Sequence[Size], allow_short: bool
) -> tuple[tuple[BudgetReport, ...], tuple[str, ...]]:
    """Every budget of every pass, and a line for each that is missed or left far behind.

    Args:
        steps: the passes, or replays of them.
        sizes: of the model as given and after each pass; the last is what would be written.
        allow_short: whether a missed budget is a line and no error.

    Raises:
        PromiseError: one is missed.
    """
    found = [verdict for number, step in enumerate(steps) for verdict in _verdicts(number, step, sizes)]
    misses = [verdict.missed for verdict in found if verdict.missed]
    if misses and not allow_short:
        raise PromiseError("\n".join(misses), HINT)
    lines = [line for verdict in found for line in (verdict.missed, verdict.behind) if line]
    return tuple(verdict.report for verdict in found), tuple(lines)


def missed(steps: Sequence[Step], sizes: Sequence[Size]) -> bool:
    """Whether any budget is missed."""
    return any(each.missed for number, step in enumerate(steps) for each in _verdicts(number, step, sizes))


def _verdicts(number: int, step: Step, sizes: Sequence[Size]) -> Iterator[Verdict]:
    found = [_of_model(what, asked, step, sizes, number) for what, asked in _asked(step.item).items()]
    tight = any(not (each.missed or each.behind) for each in found)  # that one says why no more is left
    yield from (replace(each, behind="") if tight else each for each in found)
    if step.ratio is not None:
        yield _of_ratio(step)


def _asked(item: Pass) -> Mapping[What, float]:
    """What a pass says by the names of its arguments, so that it cannot keep it back."""
    return budgets(item.item if isinstance(item, Replay) else item)


def _of_model(what: What, asked: float, step: Step, sizes: Sequence[Size], number: int) -> Verdict:
    """What may be left of the model as given, counted anew on the final model."""
    whole, before, after, left = (
        getattr(size, what) for size in (sizes[0], sizes[number], sizes[number + 1], sizes[-1])
    )
    name, noun = shown(what, asked), MEASURES[what].noun
    if whole is None or left is None:
        raise PromiseError(f"{name} cannot be judged: the multiply-adds of the result are not known")
    share = asked if asked <= 1 else asked / max(1, whole)
    part = left / max(1, whole)
    met = left <= int(share * whole + ROUNDING)
    report = BudgetReport(str(step.item), what, share, part, met)
    if not met:
        amount = "" if asked <= 1 else f"{left} {noun}, "
        return Verdict(report, missed=f"{name} is missed: {amount}{part:.4g} of the model's {noun} are left")
    if before is None or after is None or before <= share * whole or share - after / max(1, whole) <= SLACK:
        return Verdict(report)  # what is missing went in another pass
    behind = f"{name} leaves {after / whole:.3f} of the model's {noun}"
    return Verdict(report, behind=f"{behind}: {step.forced or 'its steps are that wide'}")


def _of_ratio(step: Step) -> Verdict:
    """A share of what the pass may cut, which a plan never exceeds."""
    assert step.ratio is not None
    asked, gone, of = step.ratio.asked, step.ratio.gone, step.ratio.of
    met = gone <= asked + ROUNDING
    report = BudgetReport(str(step.item), "ratio", 1 - asked, 1 - gone, met, of)
    said = f"removes {gone:.3f} of the {of}"
    if not met:
        return Verdict(report, missed=f"ratio={asked:g} is missed: the plan {said}")
    if asked - gone <= SLACK:
        return Verdict(report)
    return Verdict(report, behind=f"ratio={asked:g} {said}: {step.forced or 'its steps are that wide'}")
