"""The whole page, from the verdict to the hashes."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import PurePath
from xml.etree.ElementTree import Element, tostring

from graphprune.pipeline.report import Report
from graphprune.report.html import pictures, sections
from graphprune.report.html.elements import tag
from graphprune.report.html.verdict import verdict


def render(report: Report) -> str:
    """The page as text."""
    source, output = (PurePath(path).name for path in (report.source, report.output))
    title = f"{output} from {source}" if output else f"{source}, nothing written"
    found = [
        sections.warnings(report),
        sections.result(report),
        sections.times(report),
        *(sections.a_pass(report, at) for at in range(len(report.passes))),
        sections.lowering(report),
        sections.pinned(report),
        sections.outputs(report.agreement),
        sections.certificate(report),
        sections.provenance(report),
    ]
    shown = [each for each in found if each is not None]
    main = tag("main", verdict(report), _command(report), links(shown), *shown)
    return document(title, _header(report, title), main)


def document(title: str, header: Element, main: Element) -> str:
    """A page as text, with its style and script."""
    body = tag("body", header, main, _text("script", "page.js"))
    page = tag("html", _head(title), body, lang="en")
    return f"<!doctype html>\n{tostring(page, encoding='unicode', method='html')}\n"


def _head(title: str) -> Element:
    width = "width=device-width, initial-scale=1"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content=width),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="graphprune"),
        tag("title", title),
        _text("style", "style.css"),
    )


def _text(name: str, file: str) -> Element:
    """A sheet of style or a script, which is no text of the page."""
    element = Element(name)
    element.text = f"\n{files(__package__).joinpath(file).read_text(encoding='utf-8')}"
    return element


def undrawn() -> Element | None:
    """How to have the pictures that are left out."""
    if pictures.can_draw():
        return None
    return tag("p", "Pictures are left out; to have them: ", tag("code", pictures.INSTALL), class_="note")


def _header(report: Report, title: str) -> Element:
    when = f"{report.date}, graphprune {report.versions.get('graphprune', '')}"
    return tag("header", tag("h1", title), tag("p", when, class_="note"), undrawn())


def _command(report: Report) -> Element | None:
    if not report.command:
        return None
    return tag("p", "Repeat it: ", tag("code", report.command, class_="command"))


def links(shown: Iterable[Element]) -> Element:
    """To the parts of the page."""
    heads = [each.find("h2") for each in shown]
    found = [tag("a", head.text, href=f"#{head.get('id')}") for head in heads if head is not None]
    return tag("nav", tag("ul", *(tag("li", link) for link in found)), aria_label="Parts of this page")
