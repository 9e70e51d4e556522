"""The parts of a page below the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

from graphprune.pipeline.report import (
    AgreementReport,
    GroupReport,
    OutputDrop,
    PassReport,
    ProofReport,
    RecoveryReport,
    Report,
    Scores,
    WorkTime,
    ZerosReport,
)
from graphprune.report import agreed, compiled, lowered, numbers, recovered
from graphprune.report.html import pictures
from graphprune.report.html.elements import Cell, Column, facts, grid, lines, section, tag
from graphprune.report.html.pictures import AFTER, BEFORE, GONE, KEPT, PINNED, Row
from graphprune.report.html.verdict import percent


def result(report: Report) -> Element:
    """Sizes and latency, before and after."""
    table = compiled.totals(report)
    columns = (Column("quantity"), Column("before", True), Column("after", True), Column("left", True))
    caption = "Elements, multiply-adds, bytes and median latency, and what is left of them"
    return section(
        "Before and after", grid(caption, columns, table.rows), lines(table.note.splitlines()), key="result"
    )


def times(report: Report) -> Element | None:
    """How long each kind of work takes, before and after."""
    if not report.times:
        return None
    pairs = [(each, ((BEFORE, each.before_ms), (AFTER, each.after_ms))) for each in report.times]
    rows: list[Row] = [
        {"name": each.work, "value": value, "part": part.name}
        for each, values in pairs
        for part, value in values
    ]
    caption = "Milliseconds of a run, by kind of work"
    told = f"Bar chart of milliseconds before and after: {', '.join(map(_spent, report.times))}"
    spec = pictures.bars(rows, (BEFORE, AFTER), "milliseconds")
    columns = (Column("kind of work"), Column("before", True), Column("after", True), Column("left", True))
    body = (
        (
            each.work,
            numbers.milliseconds(each.before_ms),
            numbers.milliseconds(each.after_ms),
            numbers.share(each.after_ms, each.before_ms),
        )
        for each in report.times
    )
    drawn = pictures.figure("Time of each kind of work", told, spec, (BEFORE, AFTER))
    return section("Where the time goes", drawn, grid(caption, columns, body), key="times")


def _spent(item: WorkTime) -> str:
    before, after = numbers.milliseconds(item.before_ms), numbers.milliseconds(item.after_ms)
    return f"{item.work} {before} to {after}"


def warnings(report: Report) -> Element | None:
    """What somebody should act on."""
    if not report.warnings:
        return None
    found = compiled.warnings(report)
    return section("Warnings", lines((line for (line,) in found.rows), "warnings"), key="warnings")


def lowering(report: Report) -> Element | None:
    """Which rules made the result faster, and that it stayed equal."""
    found = lowered.lowering(report.lowering)
    if not found:
        return None
    columns = (Column("rule"), Column("times", True), Column("foreseen", True))
    table = grid("Rules that were applied, and milliseconds foreseen", columns, found[0].rows)
    return section(found[0].title, table, lines(found[0].note.splitlines()), key="lowering")


def a_pass(report: Report, at: int) -> Element:
    """What a pass did to widths or weights."""
    item = report.passes[at]
    done = [line for (line,) in (*compiled.zeros(item), *compiled.cuts(item))]
    said = lines((*done, *compiled.asked(report, at), *recovered.lines(item), *item.notes))
    parts = _masks(item.zeros) if item.zeros is not None else _groups(item)
    if item.recovery is not None:
        parts = _curve(item.recovery)
    return section(f"What {item.text} did", said, *parts, key=f"pass-{at + 1}")


def _curve(found: RecoveryReport) -> Iterator[Element | None]:
    """The losses of a training over its steps."""
    both = ((AFTER, "selection"), (BEFORE, "training"))
    parts = [replace(part, name=name) for part, name in both]
    rows: list[Row] = [
        {"at": point.step, "value": value, "part": name}
        for point in found.curve
        for name, value in (("selection", point.selection), ("training", point.training))
        if value is not None
    ]
    first, least = found.curve[0].selection, min(point.selection for point in found.curve)
    told = f"Line chart of the loss over {found.steps} steps: {first:.3g} before, {least:.3g} at best"
    spec = pictures.curve(rows, parts, "steps of the training", "loss")
    yield pictures.figure("Loss of the training; 1 is that of the best constant answer", told, spec, parts)


def _numbered(item: PassReport) -> list[tuple[int, GroupReport]]:
    """Groups from input to output, counted from 1."""
    return list(enumerate(sorted(item.groups, key=lambda group: group.depth), 1))


def _groups(item: PassReport) -> Iterator[Element | None]:
    """Widths over depth, and what each group gave."""
    numbered = _numbered(item)
    if not numbered:
        return
    parts = (KEPT, GONE, PINNED)
    spec = pictures.stacks(_bars(numbered), parts, "groups from input to output, # as below", "units")
    yield pictures.figure("Width of every group, in units", _told(item), spec, parts)
    free = [(number, group) for number, group in numbered if not group.pin]
    if free:
        yield _given(free)


def _bars(numbered: Sequence[tuple[int, GroupReport]]) -> list[Row]:
    return [
        {"at": number, "units": units, "part": part.name, "order": order}
        for number, group in numbered
        for order, (part, units) in enumerate(
            ((PINNED if group.pin else KEPT, group.kept), (GONE, group.width - group.kept))
        )
    ]


def _told(item: PassReport) -> str:
    ((line,),) = compiled.cuts(item) or (("no groups",),)
    return f"Bar chart of group widths from input to output: {line}"


def _given(free: Sequence[tuple[int, GroupReport]]) -> Element:
    drawn = pictures.can_draw() and any(group.scores and group.scores.edges for _, group in free)
    columns = [
        Column("group"),
        Column("#", True),
        Column("width, units", True, True),
        Column("kept, units", True),
        Column("removed", True),
        *([Column("scores, low to high")] if drawn else []),
        Column("lowest score", True, True),
        Column("lowest kept", True, True),
    ]
    rows = (_gave(number, group, drawn) for number, group in free)
    return grid("What each group gave; higher scores stay", columns, rows, "groups")


def _gave(number: int, group: GroupReport, drawn: bool) -> list[Cell | Element | str | None]:
    gone = group.width - group.kept
    low, least = (None, None) if group.scores is None else (group.scores.low, group.scores.threshold)
    picture = [_histogram(group.scores)] if drawn else []
    return [
        tag("code", group.id),
        Cell(str(number), number),
        Cell(str(group.width), group.width),
        Cell(str(group.kept), group.kept),
        Cell(numbers.share(gone, group.width), gone / max(1, group.width)),
        *picture,
        Cell(numbers.score(low), low),
        Cell(numbers.score(least), least),
    ]


def _histogram(scores: Scores | None) -> Element | None:
    if scores is None:
        return None
    counts = f"{sum(scores.kept)} units stay, {sum(scores.removed)} go"
    told = f"histogram of scores from {numbers.score(scores.low)} to {numbers.score(scores.high)}: {counts}"
    return pictures.histogram(((KEPT, scores.kept), (GONE, scores.removed)), told)


def _masks(found: ZerosReport) -> Iterator[Element | None]:
    """Zeros in every masked tensor."""
    parts = (replace(KEPT, name="not zero"), replace(GONE, name="zero"))
    rows: list[Row] = [
        {"at": number, "units": count, "part": part.name, "order": order}
        for number, each in enumerate(found.tensors, 1)
        for order, (part, count) in enumerate(zip(parts, (each.size - each.zeros, each.zeros), strict=True))
    ]
    told = f"Bar chart of masked tensors: {found.zeros} of {found.masked} weights are zero"
    spec = pictures.stacks(rows, parts, "masked tensors, # as below", "weights")
    yield pictures.figure("Weights of every masked tensor, and the zeros among them", told, spec, parts)
    columns = (
        Column("tensor"),
        Column("#", True),
        Column("weights", True),
        Column("zeros", True, True),
        Column("zero", True),
    )
    body = (
        (
            tag("code", each.name),
            Cell(str(number), number),
            Cell(numbers.short(each.size), each.size),
            Cell(numbers.short(each.zeros), each.zeros),
            Cell(numbers.share(each.zeros, each.size), each.zeros / max(1, each.size)),
        )
        for number, each in enumerate(found.tensors, 1)
    )
    yield grid("Masked tensors: number of weights, and share that is zero", columns, body, "tensors")


def pinned(report: Report) -> Element | None:
    """Groups that may not shrink, by which node, and what would free them."""
    found = {group.id: group for item in report.passes for group in item.groups if group.pin}
    if not found:
        return None
    columns = (
        Column("group"),
        Column("width, units", True, True),
        Column("why, and the node that says so"),
        Column("what would unblock it"),
    )
    rows = (
        (
            tag("code", group.id),
            Cell(str(group.width), group.width),
            tag("span", group.pin, ": ", tag("code", group.pin_node)),
            group.unblock or "nothing that is known",
        )
        for group in sorted(found.values(), key=lambda group: group.depth)
    )
    return section("What may not shrink", grid("Pinned groups", columns, rows, "pinned groups"), key="pinned")


def outputs(report: AgreementReport | None) -> Element | None:
    """How every output drifted, and the samples on which it drifted most."""
    if report is None or not report.measured:
        return None
    (table,) = agreed.outputs(report, False)
    columns = (
        Column("output"),
        Column("judged as", extra=True),
        Column("drop", True),
        Column("95 % interval", True),
        Column("top-1", True),
        Column("worst class", True, True),
        Column("cosine", True, True),
        Column("remark", extra=not any(each.note or each.dead for each in report.outputs)),
    )
    parts = [
        grid(f"{table.title}; drop and agreement from 0 to 1", columns, table.rows),
        _drift(report.outputs),
    ]
    parts += [_worst(report.outputs)] if any(each.worst for each in report.outputs) else []
    return section("Outputs", *parts, key="outputs")


def _drift(found: Sequence[OutputDrop]) -> Element:
    drawn = pictures.can_draw() and any(each.edges for each in found)
    columns = [
        Column("output"),
        Column("moved", True),
        *([Column("samples, least to most moved")] if drawn else []),
    ]
    rows = []
    for each in found:
        moved = Cell("" if each.drift is None else percent(each.drift), each.drift)
        told = f"histogram of how far {sum(each.counts)} samples moved"
        picture = pictures.histogram(((KEPT, each.counts),), told)
        rows.append([tag("code", each.name), moved, *([picture] if drawn else [])])
    return grid("Drift of every output, in standard deviations of the dense model's", columns, rows)


def _worst(found: Sequence[OutputDrop]) -> Element:
    columns = (Column("output"), Column("sample, from 0", True), Column("drop", True), Column("moved", True))
    rows = (
        (
            tag("code", output.name),
            Cell(str(each.sample), each.sample),
            Cell("" if each.drop is None else f"{each.drop:.3f}", each.drop),
            Cell("" if each.drift is None else percent(each.drift), each.drift),
        )
        for output in found
        for each in output.worst
    )
    return grid("The samples that lost most, then those that moved most", columns, rows)


def certificate(report: Report) -> Element | None:
    """What was proved of each pass, and how."""
    if not report.passes:
        return None
    parts = [part for item in report.passes for part in _certified(item.text, item.proof)]
    return section("Certificate", *parts, key="certificate")


def _certified(text: str, proof: ProofReport) -> Iterator[Element | None]:
    yield tag("h3", tag("code", text))
    bits = f"{proof.tensors} weights of the file are, bit by bit, what the plan makes of the dense ones"
    inputs = f"{proof.runs} inputs" if proof.runs != 1 else "one input"
    where = "the file and the dense model with masks in place of cuts" if proof.tensors else "both models"
    ran = f"{inputs} ran through {where}"
    yield lines((compiled.proved(proof), bits if proof.tensors and proof.ok else "", ran, *proof.details))


def provenance(report: Report) -> Element:
    """What the page is about: samples, hashes, versions, times."""
    rows = [
        (each.role, each.source, str(each.samples), str(each.held_back), tag("code", each.hash))
        for each in report.data
    ]
    columns = (
        Column("used for"),
        Column("samples from"),
        Column("samples", True),
        Column("held back", True),
        Column("hash", extra=True),
    )
    data = grid("Samples that were given", columns, rows) if rows else tag("p", "No samples were given.")
    hashes = ((name, tag("code", text, class_="hash")) for name, text in report.hashes.items())
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items() if version)
    wall, compiled_in = sum(report.timings.wall.values()), report.timings.compile_cpu
    about = (
        ("date", report.date),
        ("source", report.source),
        ("result", report.output or "nothing written"),
        ("passes", tag("code", report.pipeline or "none")),
        ("seed", str(report.seed)),
        ("versions", versions),
        ("time", f"{wall:.1f} s in all; the compile alone {compiled_in:.2f} CPU s"),
    )
    parts = [data, facts(about), tag("h3", "Hashes"), facts(hashes)]
    return section("Where this comes from", *parts, key="provenance")
