"""The Report of a compile as one self-contained HTML file: tables and small inline SVG bars."""

from __future__ import annotations

from html import escape as quote

from graphprune.ir.names import escape
from graphprune.pipeline.report import GroupReport, PassReport, Report
from graphprune.report import agreed, compiled
from graphprune.report.table import Table

_STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { padding: .15rem .8rem .15rem 0; text-align: left }
th { border-bottom: 1px solid #b8bec6; font-weight: 600 }
.right { text-align: right; font-variant-numeric: tabular-nums }
h2 { font-size: 1.1rem; margin: 1.5rem 0 0 }
code { font-size: .9em }
.was { fill: #d5dbe2 }
.now { fill: #2f6fb3 }
.note { color: #57606a }
"""
_BAR = 240


def render(report: Report) -> str:
    """The whole page."""
    title = f"{escape(report.source)} → {escape(report.output or 'nothing written')}"
    body = [f"<h1>{quote(title)}</h1>", f"<p><code>{quote(escape(report.pipeline))}</code></p>"]
    body += [
        _table(compiled.totals(report)),
        *map(_table, agreed.outputs(report.agreement, False)),
        _latency(report),
    ]
    for at, item in enumerate(report.passes):
        body += [
            _bars(item),
            _table(compiled.groups(item)),
            _table(compiled.pinned(item)),
            _table(compiled.proof(item, compiled.asked(report, at))),
        ]
    if report.warnings:
        body.append(_table(compiled.warnings(report)))
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items() if version)
    body.append(
        f'<p class="note">{quote(versions)}, seed {report.seed}, {report.timings.compile_cpu:.2f} CPU s</p>'
    )
    head = f'<meta charset="utf-8"><title>{quote(title)}</title><style>{_STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n'
        + "\n".join(filter(None, body))
        + "\n</body></html>\n"
    )


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    heads = "".join(f"<th{_side(name)}>{quote(name.removeprefix('>'))}</th>" for name in table.columns)
    rows = "\n".join(_row(row, table.columns) for row in table.rows)
    note = "".join(f'<p class="note">{quote(line)}</p>' for line in table.note.splitlines())
    shown = f"<tr>{heads}</tr>\n" if any(table.columns) else ""
    return f"<h2>{quote(table.title)}</h2>\n<table>\n{shown}{rows}\n</table>{note}"


def _row(row: tuple[str, ...], columns: tuple[str, ...]) -> str:
    cells = "".join(f"<td{_side(name)}>{quote(cell)}</td>" for cell, name in zip(row, columns, strict=True))
    return f"<tr>{cells}</tr>"


def _side(column: str) -> str:
    return ' class="right"' if column.startswith(">") else ""


def _bars(item: PassReport) -> str:
    """One bar per group that may shrink: the width before in grey, what was kept in blue."""
    shown = [group for group in item.groups if not group.pin]
    if not shown:
        return ""
    widest = max(group.width for group in shown)
    rows = "\n".join(_bar(group, widest) for group in shown)
    return f"<h2>Widths before and after {quote(escape(item.text))}</h2>\n<table>\n{rows}\n</table>"


def _bar(group: GroupReport, widest: int) -> str:
    label = f"{group.kept} of {group.width}"
    bar = _svg(group.width, group.kept, widest)
    return f"<tr><td><code>{quote(escape(group.id))}</code></td><td>{bar}</td><td>{label}</td></tr>"


def _svg(was: float, now: float, most: float) -> str:
    was_px, now_px = (round(_BAR * value / most, 1) if most else 0 for value in (was, now))
    bars = f'<rect class="was" width="{was_px}" height="12"/><rect class="now" width="{now_px}" height="12"/>'
    return f'<svg width="{_BAR}" height="12" role="img" aria-label="{now:g} of {was:g}">{bars}</svg>'


def _latency(report: Report) -> str:
    latency = report.latency
    if latency is None:
        return ""
    most = max(latency.before_ms, latency.after_ms)
    rows = "\n".join(
        f"<tr><td>{name}</td><td>{_svg(value, value, most)}</td><td>{value:.3g} ms</td></tr>"
        for name, value in (("before", latency.before_ms), ("after", latency.after_ms))
    )
    return f"<h2>Latency</h2>\n<table>\n{rows}\n</table>"
