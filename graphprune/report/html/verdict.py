"""The verdict on top of a page: how much faster, how much smaller, how good, and whether it is proved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal
from xml.etree.ElementTree import Element

from graphprune.ir.names import count
from graphprune.pipeline.report import AgreementReport, OutputDrop, Report
from graphprune.report import agreed, compiled, numbers, sizes
from graphprune.report.html.elements import tag

Tone = Literal["good", "plain", "warn", "bad"]
SIGNS: dict[Tone, str] = {"good": "✓", "plain": "", "warn": "!", "bad": "✕"}


@dataclass(frozen=True)
class Card:
    """One answer in large type, with what it is of, and what stands behind it."""

    value: str
    name: str
    behind: tuple[str, ...] = ()
    tone: Tone = "plain"

    def draw(self) -> Element:
        """As an element."""
        sign = SIGNS[self.tone]
        mark = tag("span", sign, class_="sign", aria_hidden="true") if sign else None
        value = tag("p", mark, tag("strong", self.value), " ", tag("span", self.name), class_="answer")
        return tag("li", value, *(tag("p", line) for line in self.behind if line), class_=f"card {self.tone}")


def verdict(report: Report) -> Element:
    """All cards, with what failed above them."""
    alarms = [tag("p", tag("strong", "✕ "), line, class_="alarm") for line in _alarms(report)]
    gains = [_speed(report), _bytes(report)]
    if alarms:  # what is gained at the cost of what fails is no success
        gains = [replace(card, tone="plain") if card.tone == "good" else card for card in gains]
    cards = (*gains, _agreement(report.agreement), _proof(report))
    heading = tag("h2", "Verdict", id="verdict")
    listed = tag("ul", *(card.draw() for card in cards), class_="cards")
    return tag("section", heading, *alarms, listed, class_="verdict", aria_labelledby="verdict")


def _speed(report: Report) -> Card:
    latency = report.latency
    if latency is None:
        return Card("Speed", "not measured", ("leave out --no-bench",))
    times = f"{numbers.milliseconds(latency.before_ms)} → {numbers.milliseconds(latency.after_ms)}"
    threads = count(latency.threads, "thread")
    spread = f"99 % interval {latency.speedup_low:.2f}x to {latency.speedup_high:.2f}x, {threads}"
    spread += sizes.ran_on(latency.providers)
    if latency.verdict == "faster":
        return Card(f"{latency.speedup:.2f}x", "faster", (times, spread), "good")
    if latency.verdict == "slower":
        return Card(f"{1 / latency.speedup:.2f}x", "slower", (times, f"speed-up: {spread}"), "bad")
    spread += sizes.margin(latency.verdict, latency.speedup_low, latency.speedup_high)
    return Card("Speed", latency.verdict, (times, f"speed-up: {spread}"))


def _bytes(report: Report) -> Card:
    before, after, what = report.before.bytes, report.after.bytes, "of all tensors"
    if report.file_bytes is not None and report.file_bytes.before:
        before, after, what = report.file_bytes.before, report.file_bytes.after, "on disk"
    change = f"{numbers.short(before, 'B')} → {numbers.short(after, 'B')} {what}"
    params = f"{numbers.share(report.after.params, report.before.params)} of the parameters"
    macs = numbers.share(report.after.macs, report.before.macs)
    tone: Tone = "good" if after < before else "plain"
    return Card(
        _share(after, before),
        "of the bytes",
        (change, params + (f", {macs} of the MACs" if macs else "")),
        tone,
    )


def _share(part: float, whole: float) -> str:
    if not whole:
        return "100 %"
    return f"{100 * part / whole:.0f} %" if part >= 0.01 * whole else "less than 1 %"


def _agreement(report: AgreementReport | None) -> Card:
    if report is None:
        return Card("Unchanged", "no pass decided anything", (), "good")
    if not report.measured:
        return Card("Accuracy", "not measured", ("give --calibration or --inputs",), "warn")
    where = f"on {report.samples} {agreed.WHERE[report.source]}"
    if report.drop is None:
        return Card("Accuracy", "not measured", (f"{where}, which say nothing about any output",), "warn")
    worst = next(each for each in report.outputs if each.name == report.output)
    told = f"drop {report.drop}"
    tone: Tone = "bad" if any(each.dead for each in report.outputs) else "plain"
    if worst.top1 is None:
        return Card(f"{report.drop.value:.3f}", "drop against the dense model", (where, told), tone)
    same = tone if worst.top1.value < 1 else "good"
    return Card(f"{100 * worst.top1.value:.1f} %", "agreement with the dense model", (where, told), same)


def _proof(report: Report) -> Card:
    proofs = [item.proof for item in report.passes]
    if not proofs:
        return Card("Copied", "byte for byte", (), "good")
    worst = max(proofs, key=lambda each: each.error / each.tolerance)
    rounding = f"rounding {worst.error:.2g} of the largest output, bound {worst.tolerance:.0e}"
    moved = _moved(report.agreement)
    if not all(each.ok for each in proofs):
        return Card("NOT proved", "nothing says that the file does what the plan says", (rounding,), "bad")
    inexact = sum(len(each.inexact) for each in proofs)
    changed = f"{inexact} nodes compute another function on purpose" if inexact else ""
    what = "the file does what the plan says"
    return Card("Proved", what, (rounding, changed, moved), "warn" if inexact else "good")


def _moved(report: AgreementReport | None) -> str:
    """How far outputs went from the dense model's, at most."""
    if report is None or not report.measured:
        return ""
    found = [(each.drift, each) for each in report.outputs if each.drift is not None]
    if not found:
        return ""
    most, output = max(found, key=lambda pair: pair[0])
    where = f" ({output.name})" if len(report.outputs) > 1 else ""
    return f"outputs moved by {percent(most)} of their spread{where}"


def percent(value: float) -> str:
    """Two digits, or that it is next to nothing."""
    if 0 < value < 1e-4:
        return "less than 0.01 %"
    return f"{100 * value:.2g} %" if value < 1 else f"{100 * value:.0f} %"


def _alarms(report: Report) -> Iterator[str]:
    for at, item in enumerate(report.passes):
        if not item.proof.ok:
            yield compiled.proved(item.proof)
        if any(not each.met for each in report.budgets if each.item == item.text):
            yield f"budget missed by {item.text}: {'; '.join(compiled.asked(report, at))}"
    yield from (_dead(each) for each in (report.agreement.outputs if report.agreement else ()) if each.dead)


def _dead(output: OutputDrop) -> str:
    return f"output {output.name} is as good as dead: it tells no more than a constant answer"
