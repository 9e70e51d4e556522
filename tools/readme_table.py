"""Runs the demo and writes its figures into README.md: `python -m tools.readme_table`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from graphprune.report import numbers
from tools import demo

PAGE = Path(__file__).resolve().parent.parent / "README.md"
START, END = "<!-- measured: python -m tools.readme_table -->", "<!-- /measured -->"
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


def filled(page: str, lines: tuple[str, ...]) -> str:
    """The page with new lines between the two marks."""
    before, _, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE.name} lacks {START} ... {END}")
    return "\n".join((before + START, *lines, END + after))


def main() -> None:
    """Measure, then write."""
    with tempfile.TemporaryDirectory() as folder:
        done = demo.run(Path(folder))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, (*HEAD, row(done))), encoding="utf-8")


if __name__ == "__main__":
    main()
