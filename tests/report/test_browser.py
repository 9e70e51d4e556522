"""The page in Chromium: on a desk, on a phone, in the dark, on paper, and with nothing but a keyboard."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from graphprune.pipeline.report import Report
from graphprune.report.html import render

from .conftest import long, timed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.full
NAMES = ("chromium", "chromium-browser", "google-chrome")
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((each) => {
    const box = each.getBoundingClientRect();
    return !each.closest(".scroll *, script") && box.width && (box.left < -1 || box.right > innerWidth + 1);
}).map((each) => `${each.tagName}.${each.className} ${each.textContent.slice(0, 40)}`)"""
CLIPPED = """() => [...document.querySelectorAll(".scroll")]
    .filter((each) => each.scrollWidth > each.clientWidth + 1)
    .map((each) => each.getAttribute("aria-label"))"""
CUT = """() => [...document.querySelectorAll(".scroll")]
    .filter((each) => each.scrollHeight > each.clientHeight + 1).length"""
STRONG = ("kept", "edge", "pinned", "good", "warn", "bad")
COLOURS = """(names) => {
    const sheet = getComputedStyle(document.documentElement);
    return Object.fromEntries(names.map((name) => [name, sheet.getPropertyValue(`--${name}`).trim()]));
}"""
CROPPED = """() => [...document.querySelectorAll("svg text")].filter((each) => {
    const box = each.getBoundingClientRect(), whole = each.closest("svg").getBoundingClientRect();
    const seen = box.width && getComputedStyle(each).opacity !== "0";
    return seen && (box.left < whole.left - 1 || box.right > whole.right + 1);
}).map((each) => each.textContent)"""
DRAWN = """() => {
    const filled = (path) => {
        const box = path.getBoundingClientRect(), fill = getComputedStyle(path).fill;
        return box.width > 0.5 && box.height > 0.5 && fill !== "none" && fill !== "rgba(0, 0, 0, 0)";
    };
    return [...document.querySelectorAll("svg.picture")]
        .filter((each) => each.getBoundingClientRect().width)
        .map((each) => [...each.querySelectorAll("path")].filter(filled).length);
}"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or another that is installed."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    driver = pytest.importorskip("playwright.sync_api", reason="no driver: pip install 'graphprune[browser]'")
    pytest.importorskip("vl_convert", reason='pip install "graphprune[report]" draws')
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=["compiled", "many", "masked"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of several kinds."""
    compiled: Report = request.getfixturevalue("compiled")
    kinds = {"compiled": timed(compiled, "faster", 2.5), "many": long(compiled)}
    report = kinds.get(request.param) or request.getfixturevalue("masked")
    path = tmp_path_factory.mktemp("page") / f"{request.param}.html"
    path.write_text(render(report), encoding="utf-8")
    return path


def shown(browser: Browser, file: Path, width: int = 1280, scheme: str = "light") -> tuple[Page, list[str]]:
    """A page, and what went wrong: messages, errors, and whatever it asks for besides itself."""
    size = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: wrong.append(asked.url) if asked.url != file.as_uri() else None)
    page.goto(file.as_uri())
    return page, wrong


def contrast(one: str, two: str) -> float:
    """Of two colours #rrggbb, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(part, 16) / 255 for part in re.findall("[0-9a-f]{2}", colour.lower())]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted(map(luminance, (one, two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_outside_and_nothing_goes_wrong(
    browser: Browser, file: Path, width: int, scheme: str
) -> None:
    page, wrong = shown(browser, file, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(CROPPED) == []
    if width > 1000:
        assert page.evaluate(CLIPPED) == []
    page.context.close()
    assert wrong == []


@pytest.mark.parametrize("width", [390, 1280])
def test_pictures_are_there(browser: Browser, file: Path, width: int) -> None:
    page, _ = shown(browser, file, width)
    bars = page.evaluate(DRAWN)
    assert len(bars) > 1 or file.stem == "masked"
    assert bars and all(bars) and max(bars) >= 9
    assert page.locator("figure svg:visible").count() == page.locator("figure").count()
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(browser: Browser, file: Path, scheme: str) -> None:
    page, _ = shown(browser, file, scheme=scheme)
    found = page.evaluate(COLOURS, ["paper", "card", "ink", "soft", *STRONG])
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back))) < 200) == (scheme == "dark")
    for behind in (found["paper"], found["card"]):
        assert contrast(found["ink"], behind) > 7 and contrast(found["soft"], behind) > 4.5
        assert all(
            contrast(found[name], behind) > 3 for name in ("kept", "edge", "pinned", "good", "warn", "bad")
        )
    page.context.close()


def test_a_keyboard_sorts_and_searches(browser: Browser, compiled: Report, tmp_path: Path) -> None:
    path = tmp_path / "many.html"
    path.write_text(render(long(compiled)), encoding="utf-8")
    page, wrong = shown(browser, path)
    table = page.get_by_role("table", name="What each group gave")
    kept = table.locator("tbody tr:visible td:nth-child(4)")
    button = table.get_by_role("button", name="kept, units")
    for _ in range(60):
        page.keyboard.press("Tab")
        if button.evaluate("each => each === document.activeElement"):
            break
    head = table.get_by_role("columnheader", name="kept, units")
    for key, order, sign in (("Enter", "ascending", 1), ("Space", "descending", -1)):
        page.keyboard.press(key)
        assert head.get_attribute("aria-sort") == order
        numbers = [int(text) for text in kept.all_inner_texts()]
        assert len(numbers) == 270 and numbers == sorted(numbers, key=lambda each: sign * each)
    page.get_by_label("Search groups").first.focus()
    page.keyboard.type("stages.3 blocks.17")
    assert kept.count() == 9
    assert page.get_by_role("status").first.inner_text() == "9 of 270 groups"
    page.context.close()
    assert wrong == []


def test_on_paper_everything_is_shown(browser: Browser, compiled: Report, tmp_path: Path) -> None:
    path = tmp_path / "many.html"
    path.write_text(render(long(compiled)), encoding="utf-8")
    page, _ = shown(browser, path, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate(CUT) == 0
    assert not page.locator("nav").is_visible() and not page.get_by_label("Search groups").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.context.close()
