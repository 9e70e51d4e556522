"""Writes measured figures into README.md: `python -m tools.readme_table`.

The first block is the demo, run now; the second is a table of docs/accuracy.md, where that exists.
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
HEADING = "## Fastest within a point"
HEAD = (
    "| model | passes | accuracy | parameters | MACs | bytes | latency | |",
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
    """The table of docs/accuracy.md under its heading."""
    _, _, rest = page.partition(HEADING)
    yield from (line for line in rest.partition("\n#")[0].splitlines() if line.startswith("|"))


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
        page = filled(page, SUMMARY, rows)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
