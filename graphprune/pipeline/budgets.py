"""Budgets: what passes were asked to leave of the model as given, judged once, on the final model.

A `ratio` is judged as well, on what the plan of its pass removes: that the file does what the plan says is
proved tensor by tensor, and a later pass can only remove more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphprune.errors import PromiseError
from graphprune.pipeline.amounts import COUNTED, MEASURES, What, budgets, shown
from graphprune.pipeline.passes import Pass
from graphprune.pipeline.planfile import Replay
from graphprune.pipeline.report import BudgetReport, LatencyReport, Size

if TYPE_CHECKING:
    from graphprune.pipeline.manager import Step

SLACK = 0.03
"""Share of the model by which less than a budget may be left without a line on it."""
MARGIN = 0.05
"""Share by which a latency may be beyond its budget: what a measurement cannot tell."""
ROUNDING = 1e-9
HINT = "--allow-short writes it all the same; cut more, or repair=none"


@dataclass(frozen=True)
class Verdict:
    """A budget as the report has it, and what there is to say about it."""

    report: BudgetReport
    missed: str = ""
    behind: str = ""


@dataclass(frozen=True)
class Taken:
    """What a result takes of the time that the model as given takes.

    Attributes:
        measured: against that; None where it was not, or not on the target.
        foreseen: the share that the last latency budget foresees.
        whole: nanoseconds of the model as given, where a budget is a time.
    """

    measured: LatencyReport | None = None
    foreseen: float | None = None
    whole: int | None = None


def judge(
    steps: Sequence[Step], sizes: Sequence[Size], allow_short: bool, taken: Taken | None = None
) -> tuple[tuple[BudgetReport, ...], tuple[str, ...]]:
    """Every budget of every pass, and a line for each that is missed or left far behind.

    Args:
        steps: the passes, or replays of them.
        sizes: of the model as given and after each pass; the last is what would be written.
        allow_short: whether a missed budget is a line and no error.
        taken: the latency, where one was asked for.

    Raises:
        PromiseError: one is missed.
    """
    found = [
        verdict for number, step in enumerate(steps) for verdict in _verdicts(number, step, sizes, taken)
    ]
    misses = [verdict.missed for verdict in found if verdict.missed]
    if misses and not allow_short:
        raise PromiseError("\n".join(misses), HINT)
    lines = [line for verdict in found for line in (verdict.missed, verdict.behind) if line]
    return tuple(verdict.report for verdict in found), tuple(lines)


def missed(steps: Sequence[Step], sizes: Sequence[Size]) -> bool:
    """Whether any budget is missed."""
    return any(each.missed for number, step in enumerate(steps) for each in _verdicts(number, step, sizes))


def _verdicts(
    number: int, step: Step, sizes: Sequence[Size], taken: Taken | None = None
) -> Iterator[Verdict]:
    asked = _asked(step.item)
    found = [_of_model(what, share, step, sizes, number) for what, share in asked.items() if what in COUNTED]
    if taken is not None and "latency" in asked:
        found += [_of_latency(asked["latency"], step, taken)]
    tight = any(not (each.missed or each.behind) for each in found)  # that one says why no more is left
    yield from (replace(each, behind="") if tight else each for each in found)
    if step.ratio is not None:
        yield _of_ratio(step)


def _asked(item: Pass) -> Mapping[What, float]:
    """What a pass says by the names of its arguments, so that it cannot keep it back."""
    return budgets(item_of(item))


def item_of(item: Pass) -> Pass | None:
    """A pass, or the one that a replay repeats, if it is installed."""
    return item.item if isinstance(item, Replay) else item


def on_time(asked: float, taken: Taken) -> bool:
    """Whether a latency budget is met: not where all of the interval is beyond it."""
    measured = taken.measured
    least = 1 / measured.speedup_high if measured else taken.foreseen or 1.0
    return least <= share_of(asked, taken) * (1 + MARGIN)


def share_of(asked: float, taken: Taken) -> float:
    """What a latency budget asks for as a share of what the model as given takes."""
    measured = taken.measured
    whole = 1e6 * measured.before_ms if measured else taken.whole or 1
    return asked if asked <= 1 else asked / whole


def _of_latency(asked: float, step: Step, taken: Taken) -> Verdict:
    """As measured, or as foreseen for another machine; missed where all of the interval is beyond."""
    measured, share = taken.measured, share_of(asked, taken)
    part = 1 / measured.speedup if measured else taken.foreseen or 1.0
    least = 1 / measured.speedup_high if measured else part
    met = on_time(asked, taken)
    report = BudgetReport(str(step.item), "latency", share, part, met, foreseen=taken.foreseen)
    name = shown("latency", asked)
    if met:
        return Verdict(report)
    told = "" if taken.foreseen is None or not measured else f"; {taken.foreseen:.3f} was foreseen"
    said = f"{part:.3f} ({least:.3f} to {1 / measured.speedup_low:.3f})" if measured else f"{part:.3f}"
    return Verdict(report, missed=f"{name} is missed: {said} of the model's latency are left{told}")


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
