"""The tables of README.md are filled between their marks, from what was measured."""

from __future__ import annotations

import pytest

from tools.readme_table import MEASURED, PAGE, SUMMARY, filled, summary
from tools.real_models.table import Row, line

ROW = Row(
    workload="net",
    pipeline="prune(ratio=0.2)",
    dense=0.9,
    pruned=0.8,
    change=-0.1,
    standard_error=0.01,
    params=0.7,
    macs=0.6,
    speedup=1.5,
    speedup_low=1.4,
    speedup_high=1.6,
    proof=1e-7,
    error="",
)


def test_the_marks_are_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(mark in page for mark in (*MEASURED, *SUMMARY))
    assert "| `prune(" in page.partition(MEASURED[0])[2].partition(MEASURED[1])[0]


def test_lines_go_between_the_marks_and_nowhere_else() -> None:
    assert filled("a\n<1>\nold\n<2>\nz", ("<1>", "<2>"), ("new", "er")) == "a\n<1>\nnew\ner\n<2>\nz"
    with pytest.raises(SystemExit):
        filled("a", ("<1>", "<2>"), ())


def test_a_row_of_the_real_models_is_summed_up() -> None:
    page = "\n".join(("text | with | bars", "## Real data", "| model" * 9 + "|", "|---" * 9 + "|", line(ROW)))
    (found,) = summary(page)
    assert (
        found
        == "| net | `prune(ratio=0.2)` | Real data | 0.900 → 0.800 | 0.700 | 0.600 | 1.50x (1.40 to 1.60) |"
    )
