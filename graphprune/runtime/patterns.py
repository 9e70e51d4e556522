"""What time outside contractions goes to: chains of small operators, and changes of the order in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import networkx as nx
import numpy as np
import onnx_ir as ir

from graphprune.runtime.opening import OPTIMISED
from graphprune.runtime.profile import NodeTime, Profile
from graphprune.runtime.session import open_session
from graphprune.runtime.work import Work

BLOCKED = "com.microsoft.nchwc:"
"""The domain of what keeps channels in blocks as wide as a vector register."""
CHAINS: dict[Work, tuple[Work, ...]] = {"elementwise": ("elementwise",), "movement": ("movement", "layout")}
"""Kinds of work whose nodes are looked at together where they follow each other."""
LONGEST = 12
"""Operators of a chain that its text names."""


@dataclass(frozen=True)
class Pattern:
    """The same thing at several places of a graph.

    Attributes:
        work: of its nodes.
        text: operators in the order in which they run; of a reorder, what wants the other order.
        times: places.
        nodes: at all places.
        seconds: likewise, of one run.
        first: name of the first node.
    """

    work: Work
    text: str
    times: int
    nodes: int
    seconds: float
    first: str


def patterns(profile: Profile) -> tuple[Pattern, ...]:
    """Every node that is no contraction, in exactly one pattern; what takes most time first."""
    found: dict[tuple[Work, str], list[list[NodeTime]]] = defaultdict(list)
    for work, text, members in _all(profile.nodes):
        found[work, text].append(members)
    made = (
        Pattern(
            work,
            text,
            len(places),
            sum(map(len, places)),
            sum(node.seconds for place in places for node in place),
            places[0][0].name,
        )
        for (work, text), places in found.items()
    )
    return tuple(sorted(made, key=lambda pattern: -pattern.seconds))


Found = tuple[Work, str, list[NodeTime]]


def _all(nodes: Sequence[NodeTime]) -> Iterator[Found]:
    single = {*range(len(nodes))}
    reorders = {number for number in single if nodes[number].work == "layout" and is_blocked(nodes[number])}
    for work, works in CHAINS.items():
        small = [number for number, node in enumerate(nodes) if node.work in works and number not in reorders]
        single -= {*small}
        yield from _chains(nodes, small, work)
    readers: dict[int, list[NodeTime]] = defaultdict(list)
    for node in nodes:
        for read in node.reads:
            readers[read].append(node)
    for number in sorted(single):
        node = nodes[number]
        before = [nodes[read] for read in node.reads]
        if number in reorders:
            yield node.work, _reorder(before, readers[number]), [node]
        elif node.work != "contractions":
            yield node.work, short(node), [node]


def _chains(nodes: Sequence[NodeTime], small: Sequence[int], work: Work) -> Iterator[Found]:
    """Of these nodes, those that hang together."""
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(small)
    graph.add_edges_from((number, read) for number in small for read in nodes[number].reads if read in graph)
    for component in sorted(nx.connected_components(graph), key=min):
        members = [nodes[number] for number in sorted(component)]
        yield work, _text([short(node) for node in members]), members


def _text(names: Sequence[str]) -> str:
    """Operators in order, repeats as a number: `Max*11`."""
    runs = [(name, len(list(same))) for name, same in groupby(names)]
    more = f" ... ({len(names)})" if len(runs) > LONGEST else ""
    return " ".join(f"{name}*{times}" if times > 1 else name for name, times in runs[:LONGEST]) + more


def _reorder(before: Sequence[NodeTime], behind: Sequence[NodeTime]) -> str:
    """What a reorder is for: whoever reads or made the value without blocks."""
    plain = [short(node) for node in behind if not is_blocked(node)]
    if plain or not behind:
        return f"reorder for {' '.join(sorted(set(plain))) or 'an output'}"
    made = [short(node) for node in before if not is_blocked(node)]
    return f"reorder behind {' '.join(made) or 'an input'}"


def is_blocked(node: NodeTime) -> bool:
    """Whether a node computes on channels in blocks."""
    return node.operator.startswith(BLOCKED)


def short(node: NodeTime) -> str:
    """Its operator, without a domain."""
    return node.operator.rpartition(":")[2]


@dataclass(frozen=True)
class Floor:
    """Convolutions with one block of output channels or less: with fewer channels they are no faster.

    Attributes:
        block: channels that cost what one costs.
        nodes: such convolutions.
        seconds: of one run.
    """

    block: int
    nodes: int
    seconds: float


def floor(profile: Profile) -> Floor | None:
    """Those of a model; None where nothing computes in blocks."""
    convolutions = [node for node in profile.nodes if node.work == "contractions" and is_blocked(node)]
    if not convolutions:
        return None
    block = block_width()
    least = [node for node in convolutions if len(node.shape) > 1 and node.shape[1] <= block]
    return Floor(block, len(least), sum(node.seconds for node in least))


@cache
def block_width() -> int:
    """Channels in a block on this machine: what ONNX Runtime fills four channels up to; 1 without blocks."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, 4, 8, 8])
    w = ir.val("w")
    w.const_value = ir.tensor(np.ones((4, 4, 3, 3), np.float32), name="w")
    node = ir.node("Conv", [x, w])
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[w], opset_imports={"": 17}, name="probe")
    with TemporaryDirectory() as folder:
        open_session(ir.Model(graph, ir_version=8), trace=Path(folder)).end_trace()
        made = ir.load(Path(folder, OPTIMISED)).graph
        widths = [
            value.shape[0] for value in made.initializers.values() if value.shape and len(value.shape) == 4
        ]
        return max(int(width) for width in widths if isinstance(width, int)) if len(made) > 1 else 1


def causes(found: Sequence[Pattern]) -> Counter[str]:
    """How many reorders there are for each operator."""
    return Counter({each.text: each.nodes for each in found if each.text.startswith("reorder")})
