"""A search as lines while it runs, and as tables at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphprune.ir.names import escape
from graphprune.report import numbers
from graphprune.report.table import Table
from graphprune.tuning.trial import FULL

if TYPE_CHECKING:
    from graphprune.tuning.foreseen import Foreseen
    from graphprune.tuning.goal import Figures
    from graphprune.tuning.trial import Loss, Trial
    from graphprune.tuning.tuned import Final, Point, Tuned

BAR = 24
"""Characters of a bar that is a whole."""
HEADING = "   #  left    latency  loss             passes"


def judged(lines: tuple[str, ...], bound: float) -> str:
    """The first line of a search: what is judged, and how."""
    return f"judged by {', '.join(map(escape, lines))}; at most {bound:g} may be lost"


def line(found: Trial, share: float | None, dense: Figures, left: float | None) -> str:
    """One candidate as it is told, and the seconds that are left."""
    if found.figures is None or found.loss is None or share is None:
        said = f"{found.number:4d}  {'-':34s}{escape(found.pipeline)}: {escape(found.why)}"
    else:
        quick = "" if found.asked.level == FULL else " (quick)"
        latency = numbers.milliseconds(1e3 * found.figures.latency)
        said = (
            f"{found.number:4d}  {100 * share:3.0f} %  {latency:>9s}  {_loss(found.loss):15s}  "
            f"{escape(found.pipeline)}{quick}"
        )
    return said if left is None else f"{said}  [{max(0.0, left):.0f} s left]"


def _loss(found: Loss) -> str:
    return f"{found.value:.4f} ± {found.error:.4f}"


def tables(found: Tuned) -> tuple[Table, ...]:
    """The result, the curve, the last candidates, and why it ends there."""
    said = (result(found), curve(found), finals(found), ending(found))
    return tuple(table for table in said if table.rows)


def result(found: Tuned) -> Table:
    """Sizes and latency before and after, and what was lost."""
    before, after = found.before, found.after
    rows = [
        (
            "params",
            numbers.short(before.params),
            numbers.short(after.params),
            numbers.share(after.params, before.params),
        ),
        (
            "MACs",
            numbers.short(before.macs),
            numbers.short(after.macs),
            numbers.share(after.macs, before.macs),
        ),
        (
            "bytes",
            numbers.short(before.bytes, "B"),
            numbers.short(after.bytes, "B"),
            numbers.share(after.bytes, before.bytes),
        ),
    ]
    timed = found.result
    if timed is not None:
        times = numbers.milliseconds(timed.before_ms), numbers.milliseconds(timed.after_ms)
        rows.append(("latency", *times, numbers.share(timed.after_ms, timed.before_ms)))
    return Table("Result", ("", ">before", ">after", ">left"), tuple(rows), "\n".join(_notes(found)))


def _notes(found: Tuned) -> Iterator[str]:
    timed = found.result
    if found.chosen < 0:
        yield "the result is the file as given: nothing was faster"
    elif not found.chosen:
        yield "the result is the dense model, lowered"
    else:
        yield f"passes: {escape(found.pipeline)}"
    if timed is not None:
        yield speed(timed)
        if timed.reported is not None:
            yield f"loss on the report part: {reported(timed.reported)}, {found.samples[2]} samples"
    if not found.met:
        yield f"the target {escape(found.target)} is missed: nothing met it within the loss that is allowed"


def speed(timed: Final) -> str:
    """The speed-up in words, never calling noise a speed-up."""
    spread = f"99 % interval {timed.speedup_low:.2f} to {timed.speedup_high:.2f}"
    if timed.verdict == "faster":
        return f"latency: {timed.speedup:.2f}x faster than the file as given ({spread})"
    return f"latency: {timed.verdict} ({spread})"


def reported(loss: Loss) -> str:
    """A loss with its interval."""
    return f"{loss.value:.4f} (95 % interval {loss.low:.4f} to {loss.high:.4f}) of {escape(loss.where)}"


def curve(found: Tuned) -> Table:
    """Every candidate that none beats, as a bar of what it leaves."""
    rows = tuple(_row(found, point) for point in found.points)
    names = (">#", "left", "", ">predicted", ">loss", "", "passes")
    note = "left: of the cost that is searched for, predicted; > is the result, + keeps to the bound, too"
    return Table("Curve", names, rows, note)


def _row(found: Tuned, point: Point) -> tuple[str, ...]:
    bar = "█" * max(1, round(BAR * min(1.0, point.left)))
    mark = ">" if point.number == found.chosen else "+" if point.holds else ""
    left, latency = f"{100 * point.left:.0f} %", numbers.milliseconds(point.predicted_ms)
    return str(point.number), bar, left, latency, _loss(point.loss), mark, escape(point.pipeline)


def finals(found: Tuned) -> Table:
    """Candidates that were timed alone, and why all but one are not the result."""
    rows = tuple(
        (
            str(each.number),
            numbers.milliseconds(each.after_ms),
            f"{each.speedup:.2f}x",
            "" if each.reported is None else _loss(each.reported),
            escape(each.why) or "the result",
        )
        for each in found.finals
    )
    return Table("Timed alone", (">#", ">latency", ">speed-up", ">loss, report part", ""), rows)


def ending(found: Tuned) -> Table:
    """Why it ends there, and what would lead further."""
    told = [("stopped", each) for each in found.stopped]
    told += [("would help", each) for each in found.helps]
    told += [("left out", each) for each in found.left_out]
    rows = tuple((name, escape(each)) for name, each in told)
    noun = "candidate" if found.tried == 1 else "candidates"
    title = f"Why it ends here, after {found.tried} {noun} and {found.seconds:.0f} s"
    return Table(title, ("", ""), rows)


def foreseen(found: Foreseen) -> tuple[Table, ...]:
    """The predicted curve, and what a search would cost."""
    rows = tuple(
        (
            f"{100 * point.macs:.0f} %",
            f"{100 * point.params:.0f} %",
            numbers.milliseconds(point.latency_ms),
            f"{found.given_ms / point.latency_ms:.2f}x",
        )
        for point in found.points
    )
    many = f"about {found.candidates} candidates in {found.seconds:.0f} s, {found.each:.1f} s each"
    ways = f"ways: {', '.join(found.ways)}"
    note = f"cut by weight norms, whatever is lost; nothing was written\n{many}\n{ways}"
    return (Table("Predicted", (">MACs", ">params", ">latency", ">speed-up"), rows, note),)


def brief(found: Tuned) -> str:
    """In one line."""
    timed = found.result
    gain = speed(timed).removeprefix("latency: ").partition(" (")[0] if timed is not None else "not timed"
    lost = "" if timed is None or timed.reported is None else f"; loss {timed.reported.value:.4f}"
    return f"{escape(found.source)}, {escape(found.pipeline) or 'as given'}; {gain}{lost}"
