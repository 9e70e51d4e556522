"""Where a model's time goes, node by node as ONNX Runtime runs it.

The runtime traces every node of every run, and writes down the graph that it made of the model. In both, the
nodes of the main graph stand in the order in which they run: the n-th of one is the n-th of the other.
To trace a node takes some microseconds, as much as a small node does: they are taken off again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.nodes import operator_of
from graphprune.ops import BY_OP
from graphprune.ops.traits import Trait
from graphprune.run import CPU_ALONE, USUAL, Run
from graphprune.runtime.latency import Subject, measure
from graphprune.runtime.opening import OPTIMISED
from graphprune.runtime.origins import Origins
from graphprune.runtime.session import Feeds, open_session
from graphprune.runtime.work import Work, work_of

LEAST, MOST = 12, 200
"""Runs that are traced; ONNX Runtime drops what comes after a million events."""
WARMUP = 3
QUIET = (0.1, 0.5)
"""A node's time is the mean of its runs between these ranks: those in which nothing else came between, while
whole microseconds have a coarse median."""
CHEAPEST = 0.05
"""Rank of a node that does next to nothing, where there are many."""
SUFFIX = "_kernel_time"
BODIES = frozenset(name for name, row in BY_OP.items() if row.traits & {Trait.BODY, Trait.BRANCHES})


@dataclass(frozen=True)
class NodeTime:
    """One node of the graph that runs.

    Attributes:
        name: as the runtime calls it.
        operator: likewise, with its domain.
        work: what kind of work it does.
        provider: which execution provider runs it.
        shape: of its first output.
        reading: shapes of its inputs. What is stored in blocks has the channels that fill the last block.
        seconds: of a run, without what runs in its bodies.
        calls: times that it runs in a run.
        sources: names of the nodes of the file that it was made of, as far as they are known.
        reads: places, among the nodes, of those whose results it reads.
        within: place of the node in whose body it runs; None in the main graph.
    """

    name: str
    operator: str
    work: Work
    provider: str
    shape: tuple[int, ...]
    reading: tuple[tuple[int, ...], ...]
    seconds: float
    calls: float
    sources: tuple[str, ...]
    reads: tuple[int, ...]
    within: int | None


@dataclass(frozen=True)
class Profile:
    """All nodes in the order in which they run, and the time of a run that is not traced."""

    nodes: tuple[NodeTime, ...]
    seconds: float
    threads: int
    runs: int

    @property
    def traced(self) -> float:
        """Seconds of all nodes together: of what the shares are."""
        return sum(node.seconds for node in self.nodes)


def profile(
    model: ir.Model,
    feeds: Feeds,
    *,
    threads: int = 1,
    providers: Sequence[str] = CPU_ALONE,
    seconds: float = 2.0,
    run: Run = USUAL,
) -> Profile:
    """Run a model natively, without a trace and with one.

    Args:
        model: it is not changed.
        feeds: its inputs.
        threads: of the runtime.
        providers: what runs it, each node on the first that has a kernel for it.
        seconds: how long each of the two takes at most, about; but there are a dozen runs.
        run: how long one of the first runs may take.

    Raises:
        ModelError: the model does not load or run.
    """
    plain = open_session(model, threads=threads, providers=providers)
    timing = measure([Subject("", plain, feeds)], max_seconds=seconds, min_seconds=0.2, run=run).timings[0]
    with TemporaryDirectory() as folder:
        session = open_session(model, threads=threads, providers=providers, trace=Path(folder))
        session.run(feeds, run.timeout)
        for _ in range(WARMUP + int(np.clip(seconds / timing.wall_median, LEAST, MOST))):
            session.call(feeds)
        traced = events_of(session.end_trace())[WARMUP + 1 :]
        graph = ir.load(Path(folder, OPTIMISED))
        if not traced:
            raise ModelError("the model runs more nodes than ONNX Runtime can trace")
        places = _Places(graph, traced)
        seconds = timing.cpu_median if threads == 1 else timing.wall_median
        return Profile(_untraced(places.nodes(Origins(model, graph)), seconds), seconds, threads, len(traced))


def _untraced(nodes: tuple[NodeTime, ...], seconds: float) -> tuple[NodeTime, ...]:
    """Times without what tracing adds to every node: what all take too long, and at most the least."""
    calls = sum(node.calls for node in nodes)
    each = [node.seconds / node.calls for node in nodes]
    excess = (sum(node.seconds for node in nodes) - seconds) / calls
    added = max(0.0, min(excess, float(np.quantile(each, CHEAPEST))))
    return tuple(replace(node, seconds=max(0.0, node.seconds - added * node.calls)) for node in nodes)


@dataclass
class Event:
    """A node in one run; times in microseconds."""

    name: str
    operator: str
    start: int
    length: int
    provider: str
    inputs: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]
    outputs: tuple[tuple[int, ...], ...]
    bodies: list[Event] = field(default_factory=list)

    @property
    def own(self) -> float:
        """Without the bodies, and what tracing takes between their nodes."""
        return max(0.0, self.length - sum(each.length for each in self.bodies) - sum(_gaps(self.bodies)))


def _gaps(events: Sequence[Event]) -> list[float]:
    """Between one node and the next, none longer than twice the usual: that is more than tracing."""
    between = [after.start - before.start - before.length for before, after in pairwise(events)]
    most = 2 * float(np.median(between)) if between else 0.0
    return [min(gap, most) for gap in between]


def events_of(trace: Path) -> list[list[Event]]:
    """Nodes of the main graph, run by run.

    An event is written when it ends, so what ran in a body stands before the node that it belongs to.
    """
    runs: list[list[Event]] = []
    open_: list[Event] = []
    for event in json.loads(trace.read_text(encoding="utf-8", errors="replace")):
        if event["cat"] == "Session" and event["name"] == "model_run":
            runs.append(open_)
            open_ = []
        if event["cat"] != "Node" or not event["name"].endswith(SUFFIX):
            continue
        node = _event(event)
        if node.operator in BODIES:
            node.bodies = [each for each in open_ if each.start >= node.start]
            open_ = [each for each in open_ if each.start < node.start]
        open_.append(node)
    return runs


def _event(event: dict[str, Any]) -> Event:
    told = event["args"]
    return Event(
        name=event["name"].removesuffix(SUFFIX),
        operator=told["op_name"],
        start=event["ts"],
        length=event["dur"],
        provider=told.get("provider", ""),
        inputs=_shapes(told.get("input_type_shape", ())),
        types=tuple(name for each in told.get("input_type_shape", ()) for name in each),
        outputs=_shapes(told.get("output_type_shape", ())),
    )


def _shapes(given: Sequence[dict[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(dims) for each in given for dims in each.values())


Key = tuple[object, ...]
"""Where a node stands: its number in the main graph, and names on the way into its bodies."""


@dataclass
class _Place:
    """One node over all runs; microseconds by run."""

    event: Event
    node: ir.Node | None
    times: dict[int, float] = field(default_factory=dict)
    calls: int = 0


class _Places:
    """Nodes by where they stand."""

    def __init__(self, graph: ir.Model, runs: Sequence[Sequence[Event]]) -> None:
        self._runs = len(runs)
        self._places: dict[Key, _Place] = {}
        main = list(graph.graph)
        operators = [node.op_type for node in main]
        for number, run in enumerate(runs):
            known = operators == [event.operator for event in run]
            for at, event in enumerate(run):
                self._add((at,), event, main[at] if known else None, number)

    def _add(self, key: Key, event: Event, node: ir.Node | None, run: int) -> None:
        place = self._places.setdefault(key, _Place(event, node))
        place.times[run] = place.times.get(run, 0.0) + event.own
        place.calls += 1
        for each in event.bodies:
            self._add((*key, each.name, each.operator), each, _inside(node, each), run)

    def nodes(self, origins: Origins) -> tuple[NodeTime, ...]:
        """All of them; what runs in a body follows the node that it belongs to."""
        numbers = {key: number for number, key in enumerate(self._places)}
        makers = {
            value: numbers[key]
            for key, place in self._places.items()
            if place.node is not None
            for value in place.node.outputs
        }
        return tuple(
            self._time(place, numbers.get(_outer(key)), makers, origins)
            for key, place in self._places.items()
        )

    def _time(
        self, place: _Place, within: int | None, makers: Mapping[ir.Value, int], origins: Origins
    ) -> NodeTime:
        node, event = place.node, place.event
        values = () if node is None else node.inputs
        read = dict.fromkeys(makers[value] for value in values if value is not None and value in makers)
        spent = [place.times.get(run, 0.0) for run in range(self._runs)]
        return NodeTime(
            name=event.name,
            operator=event.operator if node is None else operator_of(node),
            work=work_of(ir.node(event.operator, []) if node is None else node),
            provider=event.provider,
            shape=event.outputs[0] if event.outputs else (),
            reading=event.inputs,
            seconds=1e-6 * _quiet(spent),
            calls=place.calls / self._runs,
            sources=() if node is None else origins.of(node),
            reads=tuple(read),
            within=within,
        )


def _quiet(times: list[float]) -> float:
    low, high = (round(rank * len(times)) for rank in QUIET)
    return float(np.mean(sorted(times)[low:high]))


def _outer(key: Key) -> Key:
    """Of the node in whose body a node runs."""
    return key[:-2]


def _inside(node: ir.Node | None, event: Event) -> ir.Node | None:
    """The node of a body that an event is of."""
    if node is None:
        return None
    bodies = [each.as_graph() for each in node.attributes.values() if each.type == ir.AttributeType.GRAPH]
    alike = [each for body in bodies for each in body if each.op_type == event.operator]
    named = [each for each in alike if each.name == event.name]
    nameless = [each for each in alike if not each.name]
    return named[0] if named else nameless[0] if len(nameless) == 1 else None
