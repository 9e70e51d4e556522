"""Budgets: what passes were asked to leave of the model as given, judged once, on the final model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphprune.errors import PromiseError
from graphprune.pipeline.report import BudgetReport, Size

if TYPE_CHECKING:
    from graphprune.pipeline.passes import Pass

NAMES = {"params": "parameters", "macs": "multiply-adds"}
"""Arguments of passes that are a share of the model as given, and what they count."""
SLACK = 0.03
"""Share of the model by which less than a budget may be left without a line on it."""


@dataclass(frozen=True)
class Asked:
    """One budget: a pass, what it counts, and the share of the model that is to be left."""

    item: Pass
    what: str
    share: float


def asked(passes: Sequence[Pass]) -> tuple[Asked, ...]:
    """Every budget that a pass names; a pass says so by the name of its argument, and cannot keep it back."""
    return tuple(_asked(passes))


def _asked(passes: Sequence[Pass]) -> Iterator[Asked]:
    for item in passes:
        for what in NAMES:
            share = getattr(item, what, None)
            if isinstance(share, int | float) and not isinstance(share, bool):
                yield Asked(item, what, float(share))


def judge(
    budgets: Sequence[Asked], given: Size, final: Size, forced: str, allow_short: bool
) -> tuple[tuple[BudgetReport, ...], tuple[str, ...]]:
    """Every budget against the final model, and a line for each that is missed or left far behind.

    Args:
        budgets: as the passes name them.
        given: the model as given.
        final: the model as it would be written.
        forced: the step that forced a cut this large, where a pass knows.
        allow_short: whether a missed budget is a line and no error.

    Raises:
        PromiseError: one is missed.
    """
    reports, lines = [], []
    for budget in budgets:
        whole, left = getattr(given, budget.what), getattr(final, budget.what)
        name = f"{budget.what}={budget.share:g}"
        if whole is None or left is None:
            raise PromiseError(f"{name} cannot be judged: the multiply-adds of the result are not known")
        share = left / max(1, whole)
        met = left <= int(budget.share * whole + 1e-9)
        reports.append(BudgetReport(str(budget.item), budget.what, budget.share, share, met))
        if not met:
            line = f"{name} is missed: {share:.4g} of the model's {NAMES[budget.what]} are left"
            if not allow_short:
                raise PromiseError(line, "--allow-short writes it all the same; cut more, or repair=none")
            lines.append(line)
        elif budget.share - share > SLACK:
            why = f"no smaller step than {forced} was legal" if forced else "its steps are that wide"
            lines.append(f"{name} leaves {share:.3f} of the model's {NAMES[budget.what]}: {why}")
    return tuple(reports), tuple(lines)
