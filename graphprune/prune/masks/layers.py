"""Which weights a mask pass may touch, seen as matrices; and which it leaves alone, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.ir.arrays import Array, Bools, Doubles, Singles
from graphprune.ir.graphs import all_nodes
from graphprune.ops import has, multiplies
from graphprune.ops.traits import Trait
from graphprune.prune.masks.patterns import Pattern
from graphprune.prune.repair.grid import Lattice
from graphprune.statistics.sites import Site

Indices = npt.NDArray[np.intp]
POWERS = {"square": 2, "cube": 3, "fourth": 4}
"""Of the gradient, in what is measured of it."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight to mask, and the Sites that read it.

    Attributes:
        weight: the initializer.
        sites: its readers, in topological order; all see the same matrix.
        order: columns in the order of the pattern, None where that is their own.
    """

    weight: ir.Value
    sites: tuple[Site, ...]
    order: Indices | None = None

    @property
    def name(self) -> str:
        """Name of the weight."""
        return self.weight.name or ""

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.sites[0].shape))

    def matrix(self) -> Singles:
        """[blocks, rows, columns] in float32, columns in the order of the pattern."""
        found = self.sites[0].dense
        return np.require(found if self.order is None else found[..., self.order], np.float32, ["C", "A"])

    def restore(self, matrix: Array) -> Array:
        """A matrix in the layout and type of the initializer; of a quantised one the codes next to it."""
        site, lattice = self.sites[0], Lattice.of(self.sites[0])
        whole = self._unordered(matrix)
        if lattice is None:
            return site.restore(whole)
        return site.stored.write(site.shaped(lattice.nearest(np.asarray(whole, np.float64))))

    def stored(self, keep: Bools) -> Bools:
        """A mask in the layout of the initializer."""
        site = self.sites[0]
        result: Bools = site.stored.write(site.shaped(self._unordered(keep).astype(np.int8))) != 0
        return result

    def slopes(self, gradient: Array, what: str) -> Singles:
        """[blocks, rows, columns] of what was measured of gradients, for derivatives in the matrix."""
        site = self.sites[0]
        found = np.asarray(site.arranged(site.stored.moved(gradient)), np.float32)
        found = found / np.float32(site.scale ** POWERS.get(what, 1))
        return np.asarray(found if self.order is None else found[..., self.order])

    def _unordered(self, matrix: Array) -> Array:
        return matrix if self.order is None else matrix[..., np.argsort(self.order)]

    def columns(self, vector: Doubles) -> Doubles:
        """[blocks, columns] of one number per input channel."""
        site = self.sites[0]
        wide = np.repeat(vector, site.column_span).reshape(site.blocks, -1)
        return wide if self.order is None else wide[:, self.order]

    def gram(self, gram: Doubles) -> Doubles:
        """[blocks, columns, columns] in the order of the pattern."""
        return gram if self.order is None else gram[:, self.order][:, :, self.order]


@dataclass(frozen=True)
class Left:
    """A weight that is left alone, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Choice:
    """Which weights are asked for.

    Attributes:
        pattern: what must fit the input channels.
        head: include Sites that no other Site follows (a classifier, a language model's head).
        embeddings: include weights that are also looked up by index.
        only, ignore: globs over names of weights, Sites and nodes.
    """

    pattern: Pattern = field(default_factory=Pattern)
    head: bool = False
    embeddings: bool = False
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


def find_layers(
    model: ir.Model, sites: Sequence[Site], choice: Choice
) -> tuple[tuple[Layer, ...], tuple[Left, ...]]:
    """The weights to mask in the order of their first Site, and every other weight that a product reads."""
    by_weight: dict[ir.Value, list[Site]] = {}
    for site in sites:
        by_weight.setdefault(site.weight, []).append(site)
    followed = _followed(model, sites)
    layers: list[Layer] = []
    left: list[Left] = []
    for weight, readers in by_weight.items():
        why = _refused(weight, readers, choice, followed)
        if why:
            left.append(Left(weight.name or "", why))
        else:
            layers.append(Layer(weight, tuple(readers), _order(readers[0], choice.pattern)))
    steps = {step.outputs[0] for site in sites for step in site.stored.chain.steps}
    return tuple(layers), (*left, *no_sites(model, {*by_weight, *steps}))


def matches(layer: Layer, pattern: str) -> bool:
    """Whether a glob names a layer: its weight, a Site or a node."""
    return _named(layer.sites, pattern)


def _named(sites: Sequence[Site], pattern: str) -> bool:
    names = {name for s in sites for name in (s.name, s.weight.name or "", s.node.name or "")}
    return any(fnmatchcase(name, pattern) for name in names)


def _refused(weight: ir.Value, sites: list[Site], choice: Choice, followed: frozenset[Site]) -> str:
    """Why a weight is left alone; empty where it is masked."""
    checks: tuple[Callable[[], str], ...] = (
        lambda: _unwanted(sites, choice),
        lambda: _looked_up(weight, sites, choice),
        lambda: "" if choice.head or followed.intersection(sites) else "the last layer (head=true masks it)",
        lambda: _misfit(sites, choice.pattern),
    )
    return next((why for check in checks if (why := check())), "")


def _unwanted(sites: list[Site], choice: Choice) -> str:
    named = not choice.only or any(_named(sites, pattern) for pattern in choice.only)
    return "" if named and not any(_named(sites, pattern) for pattern in choice.ignore) else "not asked for"


def _looked_up(weight: ir.Value, sites: list[Site], choice: Choice) -> str:
    nodes = {node for site in sites for node in (site.node, *site.stored.chain.steps)}
    ways = {weight, *(step.outputs[0] for site in sites for step in site.stored.chain.steps)}
    others = {node for way in ways for node, _ in way.uses() if node not in nodes}
    if not others and not weight.is_graph_output():
        return ""
    if not weight.is_graph_output() and all(has(node, Trait.GATHER, Trait.LOOKUP) for node in others):
        return "" if choice.embeddings else "tied to an embedding (embeddings=true masks both)"
    return f"also read by {', '.join(sorted({node.op_type for node in others})) or 'the graph output'}"


def _misfit(sites: list[Site], pattern: Pattern) -> str:
    first = sites[0]
    views = {(s.blocks, s.kernel, s.transposed, s.scale) for s in sites}
    if len(views) > 1:
        return "its readers see different matrices"
    channels = first.columns // first.column_span
    if pattern.structured and channels % pattern.m:
        return f"{channels} input channels are no multiple of {pattern.m}"
    return ""


def _order(site: Site, pattern: Pattern) -> Indices | None:
    """Under n:m the groups of a convolution run along the input channels, as TensorRT reads 2:4."""
    if not pattern.structured or site.column_span == 1:
        return None
    channels = site.columns // site.column_span
    return np.arange(site.columns).reshape(channels, site.column_span).T.ravel()


def _followed(model: ir.Model, sites: Sequence[Site]) -> frozenset[Site]:
    """Sites behind which another weight is applied: a Site, or a weight that is quantised or computed."""
    weighted = {node for node, _ in _others(model)}
    ahead: dict[ir.Node, bool] = {}
    for node in reversed(tuple(model.graph)):
        readers = [reader for value in node.outputs for reader, _ in value.uses()]
        # A reader inside a subgraph is none of the main graph's nodes: whatever it leads to counts.
        ahead[node] = any(r in weighted or ahead.get(r, True) for r in readers)
    return frozenset(site for site in sites if ahead.get(site.node, False))


def no_sites(model: ir.Model, known: Collection[ir.Value]) -> Iterator[Left]:
    """Weights that a product reads, but no Site: quantised, computed, in a subgraph, of a recurrent net."""
    seen: set[ir.Value] = set()
    for node, value in _others(model):
        # Behind a DequantizeLinear the quantised tensor is told of already.
        maker = value.producer()
        decoded = maker is not None and has(maker, Trait.DEQUANTISE)
        if value not in known and value not in seen and not decoded:
            seen.add(value)
            yield Left(value.name or "", _why_no_site(node, value, model))


def _others(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Every operator that contracts weights, with each of its weights."""
    constant = _computed(model)
    for node in all_nodes(model.graph):
        if not (multiplies(node) or has(node, Trait.CODES)):
            continue
        for value in node.inputs:
            if value is not None and (_is_matrix(value) or value in constant):
                yield node, value


def _computed(model: ir.Model) -> frozenset[ir.Value]:
    """Values of the main graph that follow from initializers alone, such as the Transpose of a tied table."""
    found: set[ir.Value] = set()
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None]
        if inputs and all(
            v in found or (v.const_value is not None and not v.is_graph_input()) for v in inputs
        ):
            found.update(node.outputs)
    return frozenset(found)


def _why_no_site(node: ir.Node, value: ir.Value, model: ir.Model) -> str:
    if has(node, Trait.DEQUANTISE):
        return "quantised with zero points that a zero is none of; dequantize it first"
    if has(node, Trait.CODES):
        return f"quantised, and multiplied so by {node.op_type}; masks reach what DequantizeLinear decodes"
    if value.const_value is None:
        return f"computed by {_maker(value)}"
    if node.graph is not model.graph:
        return f"inside a subgraph ({node.op_type})"
    dtype = value.dtype.name if value.dtype is not None else "unknown type"
    return f"{node.op_type} of {dtype} with {len(value.const_value.shape)} axes"


def _maker(value: ir.Value) -> str:
    producer = value.producer()
    return producer.op_type if producer is not None else ""


def _is_matrix(value: ir.Value) -> bool:
    return value.const_value is not None and len(value.const_value.shape) >= 2
