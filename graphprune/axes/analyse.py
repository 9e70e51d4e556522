"""The driver: walks the graph with the transfer table until nothing changes, then forms Groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from graphprune.axes.branches import find_branches
from graphprune.axes.caches import cache_pairs, token_axis
from graphprune.axes.groups import Group, form_groups
from graphprune.axes.shared import parted_uses, tied_uses
from graphprune.ir.graphs import graphs_of
from graphprune.ir.nodes import is_constant, operator_of
from graphprune.ir.shapes import Sizes, infer
from graphprune.labels.algebra import Label, fixed, is_fixed
from graphprune.labels.edits import Edit
from graphprune.labels.options import Options
from graphprune.labels.state import Axes, Contraction, Event, Facts, State, Use
from graphprune.labels.structures import VarianceRegion
from graphprune.labels.visit import Visit
from graphprune.ops import contracts, has, record_of
from graphprune.ops.door import PLAIN
from graphprune.ops.forms.layernorms import find_regions
from graphprune.ops.forms.routing import find_routers
from graphprune.ops.forms.shuffles import find_shuffles
from graphprune.ops.positions import carry
from graphprune.ops.steps import step_of
from graphprune.ops.traits import Trait

PASS_LIMIT = 24


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything known about what can be removed from a model.

    Attributes:
        model: the normalised model that was read.
        options: what the analysis was allowed to assume.
        groups: all Groups, prunable and pinned, ordered by their first initializer.
        uses: labels per use of an initializer; `roles` and `blocks` are keyed by (use, axis).
        values: labels of computed values.
        edits: what a rewriter must change besides slicing initializers.
        contractions: edges that the masked reference masks.
        inexact: normalisers that compute another function when their label shrinks.
        pins: events that a Group's pin refers to.
    """

    model: ir.Model
    options: Options
    sizes: Sizes
    state: State
    groups: tuple[Group, ...]
    passes: int

    @property
    def uses(self) -> dict[Use, Axes]:
        """Labels of the axes of every use of an initializer."""
        return self.state.uses

    @property
    def values(self) -> dict[ir.Value, Axes]:
        """Labels of the axes of every computed value."""
        return self.state.facts.values

    @property
    def edits(self) -> list[Edit]:
        """What the rewriter changes besides slicing initializers."""
        return self.state.facts.edits

    @property
    def contractions(self) -> list[Contraction]:
        """Edges where the reference masks removed slots."""
        return self.state.facts.contractions

    @property
    def inexact(self) -> dict[ir.Node, Label]:
        """Nodes that compute another function when the label shrinks."""
        return self.state.facts.inexact

    @property
    def pins(self) -> list[Event]:
        """Why things are fixed, by the number that atoms and factors refer to."""
        return self.state.events

    @property
    def prunable(self) -> tuple[Group, ...]:
        """Groups that may shrink."""
        return tuple(group for group in self.groups if group.pin is None)

    def group(self, group_id: str) -> Group:
        """Returns the Group with this id; KeyError when there is none."""
        return next(group for group in self.groups if group.id == group_id)


def analyse(model: ir.Model, options: Options | None = None, sizes: Sizes | None = None) -> Analysis:
    """Finds every removable structure of a normalised model.

    Args:
        model: a model in normal form (`ir.normalise`); it is only read.
        options: what may be assumed.
        sizes: what `normalise` returned, if it is at hand.
    """
    options = options or Options()
    sizes = sizes or infer(model, record_of)
    state = State(sizes, options, model.opset_imports, step_of)
    nodes = list(walk(model.graph))
    regions = find_regions(nodes)
    state.unknown = frozenset(node for node in nodes if _unknown(sizes, node))
    state.shuffles = find_shuffles(nodes, sizes) if options.shuffle == "gather" else {}
    state.branches = find_branches(model.graph, sizes)
    state.routers = find_routers(nodes, sizes, state.branches)
    graphs = graphs_of(model)
    state.shared = parted_uses(graphs) | (tied_uses(graphs, contracts) if options.share == "tie" else {})
    pairs = cache_pairs(model.graph) if options.io == "auto" else {}
    passes = 0
    while True:
        passes += _fixpoint(state, model, nodes, regions, pairs)
        groups, unbalanced = form_groups(model, state)
        if not unbalanced:
            break
        unbalanced = state.sharing(unbalanced)
        state.tied.update(unbalanced)
        state.forget({node for node, _ in unbalanced})
    return Analysis(model, options, sizes, state, groups, passes)


def _fixpoint(
    state: State,
    model: ir.Model,
    nodes: list[ir.Node],
    regions: dict[ir.Node, VarianceRegion],
    pairs: dict[ir.Value, ir.Value],
) -> int:
    for count in range(1, PASS_LIMIT + 1):
        before = state.atoms.version
        state.facts = Facts(regions=regions)
        _inputs(state, model.graph, pairs)
        for node in nodes:
            _transfer(state, node)
        _outputs(state, model.graph, pairs)
        state.atoms.settle()
        if state.atoms.version == before:
            return count
    raise AssertionError(f"the analysis did not settle in {PASS_LIMIT} passes")


def walk(graph: ir.Graph) -> Iterator[ir.Node]:
    """Nodes in order; the branches of an If come before the If itself."""
    work: list[Iterator[ir.Node]] = [iter(graph)]
    closing: list[ir.Node | None] = [None]
    while work:
        node = next(work[-1], None)
        if node is None:
            work.pop()
            owner = closing.pop()
            if owner is not None:
                yield owner
        elif has(node, Trait.BRANCHES):
            work.append(_branches(node))
            closing.append(node)
        else:
            yield node


def _branches(node: ir.Node) -> Iterator[ir.Node]:
    for name in ("then_branch", "else_branch"):
        yield from node.attributes[name].as_graph()


def _inputs(state: State, graph: ir.Graph, pairs: dict[ir.Value, ir.Value]) -> None:
    for value in graph.inputs:
        if is_constant(value):
            continue
        why = state.event(f"graph input '{value.name}'", value.name or "")
        shape = state.sizes.shapes.get(value) or ()
        if value in pairs:
            tokens = token_axis(value)
            state.facts.values[value] = tuple(
                fixed(size, why) if axis == tokens else state.algebra.fresh(size, (value, axis))
                for axis, size in enumerate(shape)
            )
        else:
            state.facts.values[value] = tuple(fixed(size, why) for size in shape)


def _outputs(state: State, graph: ir.Graph, pairs: dict[ir.Value, ir.Value]) -> None:
    free = set(pairs.values())
    for value in graph.outputs:
        why = state.event(f"graph output '{value.name}'", value.name or "")
        if value not in free:
            for label in state.facts.values.get(value, ()):
                state.algebra.pin(label, why)
        if value in state.facts.indices:
            state.algebra.pin(state.facts.indices[value], why)
        if value.const_value is not None:
            _pin_uses(state, value, why)


def _pin_uses(state: State, value: ir.Value, why: int) -> None:
    for use, labels in state.uses.items():
        if use.value is value:
            for label in labels:
                state.algebra.pin(label, why)


def _transfer(state: State, node: ir.Node) -> None:
    visit = Visit(state, node)
    row = record_of(node)
    if row is None:
        page = "CONTRIBUTING.md" if node.domain in PLAIN else "docs/plugins.md"
        visit.fix_all(f"operator {operator_of(node)} is not known", f"add a row for it ({page})")
    elif node in state.unknown:
        mute = row.origin is not None and row.shaping is None
        visit.fix_all("its Record has no shaping" if mute else "its shape is not known here")
    else:
        row.transfer(visit)
        visit.fix_unread()
        if row.origin is not None:
            visit.fix_unsaid()
    _spread(state, node, "" if row is None else row.exactness)


def _unknown(sizes: Sizes, node: ir.Node) -> bool:
    """Whether the rule would miss a shape; rules of nodes with bodies only freeze, and must always run."""
    shapes = sizes.shapes
    if has(node, Trait.BODY):
        return False
    inputs = any(value is not None and shapes.get(value) is None for value in node.inputs)
    return inputs or any(out.uses() and shapes.get(out) is None for out in node.outputs)


def _spread(state: State, node: ir.Node, exactness: str) -> None:
    """Carries 'derived from a mean' along, and pins axes whose positions are read as plain numbers."""
    facts = state.facts
    if facts.means and exactness != "contraction" and node not in facts.regions:
        _spread_means(state, node)
    if facts.indices:
        carry(state, node)


def _spread_means(state: State, node: ir.Node) -> None:
    """Follows values that derive from a mean over a labelled axis.

    Scaling a width by them leaves zeros zero. Adding them to it shifts removed slots away from zero, and a
    later reduction over such a width means something else (a LayerNorm that was not recognised).
    """
    means = state.facts.means
    for position, value in enumerate(node.inputs):
        if value is None or value not in means:
            continue
        for out in node.outputs:
            scales = has(node, Trait.MULTIPLY) or (position == 1 and has(node, Trait.SCALE))
            widened = _widens(state, value, out)
            if widened and scales and not means[value]:
                continue
            means[out] = means.get(out, False) or means[value] or widened


def _widens(state: State, value: ir.Value, out: ir.Value) -> bool:
    """Whether a value is broadcast along a labelled axis of an output."""
    before, after = state.sizes.shapes.get(value) or (), state.facts.values.get(out, ())
    for axis, label in enumerate(reversed(after)):
        narrow = axis >= len(before) or before[-1 - axis] == (1, 1)
        if narrow and not is_fixed(label):
            return True
    return False
