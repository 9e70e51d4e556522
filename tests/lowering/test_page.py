"""docs/lower.md lists the rules as they are."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from graphprune.lowering.table import table
from tools.lower_bench import PAGE, _models, _rules
from tools.lower_table import PATH, written


@pytest.mark.parametrize(("name", "lines"), [("rules", _rules), ("models", _models)])
def test_the_page_lists_what_was_measured(name: str, lines: Callable[[], list[str]]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    listed = text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]
    assert listed.strip().splitlines() == lines(), "run: python -m tools.lower_bench page"


def test_the_table_is_as_its_script_writes_it() -> None:
    text = PATH.read_text(encoding="utf-8")
    content = json.loads(text)
    assert written(content["cells"], content["node_ns"], content["opsets"]) == text
    assert content["cells"].keys() == content["node_ns"].keys() == content["opsets"].keys()
    assert table().cells
