"""The result of `validate` as tables."""

from __future__ import annotations

from graphprune.ir.names import escape
from graphprune.pipeline.agreement import Comparison, OutputComparison
from graphprune.report import numbers, sizes
from graphprune.report.table import Table


def tables(result: Comparison) -> tuple[Table, ...]:
    """One row per output, and the verdict."""
    title = f"{escape(result.candidate)} against {escape(result.reference)}"
    exact = {output.name: numbers.score(output.relative) for output in result.exact}
    beside = (">exact",) if exact else ()
    columns = ("output", "agrees", ">max abs", ">relative", *beside, ">cosine", ">top-1", "note")
    rows = tuple(_row(output, *((exact.get(output.name, ""),) if exact else ())) for output in result.outputs)
    verdict = "agree" if result.ok else "DISAGREE"
    if not result.ok and all(output.ok for output in result.outputs):
        verdict = "NOT COMPARABLE: no output says anything"
    batches = f"{result.batches} batch" + ("es" if result.batches != 1 else "")
    at = sizes.assumed({}, result.generated)
    note = f"{verdict} (tolerance {result.tolerance:g}, {batches}, inputs {result.inputs})"
    lines = ((result.saturation,),) if result.saturation else ()
    note = "\n".join(filter(None, (note, at)))
    return (Table(title, columns, rows, note), *(Table("", ("",), (line,)) for line in lines))


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
