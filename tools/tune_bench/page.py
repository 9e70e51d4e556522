"""Writes the measured part of docs/tune.md: bars, then a row per search."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.accuracy.state import ROOT
from tools.real_models.registry import WORKLOADS

from .results import Row, Store

PAGE = ROOT / "docs" / "tune.md"
BEGIN, END = "<!-- measured: python -m tools.tune_bench page -->", "<!-- /measured -->"
SHORT, LONG = 3.0, 10.0
SMALL_MS = 0.2
POINT, AGREED = 0.01, 0.02
MEDIAN, FAST = 2.2, 2.0
SECOND = 0.1


def write(store: Store, page: Path = PAGE) -> None:
    """The page with what was measured put in."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{render(list(store.rows().values()))}{END}{after}", encoding="utf-8")


def render(rows: Sequence[Row]) -> str:
    """Bars and tables of each machine; what was not run is said."""
    if not rows:
        return "Not measured yet: `python -m tools.tune_bench run`.\n"
    places = sorted({row.place for row in rows})
    return "\n".join(_place(place, [row for row in rows if row.place == place]) for place in places)


def _place(place: str, rows: Sequence[Row]) -> str:
    judged = "".join(f"| {bar} | {told} | {behind} |\n" for bar, told, behind in bars(rows))
    return f"### {place}\n\n| bar | met | but |\n|---|---|---|\n{judged}\n{_table(rows)}\n{_missing(rows)}"


def _table(rows: Sequence[Row]) -> str:
    heading = "model | minutes | seed | dense | tuned | change | speed-up | batch | drop | unseen | passes"
    rule = "|---" * len(heading.split(" | "))
    return f"| {heading} |\n{rule}|\n{''.join(map(_row, rows))}"


def _row(row: Row) -> str:
    if row.error:
        return f"| {row.workload} | {row.minutes:g} | {row.seed} | failed: {row.error} | | | | | | | |\n"
    batch = "" if row.batch == 1 else f"{row.batch_speedup:.2f}x at {row.batch}"
    cells = (
        row.workload,
        f"{row.minutes:g}",
        str(row.seed),
        f"{row.dense:.3f}",
        f"{row.metric:.3f}",
        f"{row.change:+.3f} ± {row.change_error:.3f}",
        f"{row.speedup:.2f}x ({row.low:.2f} to {row.high:.2f})",
        batch,
        f"{row.drop:.3f} ({row.drop_low:.3f} to {row.drop_high:.3f})",
        "" if row.unseen_drop is None else f"{row.unseen_drop:.3f}",
        f"`{row.pipeline}`" if row.pipeline else "the file as given",
    )
    return f"| {' | '.join(cells)} |\n"


def bars(rows: Sequence[Row]) -> Iterator[tuple[str, str, str]]:
    """What is expected of the models, and how many meet it."""
    short = [row for row in rows if row.minutes == SHORT and row.seed == 0 and not row.error]
    large = [row for row in short if row.before_ms >= SMALL_MS]
    lost = [f"{row.workload} {row.change:+.3f}" for row in short if -row.change > allowed(row)]
    yield _bar("at most one point lost (agreement: two, or what a shift costs)", len(short), lost)
    if large:
        middle = statistics.median(row.speedup for row in large)
        told = f"{middle:.2f}x"
        yield f"median speed-up of {len(large)} models from {SMALL_MS} ms on: {MEDIAN}x", told, ""
        slow = [f"{row.workload} {row.speedup:.2f}x" for row in large if row.speedup < FAST]
        yield _bar(f"{FAST:g}x or more", len(large), slow)
    seen = [(row, row.unseen_drop) for row in short if row.unseen_drop is not None]
    off = [f"{row.workload} {drop:.3f}" for row, drop in seen if not row.drop_low <= drop <= row.drop_high]
    yield _bar("drop on unseen inputs inside the reported 95 % interval", len(seen), off)
    slower = [f"{row.workload} {row.speedup:.2f}x" for row in short if row.high < 0.95]
    yield _bar("never 5 % slower or more at batch 1", len(short), slower)
    yield from _seconds(rows)


def allowed(row: Row) -> float:
    """The most that a model may lose."""
    return max(AGREED, row.shifted) if row.kind == "A" else POINT


def _seconds(rows: Sequence[Row]) -> Iterator[tuple[str, str, str]]:
    """A second seed beside the first."""
    first = {(row.workload, row.minutes): row for row in rows if row.seed == 0 and not row.error}
    pairs = [
        (row, first[row.workload, row.minutes])
        for row in rows
        if row.seed and not row.error and (row.workload, row.minutes) in first
    ]
    apart = [
        f"{one.workload} {one.speedup:.2f}x and {two.speedup:.2f}x"
        for one, two in pairs
        if abs(one.speedup / two.speedup - 1) > SECOND
    ]
    if pairs:
        yield _bar("a second seed within a tenth", len(pairs), apart)


def _bar(name: str, count: int, failed: Sequence[str]) -> tuple[str, str, str]:
    return name, f"{count - len(failed)} of {count}", "; ".join(failed)


def _missing(rows: Sequence[Row]) -> str:
    there = {row.workload for row in rows if row.minutes == SHORT}
    left = [each.name for each in WORKLOADS if each.name not in there and not each.large]
    return f"Not run at {SHORT:g} minutes: {', '.join(left)}.\n" if left else ""
