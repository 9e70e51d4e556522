"""The result of `validate` as tables."""

from __future__ import annotations

from graphprune.ir.names import escape
from graphprune.pipeline.agreement import Comparison, OutputComparison
from graphprune.report import numbers, sizes
from graphprune.report.table import Table

CHECK = "graphprune check judges a model that was pruned"
KINDS = {
    "form": "outputs are missing, or have another shape or type",
    "not finite": "values are NaN, or infinite in one model alone",
    "answers": "answers differ",
    "numbers": f"numbers differ by more than the tolerance; {CHECK}",
}
"""Kinds of differences, the gravest first."""


def tables(result: Comparison) -> tuple[Table, ...]:
    """One row per output, and the verdict."""
    title = f"{escape(result.candidate)} against {escape(result.reference)}"
    exact = {output.name: numbers.score(output.relative) for output in result.exact}
    beside = (">exact",) if exact else ()
    columns = ("output", "agrees", ">max abs", ">relative", *beside, ">cosine", ">top-1", "note")
    rows = tuple(_row(output, *((exact.get(output.name, ""),) if exact else ())) for output in result.outputs)
    told = verdict(result)
    batches = f"{result.batches} batch" + ("es" if result.batches != 1 else "")
    at = sizes.assumed(result.generated)
    note = f"{told} (tolerance {result.tolerance:g}, {batches}, inputs {result.inputs}"
    note += f"{sizes.ran_on(result.providers)})"
    lines = ((result.saturation,),) if result.saturation else ()
    note = "\n".join(filter(None, (note, at)))
    return (Table(title, columns, rows, note), *(Table("", ("",), (line,)) for line in lines))


def verdict(result: Comparison) -> str:
    """Whether they agree, and else what kind of difference there is: the gravest of any output."""
    if result.ok:
        return "agree"
    kinds = {output.difference for output in result.outputs if not output.ok}
    if not kinds:
        return "NOT COMPARABLE: no output says anything"
    kind, words = next((kind, words) for kind, words in KINDS.items() if kind in kinds)
    shares = [output.top1 for output in result.outputs if output.top1 is not None]
    if kind == "answers" and shares:
        return f"DISAGREE: {words}, top-1 agreement {100 * min(shares):.2f} %"
    if kind == "numbers" and shares:
        return f"DISAGREE in numbers alone: top-1 answers are all the same; {CHECK}"
    return f"DISAGREE: {words}"


def _row(output: OutputComparison, *exact: str) -> tuple[str, ...]:
    top1 = "" if output.top1 is None else f"{100 * output.top1:.1f} %"
    agrees = "yes" if output.ok else "NO"
    cosine = f"{output.cosine:.6f}"
    return (
        escape(output.name),
        agrees,
        numbers.score(output.max_abs),
        numbers.score(output.relative),
        *exact,
        cosine,
        top1,
        escape(output.note),
    )
