"""Writes measured figures into README.md: `python -m tools.readme_table`.

The first block is the demo, run now; the second a summary of docs/accuracy.md, where that exists.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from graphprune.report import numbers
from tools import demo

ROOT = Path(__file__).resolve().parent.parent
PAGE, ACCURACY = ROOT / "README.md", ROOT / "docs" / "accuracy.md"
MEASURED = ("<!-- measured: python -m tools.readme_table -->", "<!-- /measured -->")
SUMMARY = ("<!-- accuracy: from docs/accuracy.md -->", "<!-- /accuracy -->")
NORMS, REPAIRED = "l2", ("l2+refit", "obspa")
HEAD = (
    "| model | passes | accuracy | parameters | MACs | bytes | latency | |",
    "|---|---|---|---|---|---|---|---|",
)
SUMMARY_HEAD = (
    "| model | ratio | dense | `prune(repair=none)` | `prune` | left, faster | `obspa` | left, faster |",
    "|---|---|---|---|---|---|---|---|",
)


def row(done: demo.Demo) -> str:
    """One line of the table: every figure before and after."""
    report = done.result.report
    before, after, latency = report.before, report.after, report.latency
    assert latency is not None
    faster = f"**{latency.speedup:.2f}x faster**" if latency.verdict == "faster" else latency.verdict
    cells = (
        "[digits_cnn](models/README.md#digits_cnn)",
        f"`{demo.PIPELINE}`",
        f"{100 * done.accuracy_before:.1f} → {100 * done.accuracy_after:.1f} %",
        f"{numbers.short(before.params)} → {numbers.short(after.params)}",
        f"{numbers.short(before.macs)} → {numbers.short(after.macs)}",
        f"{numbers.short(before.bytes, 'B')} → {numbers.short(after.bytes, 'B')}",
        f"{numbers.milliseconds(latency.before_ms)} → {numbers.milliseconds(latency.after_ms)}",
        faster,
    )
    return f"| {' | '.join(cells)} |"


def summary(page: str) -> Iterator[str]:
    """A line per model and ratio of docs/accuracy.md at which norms alone and both repairs were measured."""
    model, dense = "", ""
    found: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for line in page.splitlines():
        if line.startswith("### "):
            model = line.removeprefix("### ")
        elif "; dense " in line:
            dense = line.partition("; dense ")[2].partition(". ")[0]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9 and cells[0] not in ("ratio", "---") and cells[5]:  # what failed has no size
            found.setdefault((model, cells[0], dense), {})[cells[1]] = cells
    for (model, ratio, dense), methods in found.items():
        if NORMS in methods and all(name in methods for name in REPAIRED):
            repaired = [_repaired(methods[name]) for name in REPAIRED]
            yield f"| {model} | {ratio} | {dense} | {methods[NORMS][2]} | {' | '.join(repaired)} |"


def _repaired(cells: list[str]) -> str:
    return f"**{cells[2]}** | {cells[5]}, {cells[8].replace('none', 'no')}"


def filled(page: str, marks: tuple[str, str], lines: tuple[str, ...]) -> str:
    """The page with new lines between two marks."""
    start, stop = marks
    before, _, rest = page.partition(start)
    _, end, after = rest.partition(stop)
    if not end:
        raise SystemExit(f"{PAGE.name} lacks {start} ... {stop}")
    return "\n".join((before + start, *lines, stop + after))


def main() -> None:
    """Measure, then write."""
    with tempfile.TemporaryDirectory() as folder:
        done = demo.run(Path(folder))
    page = filled(PAGE.read_text(encoding="utf-8"), MEASURED, (*HEAD, row(done)))
    if ACCURACY.exists():
        rows = tuple(summary(ACCURACY.read_text(encoding="utf-8")))
        page = filled(page, SUMMARY, (*SUMMARY_HEAD, *rows))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
