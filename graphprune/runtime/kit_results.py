"""What a kit measured on another machine, as a device profile."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError, ModelError
from graphprune.ir.names import quote
from graphprune.run import short
from graphprune.runtime.device import FEATURES, DeviceProfile, Machine
from graphprune.runtime.general import Point
from graphprune.runtime.kit_script import FORMAT, OPTIMISED
from graphprune.runtime.patterns import BLOCKED
from graphprune.runtime.pieces import Piece, pieces_of
from graphprune.runtime.profile import CHEAPEST, Event
from graphprune.runtime.told import number, text

LARGEST = 2**26
"""Bytes of a file of results; graphs come without their weights."""
UNBLOCKED = 4
HINT = "it is what run.py of `graphprune bench-kit` writes into its folder results"


@dataclass(frozen=True)
class Result:
    """One model of a kit, as it ran.

    Attributes:
        name: of the model.
        machine: that it ran on.
        kit: of which it is.
        found: its nodes.
        seconds: of each, without what tracing adds.
        whole: seconds of a run without a trace.
        reference: seconds of the product that was timed beside it.
    """

    name: str
    machine: Machine
    kit: str
    found: tuple[Piece, ...]
    seconds: tuple[float, ...]
    whole: float
    reference: float

    def scaled(self, factor: float) -> Result:
        """On a machine that is so many times as slow."""
        seconds = tuple(factor * each for each in self.seconds)
        return replace(self, seconds=seconds, whole=factor * self.whole, reference=factor * self.reference)


def results(folder: Path) -> tuple[Result, ...]:
    """All models of a kit that have run.

    Raises:
        DataError: there are none, a file is damaged, or they are of several kits or machines.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {quote(str(folder))}", HINT)
    found = tuple(_read(path) for path in sorted(folder.glob("*.json")))
    if not found:
        raise DataError(f"{quote(str(folder))} holds no results", HINT)
    for each in found[1:]:
        if (each.machine, each.kit) != (found[0].machine, found[0].kit):
            what = "machines or settings" if each.kit == found[0].kit else "kits"
            fault = f"{quote(str(folder))} holds results of several {what}: {found[0].name} and {each.name}"
            raise DataError(fault, "keep the results of every run in a folder of its own (run.py --results)")
    best = min(each.reference for each in found)
    return tuple(each.scaled(best / each.reference) for each in found)


def profile_of(found: Sequence[Result], before: DeviceProfile) -> DeviceProfile:
    """Costs of all nodes that ran, at the widths that they had, beside other kinds of an earlier profile."""
    if before.reference:
        found = [each.scaled(before.reference / each.reference) for each in found]
    seen: dict[str, dict[tuple[int, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in found:
        for piece, seconds in zip(result.found, result.seconds, strict=True):
            seen[piece.kind][piece.widths].append(seconds)
    points = {kind: tuple(_points(several)) for kind, several in seen.items()}
    over = [max(0.0, result.whole - sum(result.seconds)) for result in found]
    return replace(
        before,
        seen={**before.seen, **points},
        overhead=float(np.median(over)),
        reference=found[0].reference,
        step=_step(points),
    )


def _step(points: Mapping[str, Sequence[Point]]) -> int:
    """Channels in a block, where they are stored in blocks; else of what vectors of four are filled with."""
    blocked = [at for kind, at in points.items() if kind.startswith(f'["{BLOCKED}Conv"')]
    widths = [widths[-1] for several in blocked for widths, _ in several]
    return math.gcd(*widths) if widths else UNBLOCKED


def _points(several: dict[tuple[int, ...], list[float]]) -> Iterator[Point]:
    for widths, seconds in sorted(several.items()):
        yield widths, float(np.mean(seconds))


def _read(path: Path) -> Result:
    try:
        told = json.loads(_bounded(path).decode())
        machine = _machine(told)
        events = [_event(node) for node in told["nodes"]]
        seconds = [number(node["seconds"]) for node in told["nodes"]]
        whole, reference = number(told["seconds"]), number(told["reference"])
        kit = text(told["kit"])
        if not reference:
            raise ValueError
    except OSError as error:
        raise DataError(f"cannot read {quote(str(path))}: {(error.strerror or '').lower()}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{quote(str(path))} holds no results of a kit of format {FORMAT}", HINT) from error
    graph = _graph(path.with_suffix("") / OPTIMISED)
    try:
        found = pieces_of(graph, events)
        for piece, event in zip(found, events, strict=True):
            _require_shapes(piece.node, event)
    except (ModelError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{quote(str(path))} and the graph beside it are not of one model", HINT) from error
    return Result(path.stem, machine, kit, found, _untraced(seconds, whole), whole, reference)


def _require_shapes(node: ir.Node, event: Event) -> None:
    """Whether weights in the graph are as long as those that ran, but for those that a kernel packed."""
    left = list(event.inputs)
    for value in node.inputs:
        fixed = value.const_value if value is not None else None
        if left and value is not None and (fixed is None or tuple(fixed.shape.numpy()) == left[0]):
            left.pop(0)
    if left:
        raise ValueError


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DataError(f"{quote(str(path))} is larger than any result of a kit", HINT)
    return content


def _graph(path: Path) -> ir.Graph:
    """A graph as it ran; its weights stayed where it ran."""
    try:
        _bounded(path)
    except OSError as error:
        hint = "an execution provider that compiles models does not tell what their nodes take"
        raise DataError(f"cannot read {quote(str(path))}: {(error.strerror or '').lower()}", hint) from error
    try:
        return ir.load(path).graph
    except Exception as error:  # onnx_ir and protobuf raise a dozen types that share no base
        raise DataError(f"{quote(str(path))} is no ONNX model", HINT) from error


def _machine(told: dict[str, Any]) -> Machine:
    if told["format"] != FORMAT:
        raise ValueError
    words = {text(word) for word in told["features"]}
    features = (text(told["architecture"]), *(name for name in FEATURES if name in words))
    providers = tuple(short(text(name)) for name in told["providers"])
    return Machine(features, text(told["runtime"]), int(told["threads"]), providers)


def _event(told: dict[str, Any]) -> Event:
    inputs, outputs = told["inputs"], told["outputs"]
    types = tuple(text(name) for each in inputs for name in each)
    return Event("", text(told["operator"]), 0, 0, "", _shapes(inputs), types, _shapes(outputs))


def _shapes(told: list[dict[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    shapes = tuple(tuple(int(size) for size in sizes) for each in told for sizes in each.values())
    if any(size < 0 for shape in shapes for size in shape):
        raise ValueError
    return shapes


def _untraced(seconds: Sequence[float], whole: float) -> tuple[float, ...]:
    """Without what tracing adds to every node: what all take too long, and at most the least."""
    if not seconds:
        return ()
    excess = (sum(seconds) - whole) / len(seconds)
    added = max(0.0, min(excess, float(np.quantile(seconds, CHEAPEST))))
    return tuple(max(0.0, each - added) for each in seconds)
