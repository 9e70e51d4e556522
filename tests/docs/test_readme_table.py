"""The tables of README.md are filled between their marks, from what was measured."""

from __future__ import annotations

import pytest

from tools.readme_table import MEASURED, PAGE, SUMMARY, filled, summary

PAGE_OF_METHODS = """
## Bars

| bar | met |
|---|---|
| fast | yes |

## Fastest within a point

The fastest row.

| model | speed-up |
|---|---|
| net | 1.5x |

![a plot](plot.svg)

## Real data

| other | table |
"""


def test_the_marks_are_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(mark in page for mark in (*MEASURED, *SUMMARY))
    assert "| `prune(" in page.partition(MEASURED[0])[2].partition(MEASURED[1])[0]


def test_lines_go_between_the_marks_and_nowhere_else() -> None:
    assert filled("a\n<1>\nold\n<2>\nz", ("<1>", "<2>"), ("new", "er")) == "a\n<1>\nnew\ner\n<2>\nz"
    with pytest.raises(SystemExit):
        filled("a", ("<1>", "<2>"), ())


def test_the_table_under_the_heading_is_taken_and_no_other() -> None:
    assert list(summary(PAGE_OF_METHODS)) == ["| model | speed-up |", "|---|---|", "| net | 1.5x |"]
