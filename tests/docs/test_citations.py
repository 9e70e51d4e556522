"""What code and pages cite is there: pages, sections, files; and every method of the code has a section."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from graphprune.ops.record import Exactness
from graphprune.pipeline import registry
from graphprune.pipeline.repairing import Repair
from graphprune.prune.criteria import CRITERIA
from graphprune.sampling.choose import MODES
from graphprune_passes.experts import Experts

from .pages import ROOT

CODE = sorted(
    path
    for part in ("graphprune", "passes", "tests", "tools")
    for path in (ROOT / part).rglob("*.py")
    if path != Path(__file__)
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models").glob("*.md")])
EXPLAINED = [ROOT / "docs/theory.md", ROOT / "docs/methods.md"]
CITED = re.compile(r"(?<![\w/.-])((?:[\w.-]+/)*[\w-]+\.md)(#[\w-]+)?")
LINKED = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]+)?\)")
ABSENT = re.compile(r"methods-(?:general|llm)|\btheory\.md [A-Z]|^\W*Rows? \d", re.MULTILINE)
"""How comments named pages that are not in the repository."""


def prose(path: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(path: Path) -> set[str]:
    """Names of a page's sections, as GitHub makes them of headings."""
    seen: Counter[str] = Counter()
    found = {*re.findall(r'<a (?:id|name)="([^"]+)"', path.read_text("utf-8"))}
    for title in re.findall(r"^#+ +(.+?) *$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def missing(page: Path, section: str) -> str:
    """What of a citation is not there; empty if all is."""
    if not page.exists():
        return "no such file"
    if section and page.suffix == ".md" and section.removeprefix("#") not in anchors(page):
        return f"no section {section}"
    return ""


def cited(path: Path) -> Iterator[tuple[str, str]]:
    """Pages that a file of code names, with the section."""
    told_to_write = re.compile(r"--page \S+")
    yield from CITED.findall(told_to_write.sub("", path.read_text("utf-8")))


def test_code_cites_pages_and_sections_that_exist() -> None:
    for path in CODE:
        for name, section in cited(path):
            found = [place / name for place in (ROOT, ROOT / "docs") if (place / name).exists()]
            assert found, f"{path}: {name} is not in the repository"
            assert not missing(found[0], section), f"{path}: {name}{section}"


def test_the_theory_is_cited_in_one_form() -> None:
    """With folder and section, so that a search finds every reader of a section; and not by pages of old."""
    for path in CODE:
        for name, section in cited(path):
            if Path(name).stem in ("theory", "methods"):
                assert name.startswith("docs/") and section, f"{path}: {name}"
        assert not ABSENT.search(path.read_text("utf-8")), path


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_pages_lead_somewhere(path: Path) -> None:
    for name, section in LINKED.findall(prose(path)):
        page = (path.parent / name).resolve() if name else path
        assert not missing(page, section), f"{name}{section}: {missing(page, section)}"


def named(path: Path) -> Iterator[str]:
    """Files that a page names by their path, as `axes/labels.py`."""
    yield from re.findall(r"`((?:\w+/)*\w+\.py)`", prose(path))


@pytest.mark.parametrize("path", EXPLAINED, ids=lambda path: path.name)
def test_files_that_the_theory_names_exist(path: Path) -> None:
    """From the root or the package; a bare name is a neighbour of one that was named before it."""
    folders = [ROOT, ROOT / "graphprune"]
    for name in named(path):
        assert any((folder / name).exists() for folder in folders), name
        folders += [place.parent for folder in folders[:2] if (place := folder / name).exists()]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("criterion", CRITERIA),
        ("pass", sorted(set(registry.names()) - {"canonicalize"})),
        ("mode", sorted(MODES)),
        ("repair", sorted({part for how in get_args(Repair) for part in how.split("+")} - {"auto", "none"})),
    ],
)
def test_every_method_has_a_section(kind: str, names: tuple[str, ...]) -> None:
    """And every section is about a method that there is."""
    titles = {name for name in anchors(EXPLAINED[1]) if name.startswith(f"{kind}-")}
    others = {"repair-of-masks", "repair-on-a-grid"}
    assert titles - others == {f"{kind}-{name}" for name in names}


def test_every_criterion_of_experts_is_explained() -> None:
    text = EXPLAINED[1].read_text("utf-8").partition("### Pass experts")[2].partition("###")[0]
    names = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    criteria = get_args(get_type_hints(Experts)["criterion"])
    assert {word for cell in names[1:] for word in re.findall(r"`([\w-]+)`", cell)} == set(criteria)


def rows(path: Path, title: str) -> list[str]:
    """The first cells of the first table under a heading."""
    text = path.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| *([^|]*?) *\|", text, re.MULTILINE)[2:]


def test_the_table_of_exactness_names_every_class() -> None:
    assert rows(EXPLAINED[0], "Exactness") == list(get_args(Exactness))


def test_the_table_of_relations_is_what_is_tested() -> None:
    said = re.findall(r"^\| (\d+) \| (.+) \|$", EXPLAINED[0].read_text("utf-8"), re.MULTILINE)
    code = re.findall(r'"""(\d+): (.+)\.', (ROOT / "tools/zoo/relations.py").read_text("utf-8"))
    assert said == code
