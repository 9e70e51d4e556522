"""Applies rules to a graph until none fits any more; the same result whatever ran before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import onnx_ir as ir

from graphprune.ir.build import Names, drop_unread, supersede
from graphprune.ir.domains import is_default
from graphprune.ir.graphs import every_graph
from graphprune.ir.nodes import is_constant, is_if
from graphprune.ir.shapes import Sizes
from graphprune.lowering.rule import Rewrite, Rule
from graphprune.lowering.scene import Scene, Writer, dtype_of

ROUNDS = 8
"""Walks over a graph; what one rule leaves may be what another looks for."""
PREFIX = "lower_"


@dataclass(frozen=True)
class Use:
    """A rule, the value that it computes otherwise now, and how many nodes fewer that takes."""

    rule: str
    value: str
    fewer: int = 0


def apply(
    model: ir.Model, sizes: Sizes, rules: Sequence[Rule], kept: Collection[str] = ()
) -> tuple[Use, ...]:
    """Rewrites a model in normal form, in place: the main graph, and the bodies of If, each by itself.

    What a body reads of the graphs around it, and is read by others, is left alone.

    Args:
        model: to change.
        sizes: of its values; those of new ones are entered.
        rules: to apply, in order of precedence.
        kept: names of weights that no rule may touch.

    Returns:
        What was done, in order.
    """
    opset, names = model.opset_imports.get("", 0), Names(PREFIX, _taken(model.graph))
    chosen = [rule for rule in rules if rule.needs <= opset]
    uses: list[Use] = []
    for graph in (*_branches(model.graph), model.graph):
        uses += _rewritten(Scene(graph, opset, sizes, frozenset(kept)), chosen, names)
        drop_unread(graph)
    return tuple(uses)


def _branches(graph: ir.Graph) -> Iterator[ir.Graph]:
    """The bodies of If in a graph, those in bodies included; the sizes in other bodies are not known."""
    for node in filter(is_if, graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _branches(attribute.as_graph())
                yield attribute.as_graph()


def _rewritten(scene: Scene, rules: Sequence[Rule], names: Names) -> list[Use]:
    uses: list[Use] = []
    roots = _Roots(scene.graph)
    for _ in range(ROUNDS):
        before = len(uses)
        for rule in rules:
            found = list(_walk(rule, scene, names, roots.of(rule)))
            if found:
                roots = _Roots(scene.graph)
            uses += found
        if len(uses) == before:
            break
    return uses


class _Roots:
    """The nodes of a graph by operator: most are no root of most rules."""

    def __init__(self, graph: ir.Graph) -> None:
        self._nodes = defaultdict[str, list[tuple[int, ir.Node]]](list)
        for at, node in enumerate(graph):
            if is_default(node.domain):
                self._nodes[node.op_type].append((at, node))

    def of(self, rule: Rule) -> list[ir.Node]:
        """Where a rule may fit, in order."""
        found = [each for op_type in set(rule.roots) for each in self._nodes.get(op_type, ())]
        return [node for _, node in sorted(found, key=itemgetter(0))]


def _taken(graph: ir.Graph) -> set[str | None]:
    graphs = every_graph(graph)
    taken = {value.name for each in graphs for node in each for value in node.outputs}
    taken |= {name for each in graphs for name in each.initializers}
    return taken | {value.name for each in graphs for value in each.inputs}


def _walk(rule: Rule, scene: Scene, names: Names, roots: Sequence[ir.Node]) -> Iterator[Use]:
    """One rule wherever it fits, from the inputs on."""
    for node in roots:
        if node.graph is not scene.graph or dtype_of(node) not in rule.types:
            continue
        found = rule.find(node, scene)
        if found is not None and _legal(found, scene):
            yield _applied(rule, found, scene, names)


def _legal(found: Rewrite, scene: Scene) -> bool:
    """Whether nothing outside the pattern reads, or holds, what goes with it."""
    *inner, root = found.nodes
    gone = set(found.nodes)
    if any(node.graph is not scene.graph for node in gone) or len(root.outputs) != 1:
        return False
    for node in inner:
        for out in node.outputs:
            if out.is_graph_output() or any(user not in gone for user, _ in out.uses()):
                return False
    return all(_own(weight, scene) for weight in found.weights)


def _own(weight: ir.Value, scene: Scene) -> bool:
    """Whether one node alone reads a weight, which is no mask's and nobody's output."""
    alone = len(weight.uses()) == 1 and not weight.is_graph_output()
    return alone and is_constant(weight) and weight.name not in scene.kept


def _applied(rule: Rule, found: Rewrite, scene: Scene, names: Names) -> Use:
    root = found.nodes[-1]
    old = root.outputs[0]
    name = old.name or ""
    writer = Writer(scene, root, names)
    new = found.build(writer)
    fresh = new.producer() is not None and (new.name or "").startswith(PREFIX)
    supersede(old, new, ())
    for node in reversed(found.nodes):
        scene.graph.remove(node, safe=True)
    if fresh and new.name != name:
        # What computes the same has the same name: the second proof compares by it.
        old.name, new.name = new.name, name
    return Use(rule.name, name, len(found.nodes) - len(writer.made))
