"""What a training won back: what was trained, on what, and the drop before and after."""

from __future__ import annotations

from collections.abc import Iterator

from graphprune.ir.names import escape, quote
from graphprune.pipeline.report import Interval, PassReport, RecoveryReport
from graphprune.report import numbers


def lines(item: PassReport) -> tuple[str, ...]:
    """A few lines on the training of a pass; none where it trained nothing."""
    return () if item.recovery is None else tuple(map(escape, _told(item.recovery)))


def _told(found: RecoveryReport) -> Iterator[str]:
    weights = f"{numbers.short(found.weights)} weights in {found.tensors} tensors"
    how = f"{found.steps} steps of {found.batch}" + ("" if found.together else ", one sample at a time")
    yield (f"trained {weights} on {found.samples} samples: {how}, rate {found.rate:g}, {found.seconds:.0f} s")
    yield f"towards the dense model's {', '.join(map(quote, found.goals))}"
    least = min(found.curve, key=lambda each: each.selection)
    chosen = f"step {least.step}" if least.step else "no step"
    yield (
        f"loss on {found.selection} other samples {found.curve[0].selection:.3g} before, "
        f"{least.selection:.3g} at best, after {chosen} (1: the best constant answer)"
    )
    for each in found.outputs:
        before, after = _drop(each.before), _drop(each.after)
        yield f"output {quote(each.name)}: drop {before} before, {after} after on these"
    if not found.accepted:
        yield "not taken: the model is what it was"


def _drop(found: Interval | None) -> str:
    return "not known" if found is None else str(found)
