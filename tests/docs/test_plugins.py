"""docs/plugins.md: its files are those that the tests install, and short; the names in it are public."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import graphprune.plugin

from .pages import ROOT, blocks

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "tests" / "plugin" / "package"
RECORD = [field.name for field in dataclasses.fields(graphprune.plugin.Record)]
MODULES = sorted(path for path in PACKAGE.glob("*.py") if "broken" not in path.name)


def test_the_files_of_the_page_are_the_package() -> None:
    assert sorted(blocks(PAGE, "python")) == sorted(path.read_text(encoding="utf-8") for path in MODULES)
    lines = (PACKAGE / "pyproject.toml").read_text(encoding="utf-8").splitlines(keepends=True)
    assert blocks(PAGE, "toml") == ["".join(line for line in lines if not line.startswith("broken = "))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_each_is_at_most_thirty_lines_and_imports_what_is_public(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 30 and path.name in PAGE
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = {node.module for node in imported if (node.module or "").startswith("graphprune")}
    assert ours == {"graphprune.plugin"}


def test_what_is_public_is_there_and_sorted() -> None:
    names = graphprune.plugin.__all__
    assert names == sorted(names)
    assert all(getattr(graphprune.plugin, name).__doc__ for name in names)


def test_what_the_page_says_of_needs_and_of_records_is_there() -> None:
    for first, known in (("`needs` |", graphprune.plugin.__all__), ("a `Record` says", RECORD)):
        (table,) = re.findall(rf"^\| {re.escape(first)}.*\n(?:\|.*\n)+", PAGE, re.MULTILINE)
        named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
        assert len(named) >= 5 and set(named) <= set(known)
