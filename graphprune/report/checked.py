"""The result of `check`: as tables, as Markdown for a pull request, as annotations of GitHub, as JUnit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from xml.etree import ElementTree

from graphprune.ir.names import count, escape
from graphprune.pipeline.checking import Check
from graphprune.pipeline.report import plain
from graphprune.pipeline.thresholds import OF, Figure, Judgement
from graphprune.report import numbers, sizes
from graphprune.report.table import Table

TITLE = "graphprune check"
COLUMNS = ("", "figure", ">value", ">interval", ">asked", "")
EXACT = 10
"""Digits of two numbers that would read alike."""


def tables(result: Check) -> tuple[Table, ...]:
    """What was asked, what else was measured, and the verdict."""
    title = f"{escape(result.candidate)} against {escape(result.reference)}"
    lines = tuple((escape(note),) for note in result.notes)
    beside = (Table("", ("",), lines),) if lines else ()
    return (Table(title, COLUMNS, tuple(_rows(result)), headline(result)), *beside)


def markdown(result: Check) -> str:
    """A heading, the headline figures and a table."""
    rows = [tuple(name.removeprefix(">") for name in COLUMNS), tuple(map(_rule, COLUMNS))]
    rows += [tuple(map(_cell, row)) for row in _rows(result)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    heading = f"### {TITLE}: {_cell(result.candidate)} against {_cell(result.reference)}"
    notes = "\n".join(f"- {_cell(note)}" for note in result.notes)
    return "\n\n".join(filter(None, (heading, f"**{_cell(headline(result))}**", table, notes)))


def github(result: Check) -> str:
    """One workflow command per threshold that fails or is inconclusive, per note, and for the headline."""
    lines = [("error" if _fails(each, result) else "warning", line(each)) for each in _troubled(result)]
    lines += [("warning", note) for note in map(escape, result.notes)]
    lines.append(("notice" if result.ok else "error", headline(result)))
    return "\n".join(f"::{level} title={TITLE}::{_command(text)}" for level, text in lines)


def junit(result: Check) -> str:
    """A test suite with one case per threshold."""
    failures = sum(_fails(each, result) for each in result.judged)
    counts = {"tests": str(len(result.judged)), "failures": str(failures), "errors": "0", "skipped": "0"}
    suite = ElementTree.Element("testsuite", {"name": TITLE, **counts})
    for each in result.judged:
        name = f"{each.threshold} {OF[each.figure.name].title}"
        case = ElementTree.SubElement(suite, "testcase", classname=escape(result.candidate), name=name)
        if _fails(each, result):
            ElementTree.SubElement(case, "failure", message=line(each))
        else:
            ElementTree.SubElement(case, "system-out").text = line(each)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def document(result: Check) -> str:
    """The JSON that a later check takes as its baseline."""
    return json.dumps(plain(result), indent=2)


FORMS: Mapping[str, Callable[[Check], str]] = {"markdown": markdown, "github": github, "junit": junit}
"""How a check is printed beside text and JSON."""
FILES: Mapping[str, Callable[[Check], str]] = {".json": document, ".md": markdown, ".xml": junit}
"""How a check is stored, by the end of the file's name."""


def headline(result: Check) -> str:
    """The verdict, and the figures that everybody asks for first."""
    wrong = [each for each in result.judged if _fails(each, result)]
    unsure = [each for each in result.judged if each.verdict == "inconclusive"]
    verdict = "passed" if result.ok else f"FAILED: {', '.join(map(_named, wrong))}"
    if result.ok and unsure:
        verdict = f"passed, but inconclusive: {', '.join(map(_named, unsure))}"
    found = {each.name: each for each in result.figures}
    return "; ".join([verdict, *_told(found, result.samples)]) + sizes.ran_on(result.providers)


def line(item: Judgement) -> str:
    """One judgement as a sentence."""
    threshold, figure = OF[item.figure.name], item.figure
    value, bound = _pair(figure.value, item.bound, threshold.unit)
    beyond = "more than" if threshold.most else "less than"
    within = "at most" if threshold.most else "at least"
    relation = beyond if item.verdict == "fail" else within
    where = _where(figure)
    what = f"{threshold.title}{where and f' ({where})'} is {value}, {relation} {bound} of {item.threshold}"
    if figure.value is None:
        what = f"{threshold.title} cannot be judged, {item.threshold} {bound}"
    unsure = "inconclusive, " if item.verdict != "pass" and figure.low is not None else ""
    return f"{what}: {unsure}{escape(item.remark)}" if item.remark else what


def _troubled(result: Check) -> list[Judgement]:
    return [each for each in result.judged if each.verdict != "pass"]


def _fails(item: Judgement, result: Check) -> bool:
    return item.verdict == "fail" or (item.verdict == "inconclusive" and result.strict)


def _named(item: Judgement) -> str:
    return OF[item.figure.name].title


def _told(found: Mapping[str, Figure], samples: int) -> Iterator[str]:
    speedup, size, drop = (found.get(name) for name in ("speedup", "bytes", "drop"))
    if speedup is not None and speedup.value is not None:
        yield f"{speedup.value:.2f}x as fast"
    if size is not None:
        yield f"{numbers.share(size.value, size.dense)} of the bytes"
    if drop is not None and drop.value is not None:
        yield f"drop {drop.value:.3f} on {count(samples, 'sample')}"


def _rows(result: Check) -> Iterator[tuple[str, ...]]:
    for each in result.judged:
        value, bound = _pair(each.figure.value, each.bound, OF[each.figure.name].unit)
        remark = "" if each.figure.value is None else escape(each.remark)  # it says where then
        where = ", ".join(filter(None, (_where(each.figure), remark)))
        sign = "<=" if OF[each.figure.name].most else ">="
        verdict = "FAIL" if each.verdict == "fail" else each.verdict
        asked = f"{sign} {bound}" + (" (baseline)" if each.threshold == "--baseline" else "")
        yield (verdict, _named(each), value, _interval(each.figure), asked, where)
    judged = {each.figure.name for each in result.judged}
    for figure in result.figures:
        if figure.name not in judged and figure.value is not None:
            threshold = OF[figure.name]
            shown = _shown(figure.value, threshold.unit)
            yield ("", threshold.title, shown, _interval(figure), "", _where(figure))


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    unit = OF[figure.name].unit
    return f"{_shown(figure.low, unit)} to {_shown(figure.high, unit)}"


def _pair(value: float | None, bound: float, unit: str) -> tuple[str, str]:
    """A value and its bound; with more digits where both would read alike and are not."""
    if value is None:
        return "unknown", _shown(bound, unit)
    one, two = _shown(value, unit), _shown(bound, unit)
    return (one, two) if one != two or value == bound else (f"{value:.{EXACT}g}", f"{bound:.{EXACT}g}")


def _where(figure: Figure) -> str:
    exact = "" if figure.exact is None else f"{figure.exact:.4f} in exact arithmetic"
    return ", ".join(filter(None, (escape(figure.where), exact)))


def _shown(value: float, unit: str) -> str:
    if unit == "B":
        return numbers.short(value, "B")
    return f"{value:.2f}x" if unit == "x" else f"{value:.4f}"


def _rule(column: str) -> str:
    return "---:" if column.startswith(">") else "---"


def _cell(text: str) -> str:
    """Text that Markdown takes for text, whatever a model calls its outputs."""
    return "".join(f"\\{char}" if char in "\\|`*_[]<>#@&" else char for char in escape(text))


def _command(text: str) -> str:
    """Data of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
