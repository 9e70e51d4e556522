"""Writes the table of classes into docs/errors.md: `python -m tools.error_table`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"
BASE = "GraphpruneError"
MARKS = ("<!-- classes: python -m tools.error_table -->", "<!-- /classes -->")


def render(page: str) -> str:
    """The page with its table up to date."""
    before, _, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    assert end, f"{PAGE.name} lacks its marks"
    return before + "\n".join((MARKS[0], *_table(), MARKS[1])) + after


@dataclass(frozen=True)
class Kind:
    """A class of errors as its source says it; `code` is None where it is that of its base."""

    name: str
    base: str
    meaning: str
    code: int | None


def kinds() -> tuple[Kind, ...]:
    """Every error that a user can act on, under the one that it is a kind of; nothing is imported."""
    parsed = (ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.glob("graphprune/**/*.py")))
    found = [_kind(node) for tree in parsed for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return tuple(_below(BASE, "Exception", sorted(found, key=lambda each: each.name)))


def _kind(node: ast.ClassDef) -> Kind:
    base = node.bases[0].id if node.bases and isinstance(node.bases[0], ast.Name) else ""
    assigned = (each for each in node.body if isinstance(each, ast.Assign))
    codes = [each.value for each in assigned if ast.unparse(each.targets[0]) == "exit_code"]
    code = ast.literal_eval(codes[0]) if codes else None
    return Kind(node.name, base, (ast.get_docstring(node) or "").partition("\n")[0], code)


def _below(name: str, base: str, found: list[Kind]) -> Iterator[Kind]:
    yield from (each for each in found if (each.name, each.base) == (name, base))
    for each in found:
        if each.base == name:
            yield from _below(each.name, name, found)


def _table() -> Iterator[str]:
    yield from ("| class | a kind of | exit code | meaning |", "|---|---|---|---|")
    codes: dict[str, int] = {}
    for each in kinds():
        codes[each.name] = codes[each.base] if each.code is None else each.code
        base = f"`{each.base}`" if each.base in codes else ""
        yield f"| `{each.name}` | {base} | {codes[each.name]} | {each.meaning} |"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
