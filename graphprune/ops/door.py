"""Operators that other packages describe, through the entry-point group `graphprune.ops`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import ParamSpec, TypeVar

import onnx_ir as ir

from graphprune.doors import Door, Origin, miscalled
from graphprune.ir.graphs import all_nodes
from graphprune.ir.operators import Shaping, UnknownShapeError
from graphprune.ops.counting import UnknownSizeError
from graphprune.ops.record import Record

DOOR = Door("graphprune.ops", "operator")
PLAIN = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains whose operators ONNX Runtime knows itself."""

P = ParamSpec("P")
R = TypeVar("R")


@cache
def described(name: str) -> Record | None:
    """The row of "domain:Name" that another package gives; its entry point is called "domain.Name".

    Raises:
        PluginError: the package does not load, or gives something else.
    """
    entry = name.replace(":", ".").replace("_", "-")
    if entry not in DOOR.entries():
        return None
    row, origin = _loaded(entry)
    if name not in row.ops:
        raise origin.fault(f"describes {', '.join(row.ops)}, not {name}")
    return _guarded(row, origin)


def listed(entry: str) -> Record:
    """The row that an entry point leads to.

    Raises:
        PluginError: it leads to none.
    """
    row, origin = _loaded(entry)
    if entry not in [name.replace(":", ".").replace("_", "-") for name in row.ops]:
        raise origin.fault(f"is not named 'domain.Operator', as one of {', '.join(row.ops)} would be")
    return row


def _loaded(entry: str) -> tuple[Record, Origin]:
    row, origin = DOOR.load(entry)
    if not isinstance(row, Record):
        raise origin.fault("is not a graphprune.plugin.Record")
    if not callable(row.transfer):
        raise origin.fault("has a transfer that is no function")
    if wrong := miscalled("transfer", row.transfer, "visit"):
        raise origin.fault(wrong)
    return row, origin


def _guarded(row: Record, origin: Origin) -> Record:
    """The same, but whatever its functions do wrong is an error that names it."""

    def guarded(function: Callable[P, R]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with origin.blamed(besides=(UnknownShapeError, UnknownSizeError)):
                return function(*args, **kwargs)

        return call

    def maybe(function: Callable[P, R] | None) -> Callable[P, R] | None:
        return None if function is None else guarded(function)

    shaping = row.shaping
    if shaping is not None:
        shaping = Shaping(maybe(shaping.shape), maybe(shaping.kind), maybe(shaping.alike), shaping.axes)
    return replace(row, transfer=guarded(row.transfer), macs=maybe(row.macs), shaping=shaping, origin=origin)


def foreign(model: ir.Model) -> tuple[Record, ...]:
    """The rows of other packages' operators in a model, each once."""
    if PLAIN.issuperset(model.opset_imports):
        return ()
    names = {f"{node.domain}:{node.op_type}" for node in all_nodes(model.graph) if node.domain not in PLAIN}
    rows = [described(name) for name in sorted(names)]
    return tuple(dict.fromkeys(row for row in rows if row is not None))
