"""docs/options.md says what the settings and the commands say."""

from __future__ import annotations

from tools.options_table import PAGE, render


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tools.options_table"
