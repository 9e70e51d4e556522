"""The transformer block that a hidden layer sits in: the residual stream before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from graphprune.axes.groups import Group
from graphprune.axes.kinds import Kind
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.prune.evidence import SiteIndex

SAME = (Trait.COPY, Trait.CAST, Trait.DROPOUT)


def blocks(groups: Sequence[Group], places: SiteIndex) -> dict[str, tuple[str, str]]:
    """Names of the stream (before, after) the block of each Group, where there is a stream around it.

    After: behind the residual sum that the Group's last product reaches. Before: what comes out of the block
    before it, found by walking up the stream past sums of sublayers that hold none of these Groups.
    """
    found: dict[str, tuple[ir.Value, ir.Value]] = {}
    for group in groups:
        for sink in places.sinks(group):
            path = None if sink.site.hidden else _to_stream(sink.site.output)
            if path is not None:
                found[group.id] = path
    ends = {after for _, after in found.values()}
    names = {}
    for name, (skip, after) in found.items():
        before = _block_start(skip, ends)
        if before.name and after.name:
            names[name] = (before.name, after.name)
    return names


def _to_stream(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """(skip operand, sum) where a branch joins the stream; the skip is read elsewhere too."""
    skip: ir.Value | None = None
    while True:
        readers = list(dict.fromkeys(node for node, _ in value.uses()))
        if len(readers) != 1 or not has(readers[0], *SAME, Trait.LAYOUT, Trait.SUM, Trait.MULTIPLY):
            return None if skip is None else (skip, value)
        node = readers[0]
        other = next((v for v in node.inputs if v is not None and v is not value), None)
        if has(node, Trait.SUM) and other is not None and _is_shared(other):
            skip = other
        value = node.outputs[0]


def _is_shared(value: ir.Value) -> bool:
    """A computed value that several nodes read, as branch and skip of a residual do."""
    return value.const_value is None and len({node for node, _ in value.uses()}) > 1


def _block_start(value: ir.Value, ends: set[ir.Value]) -> ir.Value:
    while value not in ends:
        node = value.producer()
        if node is None:
            return value
        if has(node, *SAME, Trait.WIDTH_NORM) and node.inputs[0] is not None:
            above: ir.Value | None = node.inputs[0]
        elif has(node, Trait.SUM):
            above = next((v for v in node.inputs if v is not None and (_is_shared(v) or v in ends)), None)
        else:
            above = None
        if above is None:
            return value
        value = above
    return value


def numbered(groups: Sequence[Group], places: SiteIndex, kinds: Mapping[str, Kind]) -> dict[str, int]:
    """Which block of a net each Group lies in, from the inputs on; Groups in no residual branch have none.

    Heads and neurons are counted apart, since their branches may join the stream one after the other.
    """
    nodes = places.analysis.model.graph
    order = {value.name: at for at, node in enumerate(nodes) for value in node.outputs}
    ends = {name: order[after] for name, (_, after) in blocks(groups, places).items()}
    found: dict[str, int] = {}
    for kind in sorted({kinds[name] for name in ends}):
        mine = {name: at for name, at in ends.items() if kinds[name] == kind}
        steps = sorted(set(mine.values()))
        found |= {name: steps.index(at) for name, at in mine.items()}
    return found
