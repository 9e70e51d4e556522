"""The Report of a compile as tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from graphprune.ir.names import count, escape
from graphprune.pipeline.report import (
    BudgetReport,
    GroupReport,
    LatencyReport,
    PassReport,
    ProofReport,
    Report,
    Size,
    ZerosReport,
)
from graphprune.report import agreed, lowered, numbers, recovered, sizes
from graphprune.report.table import Table


def tables(report: Report, detailed: bool = True) -> tuple[Table, ...]:
    """What a person wants to see after a compile: totals first, then each pass, then what was refused."""
    result = [totals(report), *agreed.outputs(report.agreement, detailed)]
    for at, item in enumerate(report.passes):
        if detailed and item.zeros is None and item.recovery is None:
            result.append(groups(item))
            if any(group.pin for group in item.groups):
                result.append(pinned(item))
        result.append(proof(item, asked(report, at)))
    result += lowered.lowering(report.lowering, alone=not report.passes)
    if report.warnings:
        result.append(warnings(report))
    return tuple(result)


def warnings(report: Report) -> Table:
    """Every warning once, with how often it was given."""
    counts = Counter(report.warnings)
    lines = (f"{line} ({count} times)" if count > 1 else line for line, count in counts.items())
    return Table("Warnings", ("",), tuple((escape(line),) for line in lines))


def totals(report: Report) -> Table:
    """Params, MACs, bytes and latency, before and after."""
    before, after = report.before, report.after
    rows = [
        _row("params", before.params, after.params),
        _row("MACs", before.macs, after.macs),
        _row("bytes", before.bytes, after.bytes, "B"),
    ]
    if report.file_bytes and report.file_bytes.before:
        rows.append(_row("file", report.file_bytes.before, report.file_bytes.after, "B"))
    if report.latency:
        rows.append(latency_row(report.latency))
    at = sizes.assumed(before.assumed)
    said = (fixed(report), at, speed(report.latency), agreed.headline(report.agreement))
    note = "\n".join(filter(None, said))
    return Table("Result", ("", ">before", ">after", ">left"), tuple(rows), note)


def _row(name: str, before: float | None, after: float | None, unit: str = "") -> tuple[str, ...]:
    return (name, numbers.short(before, unit), numbers.short(after, unit), numbers.share(after, before))


def fixed(report: Report) -> str:
    """Which inputs became constants; before and after are both without them."""
    said = ", ".join(f"{escape(name)} = {json.dumps(content)}" for name, content in report.fixed.items())
    return f"fixed: {said}; before is the model with that alone" if said else ""


def latency_row(latency: LatencyReport) -> tuple[str, ...]:
    """Median latency, before and after."""
    before, after = numbers.milliseconds(latency.before_ms), numbers.milliseconds(latency.after_ms)
    return ("latency", before, after, numbers.share(latency.after_ms, latency.before_ms))


def speed(latency: LatencyReport | None) -> str:
    """The speed-up in words, never calling noise a speed-up."""
    if latency is None:
        return ""
    low, high, factor = latency.speedup_low, latency.speedup_high, latency.speedup
    if latency.verdict == "slower":
        low, high, factor = 1 / high, 1 / low, 1 / factor
    measured = "" if latency.verdict not in ("faster", "slower") else f"{factor:.2f}x "
    threads = count(latency.threads, "thread")
    margin = sizes.margin(latency.verdict, low, high)
    spread = f"99 % interval {low:.2f} to {high:.2f}{margin}, {threads}, {latency.clock} time"
    spread += sizes.ran_on(latency.providers)
    return f"latency: {measured}{latency.verdict} ({spread}){_cut(latency)}"


def _cut(latency: LatencyReport) -> str:
    """What the passes alone gave, against the dense model lowered like the result."""
    if latency.cut_speedup is None or latency.cut_speedup_low is None or latency.cut_speedup_high is None:
        return ""
    spread = f"{latency.cut_speedup_low:.2f} to {latency.cut_speedup_high:.2f}"
    return f"; {latency.cut_speedup:.2f}x against the dense model lowered alike ({spread})"


def groups(item: PassReport) -> Table:
    """The width of every group that may shrink, before and after."""
    rows = tuple(_group(group) for group in item.groups if not group.pin)
    title = f"Groups after {escape(item.text)}"
    return Table(title, ("group", ">width", ">kept", ">removed", ">lowest score", ">lowest kept"), rows)


def _group(group: GroupReport) -> tuple[str, ...]:
    low = numbers.score(group.scores.low) if group.scores else ""
    threshold = numbers.score(group.scores.threshold) if group.scores else ""
    return (
        escape(group.id),
        str(group.width),
        str(group.kept),
        str(group.width - group.kept),
        low,
        threshold,
    )


def pinned(item: PassReport) -> Table:
    """Groups that may not shrink, and why."""
    rows = tuple(
        (escape(g.id), str(g.width), escape(g.pin), escape(g.pin_node)) for g in item.groups if g.pin
    )
    return Table("Pinned", ("group", ">width", "why", "node"), rows)


def asked(report: Report, at: int) -> tuple[str, ...]:
    """What a pass was asked for against what it got, what went along, and which Groups gave more than others.

    Args:
        report: of the whole compile.
        at: number of the pass.
    """
    item, before = report.passes[at], (report.passes[at - 1].size if at else report.before)
    lines = [_against(each, before, item.size) for each in report.budgets if each.item == item.text]
    if lines and item.zeros is None:
        lines += _unevenly(item.groups)
    return tuple(dict.fromkeys(lines))


def _unevenly(found: Sequence[GroupReport]) -> Iterator[str]:
    """Which Groups gave more than others: the one that lost most, those at their floor, shared layers."""
    cut = [group for group in found if group.kept < group.width]
    if not cut:
        return
    most = max(cut, key=lambda group: 1 - group.kept / group.width)
    yield f"most went from {escape(most.id)}: {_gone([most])}"
    floor = [group for group in cut if group.kept <= group.least]
    if floor:
        noun = "group has" if len(floor) == 1 else "groups have"
        first = f"{escape(floor[0].id)} keeps {floor[0].kept} of {floor[0].width}"
        yield f"{len(floor)} {noun} no step left (min-keep, align): {first}"
    shared = [group for group in found if group.shared and not group.pin]
    if any(group.kept < group.width for group in shared):
        yield f"units of layers that are applied more than once: {_gone(shared)}"


def _gone(found: Sequence[GroupReport]) -> str:
    whole = sum(group.width for group in found)
    gone = whole - sum(group.kept for group in found)
    return f"{gone} of {whole} ({numbers.share(gone, whole)})"


def _against(budget: BudgetReport, before: Size, after: Size) -> str:
    if budget.what != "ratio":
        foreseen = "" if budget.foreseen is None else f" ({budget.foreseen:.4g} foreseen)"
        return f"asked {budget.what}={budget.asked:.4g}, left {budget.left:.4g}{foreseen}"
    along = [
        f"{numbers.share(was - now, was)} of {name}"
        for name, was, now in (("params", before.params, after.params), ("MACs", before.macs, after.macs))
        if was and now is not None
    ]
    got = f"asked ratio={1 - budget.asked:.4g}, got {1 - budget.left:.4g} of the {budget.of}"
    return f"{got}: {' and '.join(along)} went along" if along else got


def proof(item: PassReport, told: tuple[str, ...] = ()) -> Table:
    """What the pass did, as asked or not, and whether the rewrite did what the plan says."""
    line = proved(item.proof)
    notes, details = (tuple((escape(each),) for each in lines) for lines in (item.notes, item.proof.details))
    against = tuple((each,) for each in (*told, *recovered.lines(item)))
    return Table(escape(item.text), ("",), (*zeros(item), *cuts(item), *against, *notes, (line,), *details))


def proved(proof: ProofReport) -> str:
    """What was proved, in words that nobody takes for accuracy."""
    verdict = "rewrite proved: the file" if proof.ok else "rewrite NOT proved: nothing says that the file"
    rounding = f"rounding {proof.error:.2g} of the largest output, bound {proof.tolerance:.0e}"
    return f"{verdict} does what the plan says ({rounding})"


def zeros(item: PassReport) -> tuple[tuple[str], ...]:
    """What a mask buys, and what it does not."""
    found = item.zeros
    if found is None:
        return ()
    part = numbers.share(found.zeros, found.masked)
    small = numbers.share(found.compressed, found.bytes)
    how = found.codec if found.sampled >= 1 else f"{found.codec}, measured on {100 * found.sampled:.0f} %"
    weights, packed = numbers.short(found.bytes, "B"), numbers.short(found.compressed, "B")
    return (
        (f"{numbers.short(found.zeros)} of {numbers.short(found.masked)} masked weights are zero ({part})",),
        (f"{weights} of masked weights compress to {packed} ({small}; {how})",),
        *_sparse(found),
        (found.latency,),
    )


def _sparse(found: ZerosReport) -> tuple[tuple[str], ...]:
    """How many nodes could run 2:4, and why the others could not."""
    able = sum(node.eligible for node in found.sparse_nodes)
    reasons = Counter(node.why for node in found.sparse_nodes if not node.eligible)
    lines = [f"TensorRT could run {able} of {len(found.sparse_nodes)} weighted nodes with 2:4 kernels"]
    lines += [f"  {count} not: {escape(why)}" for why, count in reasons.most_common(4)]
    more = sum(count for _, count in reasons.most_common()[4:])
    lines += [f"  {more} not: other reasons, see --report FILE.json"] if more else []
    return tuple((line,) for line in lines)


def cuts(item: PassReport) -> tuple[tuple[str], ...]:
    """One line on what a deciding pass removed."""
    if not item.groups or item.zeros is not None or item.recovery is not None:
        return ()
    free = [group for group in item.groups if not group.pin]
    removed, units = sum(group.width - group.kept for group in free), sum(group.width for group in free)
    narrower = sum(group.kept < group.width for group in free)
    pins = len(item.groups) - len(free)
    return (
        (
            f"{narrower} of {count(len(free), 'group')} cut, {removed} of {count(units, 'unit')} removed, "
            f"{count(pins, 'group')} pinned",
        ),
    )
