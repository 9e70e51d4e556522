"""A search as a page: the result in large type, the curve as a picture, and every figure behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from xml.etree.ElementTree import Element

from graphprune.report import numbers, tuned
from graphprune.report.html import pictures
from graphprune.report.html.elements import Column, facts, grid, lines, section, tag
from graphprune.report.html.page import document, links, undrawn
from graphprune.report.html.pictures import AFTER, GONE, KEPT, Part
from graphprune.report.html.verdict import Card
from graphprune.tuning.tuned import Final, Tuned

HOLDS, BROKEN = (
    Part("keeps to the bound", KEPT.fill, KEPT.edge),
    Part("loses more", GONE.fill, GONE.edge),
)
RESULT = Part("the result", AFTER.fill, "currentColor")


def render_search(found: Tuned) -> str:
    """The page as text."""
    source, output = (PurePath(path).name for path in (found.source, found.output))
    title = f"{output} from {source}" if output else f"{source}, tuned"
    header = tag("header", tag("h1", title), tag("p", _summary(found), class_="note"), undrawn())
    shown = [
        each for each in (_curve(found), _timed(found), _ending(found), _origin(found)) if each is not None
    ]
    return document(title, header, tag("main", _verdict(found), links(shown), *shown))


def _summary(found: Tuned) -> str:
    tried = f"{found.tried} candidates in {found.seconds:.0f} s"
    return f"{tried}, target {found.target}, at most {found.bound:g} lost"


def _verdict(found: Tuned) -> Element:
    heading = tag("h2", "Verdict", id="verdict")
    listed = tag("ul", *(card.draw() for card in _cards(found)), class_="cards")
    return tag("section", heading, listed, class_="verdict", aria_labelledby="verdict")


def _cards(found: Tuned) -> Iterator[Card]:
    timed = found.result
    if timed is not None:
        yield _speed(timed)
    left = numbers.share(found.after.bytes, found.before.bytes)
    sizes = (
        f"{numbers.short(found.before.bytes, 'B')} → {numbers.short(found.after.bytes, 'B')} of all tensors"
    )
    macs = f"{numbers.share(found.after.macs, found.before.macs)} of the multiply-adds"
    yield Card(
        left, "of the bytes", (sizes, macs), "good" if found.after.bytes < found.before.bytes else "plain"
    )
    if timed is not None and timed.reported is not None:
        behind = (tuned.reported(timed.reported), f"{found.samples[2]} samples that decided nothing")
        yield Card(f"{timed.reported.value:.4f}", "lost", behind, "good")
    if not found.met:
        yield Card("Target", "missed", (found.target,), "bad")


def _speed(timed: Final) -> Card:
    times = f"{numbers.milliseconds(timed.before_ms)} → {numbers.milliseconds(timed.after_ms)}"
    spread = f"99 % interval {timed.speedup_low:.2f}x to {timed.speedup_high:.2f}x"
    if timed.verdict == "faster":
        return Card(f"{timed.speedup:.2f}x", "faster", (times, spread), "good")
    return Card("Speed", timed.verdict, (times, spread))


def _curve(found: Tuned) -> Element:
    parts = (RESULT, HOLDS, BROKEN)
    rows: list[pictures.Row] = [
        {
            "cost": round(100 * point.left, 3),
            "loss": point.loss.value,
            "part": _part(found, point.number, point.holds).name,
        }
        for point in found.points
    ]
    best = min(found.points, key=lambda point: point.left, default=None)
    least = "" if best is None else f" The least is {100 * best.left:.0f} %, losing {best.loss.value:.3f}."
    told = f"Loss against the cost that is left, {len(rows)} candidates that none beats in both.{least}"
    picture = pictures.figure(
        "Loss (on the samples that choose) over the cost that is left, in percent",
        told,
        pictures.points(rows, parts, "cost left, percent", "loss", found.bound),
        parts,
    )
    columns = (
        Column("candidate", True),
        Column("cost left, %", True),
        Column("predicted, ms", True),
        Column("loss", True),
        Column("standard error", True, extra=True),
        Column(""),
        Column("passes"),
        Column("recipe", extra=True),
    )
    table = grid(
        "Candidates that none beats in both cost and loss",
        columns,
        [
            (
                str(point.number),
                f"{100 * point.left:.1f}",
                f"{point.predicted_ms:.3g}",
                f"{point.loss.value:.4f}",
                f"{point.loss.error:.4f}",
                _part(found, point.number, point.holds).name,
                tag("code", point.pipeline),
                point.recipe,
            )
            for point in found.points
        ],
        "candidates",
    )
    return section("Curve", picture, table, key="curve")


def _part(found: Tuned, number: int, holds: bool) -> Part:
    if number == found.chosen:
        return RESULT
    return HOLDS if holds else BROKEN


def _timed(found: Tuned) -> Element | None:
    if not found.finals:
        return None
    columns = (
        Column("candidate", True),
        Column("latency, ms", True),
        Column("speed-up", True),
        Column("99 % interval", extra=True),
        Column("loss on the report part", True),
        Column(""),
    )
    rows = [
        (
            str(each.number),
            f"{each.after_ms:.3g}",
            f"{each.speedup:.2f}",
            f"{each.speedup_low:.2f} to {each.speedup_high:.2f}",
            "" if each.reported is None else f"{each.reported.value:.4f}",
            each.why or "the result",
        )
        for each in found.finals
    ]
    return section("Timed alone", grid("Each against the file as given", columns, rows), key="timed")


def _ending(found: Tuned) -> Element:
    told = [*found.stopped, *(f"would help: {each}" for each in found.helps), *found.left_out]
    return section("Why it ends here", lines(told), key="ending")


def _origin(found: Tuned) -> Element:
    repair, choice, report = found.samples
    return section(
        "Where this comes from",
        facts(
            (
                ("judged by", ", ".join(found.judged)),
                ("samples", f"{repair} to repair on, {choice} to choose by, {report} to report on"),
                ("passes", tag("code", found.pipeline or "none")),
                ("study", found.study or "not kept"),
            )
        ),
        key="origin",
    )
