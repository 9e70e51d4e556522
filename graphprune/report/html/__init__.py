"""The Report of a compile as one HTML file: no network, a sheet of style and a short script inside."""

from graphprune.report.html.page import render
from graphprune.report.html.search import render_search

__all__ = ["render", "render_search"]
