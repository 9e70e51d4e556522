"""The tables of README.md are filled between their marks, from what was measured."""

from __future__ import annotations

import pytest

from tools.readme_table import MEASURED, PAGE, SUMMARY, filled, summary

PAGE_OF_METHODS = """
### net

top-1 on pictures; dense 0.990. a framework.

| ratio | method | metric | against dense | against random | params | MACs | ms | speed-up |
|---|---|---|---|---|---|---|---|---|
| 0.2 | l2 | 0.900 | -0.090 | | 0.7 | 0.6 | 1 of 2 | 1.5x |
| 0.2 | l2+refit | 0.980 | -0.010 | | 0.7 | 0.6 | 1 of 2 | 1.5x |
| 0.2 | obspa | 0.985 | -0.005 | | 0.8 | 0.7 | 1 of 2 | none |
| 0.5 | l2 | 0.500 | -0.490 | | 0.3 | 0.3 | 1 of 3 | 3.0x |
"""


def test_the_marks_are_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(mark in page for mark in (*MEASURED, *SUMMARY))
    assert "| `prune(" in page.partition(MEASURED[0])[2].partition(MEASURED[1])[0]


def test_lines_go_between_the_marks_and_nowhere_else() -> None:
    assert filled("a\n<1>\nold\n<2>\nz", ("<1>", "<2>"), ("new", "er")) == "a\n<1>\nnew\ner\n<2>\nz"
    with pytest.raises(SystemExit):
        filled("a", ("<1>", "<2>"), ())


def test_a_ratio_at_which_everything_was_measured_is_summed_up() -> None:
    (found,) = summary(PAGE_OF_METHODS)
    assert found == "| net | 0.2 | 0.990 | 0.900 | **0.980** | 0.7, 1.5x | **0.985** | 0.8, no |"
