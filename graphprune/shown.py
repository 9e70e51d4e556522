"""Results that people look at: a line in a shell, tables when printed, the same tables in a notebook."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import Protocol

    class Views(Protocol):
        """What `graphprune.report.views` has for a result."""

        def brief(self, result: Shown) -> str:
            """One line."""
            ...

        def text(self, result: Shown) -> str:
            """Its tables, aligned."""
            ...

        def html(self, result: Shown) -> str:
            """The line and the tables, as a piece of a page."""
            ...

        def page(self, result: Shown) -> str:
            """A page of its own."""
            ...


class Shown:
    """A result that says what it is in one line; `print` and notebooks show its tables.

    How it looks is a row of `graphprune.report.views`, which lies above all results and is loaded when
    somebody looks.
    """

    def __init_subclass__(cls, **more: object) -> None:
        super().__init_subclass__(**more)
        if "__repr__" not in vars(cls):
            type.__setattr__(cls, "__repr__", Shown.__repr__)  # or dataclass makes one that says everything

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {_views().brief(self)}>"

    def __str__(self) -> str:
        return _views().text(self)

    def _repr_html_(self) -> str:
        return _views().html(self)


def page(report: Shown) -> str:
    """A Report as a page of its own."""
    return _views().page(report)


def _views() -> Views:
    return cast("Views", importlib.import_module("graphprune.report.views"))
