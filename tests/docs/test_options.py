"""docs/options.md says what the settings and the commands say."""

from __future__ import annotations

import re

from graphprune.pipeline import recipe
from tools.options_table import PAGE, render


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tools.options_table"


def test_the_recipe_on_the_page_is_one() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", render(), re.DOTALL)
    stored = recipe.parse(text)
    assert stored.pipeline == "canonicalize, prune(ratio=0.5, criterion=l1)"
    assert stored.options["fix"] == {"sampling_rate": 16000}
