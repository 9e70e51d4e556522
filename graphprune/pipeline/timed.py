"""Where a model's time goes, and what stands out (`graphprune inspect --time`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphprune.ir.names import quote
from graphprune.pipeline.opened import load_to_run
from graphprune.pipeline.samples import Given, timed_feed
from graphprune.pipeline.settings import Timing

if TYPE_CHECKING:
    from graphprune.runtime.patterns import Pattern
    from graphprune.runtime.profile import NodeTime, Profile

LOUD = 0.05
"""Share of the time from which something stands out."""
HEAVY = 0.3
"""Share of the time from which a single contraction does."""
OUTSIDE = 0.25
"""Share of the time outside contractions from which that limits what a cut of multiply-adds gains."""
SHOWN = 3


@dataclass(frozen=True)
class WorkLine:
    """All nodes that do one kind of work."""

    work: str
    nodes: int
    share: float
    ms: float


@dataclass(frozen=True)
class NodeLine:
    """One node as ONNX Runtime runs it; `sources` are the nodes of the file that it was made of."""

    name: str
    operator: str
    work: str
    provider: str
    shape: tuple[int, ...]
    share: float
    ms: float
    calls: float
    sources: tuple[str, ...]


@dataclass(frozen=True)
class PatternLine:
    """Nodes outside contractions that do the same at several places."""

    work: str
    text: str
    times: int
    nodes: int
    share: float
    first: str


@dataclass(frozen=True)
class Times:
    """Milliseconds of a run, and whose they are; shares are of all nodes together."""

    ms: float
    threads: int
    runs: int
    outside: float
    works: tuple[WorkLine, ...]
    nodes: tuple[NodeLine, ...]
    patterns: tuple[PatternLine, ...]
    remarks: tuple[str, ...]


def time_nodes(model: object, settings: Timing, inputs: Given = None) -> Times:
    """Run a model as it is, and say where its time goes.

    Raises:
        ModelError: it does not load or run.
        DataError: the inputs do not fit it.
    """
    from graphprune.runtime.profile import profile

    ready = load_to_run(model, settings)
    feeds = timed_feed(ready.model, inputs, settings, ready.constants)
    settings.progress(0, 0, "time its nodes")
    threads, providers = settings.threads, settings.providers
    return times_of(profile(ready.model, feeds, threads=threads, providers=providers, run=settings.run))


def times_of(profile: Profile) -> Times:
    """A profile in words and shares."""
    from graphprune.runtime.patterns import patterns

    whole = profile.traced
    works = sorted({node.work for node in profile.nodes})
    lines = (_work(work, profile) for work in works)
    found = patterns(profile)
    return Times(
        ms=1e3 * profile.seconds,
        threads=profile.threads,
        runs=profile.runs,
        outside=sum(node.seconds for node in profile.nodes if node.work != "contractions") / whole,
        works=tuple(sorted(lines, key=lambda line: -line.share)),
        nodes=tuple(_node(node, whole) for node in profile.nodes),
        patterns=tuple(
            PatternLine(each.work, each.text, each.times, each.nodes, each.seconds / whole, each.first)
            for each in found
        ),
        remarks=tuple(_remarks(profile, found)),
    )


def _work(work: str, profile: Profile) -> WorkLine:
    mine = [node.seconds for node in profile.nodes if node.work == work]
    return WorkLine(work, len(mine), sum(mine) / profile.traced, 1e3 * sum(mine))


def _node(node: NodeTime, whole: float) -> NodeLine:
    return NodeLine(
        node.name,
        node.operator,
        node.work,
        node.provider,
        node.shape,
        node.seconds / whole,
        1e3 * node.seconds,
        node.calls,
        node.sources,
    )


def _remarks(profile: Profile, found: Sequence[Pattern]) -> Iterator[str]:
    """What stands out, in words."""
    whole = profile.traced
    outside = sum(each.seconds for each in found) / whole
    if outside >= OUTSIDE:
        yield (
            f"{outside:.0%} of the time is outside contractions: half of the multiply-adds alone "
            f"gains at most {1 / (outside + (1 - outside) / 2):.2f}x"
        )
    yield from _reorders(found, whole)
    for each in [each for each in found if each.work == "elementwise" and each.nodes > each.times][:SHOWN]:
        if each.seconds >= LOUD * whole:
            yield (
                f"{each.text}: {_times(each.times)}, {each.seconds / whole:.0%}: elementwise operators, "
                f"one pass through memory each; first at {quote(each.first)}"
            )
    yield from _bodies(profile)
    yield from _heavy(profile)


def _reorders(found: Sequence[Pattern], whole: float) -> Iterator[str]:
    from graphprune.runtime.patterns import causes

    reorders = [each for each in found if each.text in causes(found)]
    spent = sum(each.seconds for each in reorders)
    if spent >= LOUD * whole:
        named = ", ".join(f"{each.text.removeprefix('reorder ')} ({each.nodes})" for each in reorders[:SHOWN])
        yield (
            f"reorders: {sum(each.nodes for each in reorders)} nodes, {spent / whole:.0%}: values leave the "
            f"blocks of channels that convolutions compute in, {named}; first at {quote(reorders[0].first)}"
        )


def _bodies(profile: Profile) -> Iterator[str]:
    """Nodes whose bodies take time."""
    spent: dict[int, float] = {}
    for number, node in reversed(tuple(enumerate(profile.nodes))):
        if node.within is not None:
            total = spent.get(number, 0.0) + node.seconds
            spent[node.within] = spent.get(node.within, 0.0) + total
    for number, inner in sorted(spent.items()):
        node = profile.nodes[number]
        share = (inner + node.seconds) / profile.traced
        if share >= LOUD and node.within is None:
            yield f"{node.operator} {quote(node.name)} and what runs in it: {share:.0%}"


def _heavy(profile: Profile) -> Iterator[str]:
    """Why a cut may gain less than multiply-adds say."""
    from graphprune.runtime.patterns import floor, short

    whole = profile.traced
    for node in profile.nodes:
        if node.work == "contractions" and node.seconds >= HEAVY * whole:
            shape = "x".join(map(str, node.shape))
            yield f"{short(node)} {quote(node.name)} to {shape} alone: {node.seconds / whole:.0%}"
    least = floor(profile)
    if least and least.seconds >= LOUD * whole:
        yield (
            f"{least.nodes} convolutions, {least.seconds / whole:.0%}, have at most {least.block} output "
            f"channels: with fewer they cost the same; others gain in steps of {least.block}"
        )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
