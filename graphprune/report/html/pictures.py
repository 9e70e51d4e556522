"""Pictures: what they show as Vega-Lite, drawn as SVG by vl-convert, an extra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from xml.etree.ElementTree import Element, fromstring

from graphprune.pipeline.report import Json, plain
from graphprune.report.html.elements import tag

INSTALL = 'pip install "graphprune[report]"'
WIDE, NARROW = 980, 300
"""Pixels of a picture on a desk and on a phone, axes aside."""
FEW = 48
"""Bars with a gap between them."""
FONT = "system-ui, sans-serif"
Row = dict[str, Json]


def can_draw() -> bool:
    """Whether the library that draws is installed."""
    return find_spec("vl_convert") is not None


@dataclass(frozen=True)
class Part:
    """What a colour of a picture stands for, the colour, and that of its outline."""

    name: str
    fill: str
    edge: str


KEPT, GONE, PINNED = (
    Part("kept", "var(--kept)", "var(--kept)"),
    Part("removed", "var(--gone)", "var(--edge)"),
    Part("pinned", "var(--pinned)", "var(--pinned)"),
)
BEFORE, AFTER = replace(GONE, name="before"), replace(KEPT, name="after")


def figure(caption: str, told: str, spec: Row, parts: Sequence[Part]) -> Element | None:
    """A picture in two widths under a caption, with a legend; None where nothing draws.

    Args:
        caption: what it shows, and the units.
        told: the same and what is to be seen, for those who do not see it.
        spec: Vega-Lite without the width.
        parts: its colours.
    """
    if not can_draw():
        return None
    sizes = ((WIDE, "wide"), (NARROW, "narrow"))
    drawn = (_svg({**spec, "width": width}, told, kind) for width, kind in sizes)
    legend = tag("ul", *map(_key, parts), class_="legend", aria_hidden="true")
    return tag("figure", tag("figcaption", caption, legend), *drawn)


def _key(part: Part) -> Element:
    style = f"background:{part.fill};border-color:{part.edge}"
    return tag("li", tag("span", class_="key", style=style), part.name)


def stacks(rows: list[Row], parts: Sequence[Part], along: str, unit: str) -> Row:
    """Bars along the model, one part on the other; rows have `at`, `units`, `part`, `order`."""
    many = len({row["at"] for row in rows}) > FEW
    band: Row = {"paddingInner": 0 if many else 0.25, "paddingOuter": 0}
    axis: Row = {"title": along, "labelAngle": 0, "labelOverlap": True, "ticks": not many}
    return {
        "height": 220,
        "data": {"values": plain(rows)},
        "mark": {"type": "bar", "strokeWidth": 0 if many else 1, "aria": False},
        "encoding": {
            "x": {"field": "at", "type": "ordinal", "axis": axis, "scale": band},
            "y": {"field": "units", "type": "quantitative", "stack": "zero", "title": unit},
            "order": {"field": "order"},
            **_colours(parts),
        },
    }


def bars(rows: list[Row], parts: Sequence[Part], unit: str) -> Row:
    """Bars side by side for each `name`, one per part; rows have `name`, `value`, `part`."""
    names: Json = list(dict.fromkeys(row["name"] for row in rows))
    return {
        "height": {"step": 14},
        "padding": {"left": 24, "top": 5, "right": 5, "bottom": 5},
        "data": {"values": plain(rows)},
        "mark": {"type": "bar", "strokeWidth": 1, "aria": False},
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": names, "title": None},
            "yOffset": {"field": "part", "sort": [part.name for part in parts]},
            "x": {"field": "value", "type": "quantitative", "axis": {"title": unit, "tickCount": 6}},
            **_colours(parts),
        },
    }


def curve(rows: list[Row], parts: Sequence[Part], along: str, unit: str) -> Row:
    """Lines over steps, one per part; rows have `at`, `value`, `part`."""
    return {
        "height": 180,
        "data": {"values": plain(rows)},
        "mark": {"type": "line", "point": True, "aria": False},
        "encoding": {
            "x": {"field": "at", "type": "quantitative", "title": along},
            "y": {"field": "value", "type": "quantitative", "scale": {"type": "sqrt"}, "title": unit},
            "color": {
                "field": "part",
                "scale": {"domain": [part.name for part in parts], "range": [part.edge for part in parts]},
                "legend": None,
            },
        },
    }


def points(rows: list[Row], parts: Sequence[Part], along: str, up: str, bound: float) -> Row:
    """Points that a line joins, and a rule at a bound; rows have `cost`, `loss`, `part`."""
    x: Row = {"field": "cost", "type": "quantitative", "title": along}
    y: Row = {"field": "loss", "type": "quantitative", "title": up}
    line: Row = {"type": "line", "strokeWidth": 1, "aria": False}
    layers: list[Json] = [
        {"mark": {**line, "stroke": GONE.edge}, "encoding": {"x": x, "y": y}},
        {
            "data": {"values": [{"bound": bound}]},
            "mark": {"type": "rule", "strokeDash": [4, 4], "stroke": GONE.edge, "aria": False},
            "encoding": {"y": {"field": "bound", "type": "quantitative"}},
        },
        {
            "mark": {"type": "point", "size": 90, "filled": True, "opacity": 1, "aria": False},
            "encoding": {"x": x, "y": y, **_colours(parts)},
        },
    ]
    return {"height": 260, "data": {"values": plain(rows)}, "layer": layers}


def histogram(counts: Sequence[tuple[Part, Sequence[int]]], told: str) -> Element | None:
    """A small histogram for a cell of a table; None where nothing draws, or there is nothing to draw."""
    if not can_draw() or not any(numbers for _, numbers in counts):
        return None
    rows: list[Row] = [
        {"at": at, "units": count, "part": part.name, "order": order}
        for order, (part, numbers) in enumerate(counts)
        for at, count in enumerate(numbers)
        if count
    ]
    bins: Json = [*range(max(len(numbers) for _, numbers in counts))]
    band: Row = {"domain": bins, "paddingInner": 0.12, "paddingOuter": 0}
    spec: Row = {
        "width": 130,
        "height": 28,
        "padding": 1,
        "data": {"values": plain(rows)},
        "mark": {"type": "bar", "strokeWidth": 0.6, "aria": False},
        "encoding": {
            "x": {"field": "at", "type": "ordinal", "axis": None, "scale": band},
            "y": {"field": "units", "type": "quantitative", "stack": "zero", "axis": None},
            "order": {"field": "order"},
            **_colours([part for part, _ in counts]),
        },
    }
    return _svg(spec, told, "spark")


def _colours(parts: Sequence[Part]) -> Row:
    names: Json = [part.name for part in parts]
    scales: dict[str, Json] = {
        "fill": {"domain": names, "range": [part.fill for part in parts]},
        "stroke": {"domain": names, "range": [part.edge for part in parts]},
    }
    return {channel: {"field": "part", "scale": scale, "legend": None} for channel, scale in scales.items()}


def _svg(spec: Row, told: str, kind: str) -> Element:
    """The picture as part of a page: its colours are those of the page, and its text is one line."""
    import vl_convert

    whole = {"background": None, "config": _CONFIG, **spec}
    svg = fromstring(vl_convert.vegalite_to_svg(whole))
    for each in svg.iter():
        each.tag = each.tag.rpartition("}")[2]
        for name in [name for name in each.attrib if name.startswith(("aria-", "role", "{"))]:
            del each.attrib[name]
    svg.attrib |= {"class": f"picture {kind}", "role": "img", "aria-label": told, "focusable": "false"}
    return svg


_AXIS: Row = {
    "labelColor": "var(--soft)",
    "titleColor": "var(--soft)",
    "domainColor": "var(--edge)",
    "tickColor": "var(--edge)",
    "gridColor": "var(--line)",
    "labelFontSize": 11,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
}
_CONFIG: Row = {"font": FONT, "view": {"stroke": None}, "axis": _AXIS}
