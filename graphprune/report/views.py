"""How results look: a line in a shell, tables when printed, both in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape as quote
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from graphprune.ir.names import count, escape
from graphprune.report import (
    agreed,
    benched,
    checked,
    chosen,
    compared,
    compiled,
    described,
    explained,
    inspected,
    swept,
    tuned,
)
from graphprune.report.numbers import milliseconds, share, short
from graphprune.report.table import Table, plain

if TYPE_CHECKING:
    from graphprune.pipeline.agreement import Comparison
    from graphprune.pipeline.benchmark import Bench, ModelBench
    from graphprune.pipeline.catalogue import Installed, PassHelp
    from graphprune.pipeline.explanation import Explained, Explanation
    from graphprune.pipeline.inspection import Inspection
    from graphprune.pipeline.planfile import PlanFile
    from graphprune.pipeline.report import Report
    from graphprune.pipeline.result import Result
    from graphprune.sampling.calibrate import Chosen
    from graphprune.shown import Shown
    from graphprune.tuning.tuned import Tuned

_ROWS = 12
"""Rows of a table that a notebook shows; the rest unfolds."""


def brief(result: Shown) -> str:
    """What a result says in one line."""
    return VIEWS[type(result).__name__].brief(result)


def text(result: Shown) -> str:
    """The tables of a result, as the command prints them in a pipe."""
    return "\n\n".join(plain(table) for table in VIEWS[type(result).__name__].tables(result))


def html(result: Shown) -> str:
    """The line in bold and the tables below it, in the fonts and colours of the notebook."""
    view = VIEWS[type(result).__name__]
    shown = "".join(_table(table) for table in view.tables(result) if table.rows or table.note)
    return f"<div><strong>{quote(view.brief(result))}</strong>{shown}</div>"


def page(report: Report | Tuned) -> str:
    """A report as a page of its own."""
    from graphprune.report.html import render, render_search
    from graphprune.tuning.tuned import Tuned

    return render_search(report) if isinstance(report, Tuned) else render(report)


@dataclass(frozen=True)
class View:
    """How one kind of result looks."""

    brief: Callable[[Any], str]
    tables: Callable[[Any], Iterable[Table]]


def _report(report: Report) -> str:
    before, after = report.before, report.after
    said = [
        f"{escape(report.source)}, {escape(shorten(report.pipeline, 80, placeholder=' ...')) or 'copied'}"
    ]
    said.append(f"{short(before.params)} -> {short(after.params)} params")
    if before.macs and after.macs is not None:
        said.append(f"{share(after.macs, before.macs)} of MACs")
    if report.latency is not None:
        said.append(compiled.speed(report.latency).removeprefix("latency: ").partition(" (")[0])
    if report.passes:
        said.append("rewrite proved" if all(each.proof.ok for each in report.passes) else "NOT PROVED")
    said.append(agreed.headline(report.agreement).partition(";")[0])
    return "; ".join(filter(None, said))


def _result(result: Result) -> str:
    return _report(result.report)


def _result_tables(result: Result) -> Iterable[Table]:
    return compiled.tables(result.report, detailed=False)


def _inspection(found: Inspection) -> str:
    free = sum(not group.pin for group in found.groups)
    size = f"{short(found.size.params)} params, {short(found.size.macs)} MACs"
    return f"{escape(found.source)}, {size}, {free} of {count(len(found.groups), 'group')} may shrink"


def _explanation(found: Explanation) -> str:
    state = f"pinned: {escape(found.pin)}" if found.pin else "may shrink"
    return f"{escape(found.group)}, {count(found.width, 'unit')}, {state}"


def _explanation_tables(found: Explanation) -> Iterable[Table]:
    return explained.tables((found,))


def _explained(found: Explained) -> str:
    return "; ".join(map(_explanation, found))


def _explained_tables(found: Explained) -> Iterable[Table]:
    return explained.tables(found.groups)


def _comparison(found: Comparison) -> str:
    return f"{escape(found.candidate)} against {escape(found.reference)}: {compared.verdict(found)}"


def _bench(found: Bench) -> str:
    return "; ".join(map(_timed, found.models))


def _timed(model: ModelBench) -> str:
    told = f"{model.speedup:.2f}x {model.verdict}" if model.speedup is not None else model.verdict
    word = told if model.verdict in ("faster", "slower") else model.verdict
    return f"{escape(model.name)} {milliseconds(model.median_ms)} ({word})"


def _chosen(found: Chosen) -> str:
    return f"{len(found.numbers)} of {found.pool} {found.what}, {found.select}"


def _installed(found: Installed) -> str:
    return ", ".join(each.name for each in found.passes)


def _installed_tables(found: Installed) -> Iterable[Table]:
    return described.listings(found.kinds)


def _pass_help(found: PassHelp) -> str:
    return f"{found.name}, {found.text.partition('.')[0]}; {len(found.arguments)} arguments"


def _plan_file(found: PlanFile) -> str:
    return f"{escape(found.pipeline) or 'nothing'}; {len(found.entries)} passes"


def _plan_tables(found: PlanFile) -> Iterable[Table]:
    for entry in found.entries:
        cuts = entry.plan.cuts.items() if entry.plan is not None else ()
        widths = entry.plan.widths if entry.plan is not None else {}
        rows = tuple((escape(name), str(widths.get(name, "")), str(len(kept))) for name, kept in cuts)
        yield Table(escape(entry.text), ("group", ">width", ">kept"), rows)


VIEWS: Mapping[str, View] = {
    "Bench": View(_bench, benched.tables),
    "Check": View(checked.headline, checked.tables),
    "Chosen": View(_chosen, chosen.tables),
    "Comparison": View(_comparison, compared.tables),
    "Explained": View(_explained, _explained_tables),
    "Explanation": View(_explanation, _explanation_tables),
    "Inspection": View(_inspection, inspected.tables),
    "Installed": View(_installed, _installed_tables),
    "PassHelp": View(_pass_help, described.pass_tables),
    "PlanFile": View(_plan_file, _plan_tables),
    "Report": View(_report, compiled.tables),
    "Result": View(_result, _result_tables),
    "Swept": View(swept.brief, swept.tables),
    "Tuned": View(tuned.brief, tuned.tables),
}
"""By the name of the class."""


def _table(table: Table) -> str:
    names = tuple(name.removeprefix(">") for name in table.columns)
    head = _row(names, table.columns, "th") if any(names) else ""
    note = "".join(f"<p><small>{quote(line)}</small></p>" for line in table.note.splitlines())
    first, rest = table.rows[:_ROWS], table.rows[_ROWS:]
    more = f"<details><summary>{len(rest)} more</summary>{_rows(table, rest, head)}</details>" if rest else ""
    title = f'<p style="margin-bottom:0">{quote(table.title)}</p>' if table.title else ""
    return f"{title}{_rows(table, first, head)}{more}{note}"


def _rows(table: Table, rows: Iterable[tuple[str, ...]], head: str) -> str:
    return f"<table>{head}{''.join(_row(row, table.columns, 'td') for row in rows)}</table>"


def _row(cells: tuple[str, ...], columns: tuple[str, ...], tag: str) -> str:
    sides = ("right" if name.startswith(">") else "left" for name in columns)
    found = (
        f'<{tag} style="text-align:{side}">{quote(cell)}</{tag}>'
        for side, cell in zip(sides, cells, strict=True)
    )
    return f"<tr>{''.join(found)}</tr>"
