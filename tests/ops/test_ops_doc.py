"""docs/ops.md says what the table says."""

from __future__ import annotations

from pathlib import Path

from graphprune.ops import BY_OP, MODULES, TABLE
from tools.ops_table import TITLES, render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ops.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tools.ops_table"


def test_every_operator_is_on_the_page() -> None:
    text = render()
    missing = [op for op in BY_OP if f"`{op.rpartition(':')[2]}`" not in text]
    assert not missing
    assert list(TITLES) == list(MODULES)


def test_no_operator_has_two_rows() -> None:
    names = [op for row in TABLE for op in row.ops]
    assert sorted(names) == sorted(BY_OP)
