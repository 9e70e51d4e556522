"""The page is whole, says the verdict, and can be read by anybody; how it looks is tested in a browser."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

import graphprune
from graphprune.pipeline.report import BudgetReport, Report
from graphprune.report.html import pictures, render

from .conftest import DIGITS, long, of_pass, timed

VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.parents: list[tuple[str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self.parents.append((tag, self.open[-1] if self.open else ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such element."""
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def said(self) -> str:
        """All text, one space between words."""
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="session", params=["compiled", "masked", "many", "copied"])
def page(request: pytest.FixtureRequest) -> Page:
    """Pages of several kinds."""
    if request.param == "copied":
        return Page(render(graphprune.compile(DIGITS / "model.onnx").report))
    name = "compiled" if request.param == "many" else request.param
    report = request.getfixturevalue(name)
    return Page(render(long(report, 40) if request.param == "many" else report))


def test_every_table_has_a_caption_and_every_heading_a_scope(page: Page) -> None:
    captions = [parent for tag, parent in page.parents if tag == "caption"]
    assert captions == ["table"] * len(page.all("table"))
    assert {each.get("scope") for each in page.all("th")} <= {"col", "row"}
    assert all(each["aria-label"] for each in page.all("div") if each.get("role") == "region")


def test_nothing_comes_from_elsewhere(page: Page) -> None:
    links = [
        each[name] for _, each in page.found for name in ("src", "href", "action", "data") if name in each
    ]
    assert all(link.startswith("#") for link in links)
    ids = [each["id"] for _, each in page.found if "id" in each]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links} <= set(ids)
    assert not any("url(" in value or "http" in value for _, each in page.found for value in each.values())


def test_it_fits_a_phone_and_says_its_language(page: Page) -> None:
    metas = {each.get("name", "charset"): each.get("content") for each in page.all("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1" and "color-scheme" in metas
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("title")) == len(page.all("main")) == 1


def test_pictures_say_what_they_show(page: Page) -> None:
    for svg in page.all("svg"):
        assert svg["role"] == "img" and len(svg["aria-label"]) > 20 and "viewbox" in svg


def test_the_sheet_of_style_and_the_script_load_nothing(compiled: Report) -> None:
    text = render(compiled)
    assert all(word not in text for word in ("@import", "url(", "fetch(", "XMLHttpRequest", "import("))


def test_the_verdict_stands_on_top(compiled: Report) -> None:
    said = Page(render(timed(compiled, "faster", 2.5))).said
    top, _, rest = said.partition("Before and after")
    assert "2.50x faster" in top and "% of the bytes" in top
    assert "agreement with the dense model on 64 samples of --inputs" in top
    assert "Proved the file does what the plan says" in top and "outputs moved by" in top
    assert "Repeat it: graphprune.compile(model=" in top
    assert "Certificate" in rest and "32 weights of the file are, bit by bit" in rest


def test_noise_is_no_speed_up_and_a_loss_is_told(compiled: Report) -> None:
    same = Page(render(timed(compiled, "no measurable difference", 1.02))).said
    assert "Speed no measurable difference" in same and "faster" not in same
    assert "2.00x slower" in Page(render(timed(compiled, "slower", 0.5))).said


def test_the_time_of_each_kind_of_work_is_shown_before_and_after(compiled: Report) -> None:
    page = Page(render(timed(compiled, "faster", 2.5)))
    assert "contractions 1.5 ms 0.5 ms 33.3 % control flow 0.5 ms 0.25 ms 50.0 %" in page.said


def test_a_score_of_nothing_is_zero(compiled: Report) -> None:
    (item,) = compiled.passes
    scored = next(group for group in item.groups if group.scores)
    tiny = replace(scored, scores=replace(scored.scores, low=5e-324))
    said = Page(render(of_pass(compiled, groups=(tiny,)))).said
    assert "e-324" not in said


def test_what_was_not_measured_is_not_shown(masked: Report) -> None:
    said = Page(render(masked)).said
    assert "Where the time goes" not in said
    assert "Accuracy not measured give --calibration or --inputs" in said
    assert "accuracy: not measured; give --calibration or --inputs" in said
    assert "moved" not in said and "Speed not measured" in said


def test_a_missed_budget_and_a_failed_proof_are_alarms(compiled: Report) -> None:
    item = compiled.passes[0]
    missed = replace(compiled, budgets=(BudgetReport(item.text, "macs", 0.1, 0.25, False),))
    assert f"✕ budget missed by {item.text}: asked macs=0.1, left 0.25" in Page(render(missed)).said
    failed = of_pass(compiled, proof=replace(item.proof, ok=False, error=0.3))
    said = Page(render(failed)).said
    assert "NOT proved" in said and "✕ rewrite NOT proved" in said and "bit by bit" not in said


def test_an_output_as_good_as_dead_is_an_alarm(compiled: Report) -> None:
    agreement = compiled.agreement
    assert agreement is not None
    dead = replace(agreement, outputs=tuple(replace(each, dead=True) for each in agreement.outputs))
    said = Page(render(replace(compiled, agreement=dead))).said
    assert "✕ output logits is as good as dead" in said


def test_pins_say_what_would_free_them(compiled: Report) -> None:
    (item,) = compiled.passes
    groups = tuple(replace(group, unblock="fix=h") if group.pin else group for group in item.groups)
    said = Page(render(of_pass(compiled, groups=groups))).said
    assert "classifier.weight:0 10 graph output 'logits': logits fix=h" in said


def test_masks_are_shown_by_tensor(masked: Report) -> None:
    zeros = masked.passes[0].zeros
    assert zeros is not None
    said = Page(render(masked)).said
    assert all(each.name in said for each in zeros.tensors) and "compress to" in said


def test_without_the_library_that_draws_the_page_says_how_to_get_it(
    compiled: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "can_draw", lambda: False)
    page = Page(render(compiled))
    assert page.all("svg") == [] and page.all("figure") == []
    assert page.said.count('pip install "graphprune[report]"') == 1
    assert all(group.id in page.said for group in compiled.passes[0].groups)


def test_pictures_show_widths_and_the_scores_of_each_group(compiled: Report) -> None:
    pytest.importorskip("vl_convert", reason='pip install "graphprune[report]" draws')
    page = Page(render(compiled))
    assert "pip install" not in page.said
    shown = [svg["class"].split()[1] for svg in page.all("svg")]
    scored = sum(bool(group.scores and group.scores.edges) for group in compiled.passes[0].groups)
    assert shown.count("wide") == shown.count("narrow") == 1
    assert shown.count("spark") == scored + 1  # and how far the samples moved
    told = [svg["aria-label"] for svg in page.all("svg") if "spark" in svg["class"]]
    assert all(f"{group.kept} units stay, {group.width - group.kept} go" in " ".join(told)
               for group in compiled.passes[0].groups if group.scores and group.scores.edges)  # fmt: skip


def test_names_are_text_and_never_markup(compiled: Report) -> None:
    (item,) = compiled.passes
    evil = "<script>alert(1)</script>\"'&\x1b[2J\u202e"
    groups = tuple(replace(group, id=evil, pin_node=evil) for group in item.groups)
    report = replace(of_pass(compiled, groups=groups), source=evil, command=evil, warnings=(evil,))
    page = Page(render(report))
    assert len(page.all("script")) == 1
    assert r"<script>alert(1)</script>" in page.said and r"\x1b[2J\u202e" in page.said
    assert "\x1b" not in render(report) and "\u202e" not in render(report)
