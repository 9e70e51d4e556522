"""The report of a finished compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from graphprune.ir.arrays import Arrays
from graphprune.ir.fixed import NOTHING, as_lists
from graphprune.pipeline import recipe, registry
from graphprune.pipeline.clock import Clock
from graphprune.pipeline.job import Job
from graphprune.pipeline.manager import Step
from graphprune.pipeline.report import BudgetReport, PassReport, Report, Size, installed_versions
from graphprune.pipeline.settings import Settings


@dataclass(frozen=True)
class Counted:
    """Sizes of the model as given and after each pass, and what that says about the budgets."""

    sizes: list[Size]
    budgets: tuple[BudgetReport, ...] = ()
    lines: tuple[str, ...] = ()


def reported(
    job: Job,
    settings: Settings,
    clock: Clock,
    counted: Counted,
    steps: Sequence[Step] = (),
    files: Mapping[str, str] = MappingProxyType({}),
    notes: tuple[str, ...] = (),
    fixed: Arrays = NOTHING,
) -> Report:
    """What was asked, what each pass did, and how long it took; nothing that was measured on samples.

    Args:
        job: what was compiled.
        settings: as a recipe is to repeat them.
        clock: that ran meanwhile.
        counted: sizes and budgets.
        steps: the passes that ran.
        files: that were written, with their SHA-256.
        notes: lines that are no pass's.
        fixed: inputs that became constants.
    """
    return Report(
        source=job.source,
        output=str(job.output or ""),
        pipeline=job.pipeline,
        before=counted.sizes[0],
        after=counted.sizes[-1],
        passes=tuple(_pass_report(step, size) for step, size in zip(steps, counted.sizes[1:], strict=True)),
        latency=None,
        warnings=(*(line for step in steps for line in step.warnings), *counted.lines, *notes),
        versions=installed_versions(),
        seed=settings.seed,
        timings=clock.timings(),
        files=tuple(files),
        fixed=as_lists(fixed),
        budgets=counted.budgets,
        command=job.command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        hashes=dict(files),
        recipe=recipe.write(job.recipe(settings, registry.text(step.item for step in steps))),
        config=job.config,
    )


def _pass_report(step: Step, size: Size) -> PassReport:
    return PassReport(
        str(step.item), step.groups, step.proof, size, step.warnings, step.zeros, step.notes, step.recovery
    )
