"""How a result agrees with the dense model: one line, and a row per output."""

from __future__ import annotations

from graphprune.ir.names import escape, quote
from graphprune.pipeline.report import AgreementReport, OutputDrop
from graphprune.report import sizes
from graphprune.report.table import Table

UNMEASURED = "accuracy: not measured; give --calibration or --inputs"
WHERE = {
    "inputs": "samples of --inputs",
    "selection": "samples of --selection",
    "held back": "samples held back from --calibration",
    "repaired on": "samples that repair saw",
    "given": "samples of --calibration; a replay repairs nothing",
    "generated": "generated samples, which say nothing about accuracy",
}
KINDS = {
    "classes": "classes",
    "tokens": "next tokens",
    "scores": "scores",
    "exact": "whole numbers",
    "values": "values",
}
"""How kinds of outputs are called."""


def headline(report: AgreementReport | None) -> str:
    """The drop of the worst output, on which samples; nothing where no pass changed weights."""
    if report is None:
        return ""
    if not report.measured:
        return UNMEASURED
    where = f"{report.samples} {WHERE[report.source]}{sizes.ran_on(report.providers)}"
    if report.drop is None:
        return f"accuracy: not measured; {where} say nothing about any output"
    worst = next(each for each in report.outputs if each.name == report.output)
    dead = "as good as dead, " if any(each.dead for each in report.outputs) else ""
    top1 = f", top-1 agreement {worst.top1.value:.3f}" if worst.top1 else ""
    exact = f", {report.exact.value:.3f} in exact arithmetic" if report.exact else ""
    before = f" ({report.before.value:.3f} before recover)" if report.before else ""
    what = f"{dead}drop {report.drop} against the dense model{before}{exact}{top1}"
    return f"accuracy: {what}; output {quote(worst.name)} as {KINDS[worst.kind]}, {where}"


def outputs(report: AgreementReport | None, detailed: bool) -> tuple[Table, ...]:
    """Every output; from generated samples only on request."""
    if report is None or not (report.measured or detailed):
        return ()
    title = f"Agreement with the dense model on {report.samples} {WHERE[report.source]}"
    columns = ("output", "judged as", ">drop", ">95 %", ">top-1", ">worst class", ">cosine", "")
    return (Table(title, columns, tuple(map(_row, report.outputs))),)


def _row(output: OutputDrop) -> tuple[str, ...]:
    drop, top1 = output.drop, output.top1
    worst = output.worst_class_top1
    return (
        escape(output.name),
        KINDS[output.kind],
        f"{drop.value:.3f}" if drop else "",
        f"{drop.low:.3f} to {drop.high:.3f}" if drop else "",
        f"{top1.value:.3f}" if top1 else "",
        f"{worst:.3f} (class {escape(output.worst_class)})" if worst is not None else "",
        f"{output.cosine:.4f}" if output.cosine is not None else "",
        "as good as dead" if output.dead else escape(output.note),
    )
