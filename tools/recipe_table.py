"""Writes the schema into docs/recipes.md from the fields of the settings: `python -m tools.recipe_table`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from graphprune.pipeline.option import Option
from graphprune.pipeline.recipe import asked, settable

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipes.md"
MARKS = ("<!-- schema: python -m tools.recipe_table -->", "<!-- /schema -->")


def render(page: str) -> str:
    """The page with its schema up to date."""
    before, _, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    assert end, f"{PAGE.name} lacks its marks"
    return before + "\n".join((MARKS[0], *_schema(), MARKS[1])) + after


def _schema() -> Iterator[str]:
    yield from (
        "### `[options]`",
        "",
        "| key | value | default | found file | what |",
        "|---|---|---|---|---|",
    )
    yield from _rows(settable(), found=True)
    yield from ("", "### `[thresholds]`", "", "| key | value | default | what |", "|---|---|---|---|")
    yield from _rows(asked(), found=False)


def _rows(known: Mapping[str, Option], found: bool) -> Iterator[str]:
    for name, each in known.items():
        assert each.accepts is not None
        allowed = ["yes" if each.found else "no"] if found else []
        told = (each.accepts.toml or each.accepts.metavar, each.default, *allowed, each.help)
        yield " | ".join((f"| `{name}`", *(cell.replace("|", "\\|") for cell in told))) + " |"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
