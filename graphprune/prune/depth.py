"""Which residual sublayers go: greedily by what their removal does to the outputs, or by fixed scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import onnx_ir as ir

from graphprune.axes.analyse import Analysis, walk
from graphprune.axes.assumed import concrete_sizes
from graphprune.axes.cost import node_terms, require_known
from graphprune.axes.sublayers import Sublayer, gone_with
from graphprune.ir.weights import find_weights, stored
from graphprune.ops import record_of
from graphprune.prune.choose import Budget
from graphprune.prune.divergence import Judge, Metric
from graphprune.prune.gates import Candidates, gated
from graphprune.runtime.session import Feeds

Score = Callable[[Sequence[str]], float]
"""The loss of a model without the named sublayers."""
Enough = Callable[[Sequence[Sublayer]], bool]
"""Whether a budget is met without these sublayers."""


@dataclass(frozen=True)
class Removal:
    """One step: the sublayer that went, and the loss after it (for fixed scores, its score)."""

    name: str
    loss: float


class DepthCost:
    """Parameters, multiply-adds and bytes of a model without some of its sublayers.

    Args:
        analysis: of the dense model.
        shapes: concrete input shapes for counting.
        clock: counts nanoseconds, where that is asked for.
    """

    def __init__(
        self,
        analysis: Analysis,
        shapes: Mapping[str, Sequence[int]],
        clock: Callable[[Sequence[Sublayer]], int] | None = None,
    ) -> None:
        model = analysis.model
        sizes = concrete_sizes(model, shapes, analysis.sizes)
        counted = {node: node_terms(node, sizes) for node in walk(model.graph)}
        self._macs = {node: sum(term.macs for term in found or ()) for node, found in counted.items()}
        self.unknown = [node.name or node.op_type for node, found in counted.items() if found is None]
        users: dict[int, set[ir.Node]] = {}
        for value, tensor in stored(model):
            users.setdefault(id(tensor), set()).update(user for user, _ in value.uses())
        weights = {id(each.tensor): each.size for each in find_weights(model, record_of).values()}
        self._weights = [(size, users[tensor]) for tensor, size in weights.items()]
        self._stored = [
            (size, users[key]) for key, size in {id(t): t.nbytes for _, t in stored(model)}.items()
        ]
        self._counts: dict[str, Callable[[Sequence[Sublayer]], int]] = {
            "params": self.params,
            "macs": self.macs,
            "bytes": self.bytes,
        }
        if clock is not None:
            self._counts["latency"] = clock
        self.dense = {what: count(()) for what, count in self._counts.items()}

    def params(self, gone: Sequence[Sublayer]) -> int:
        """Parameters that something still reads."""
        nodes = gone_with(gone)
        return sum(size for size, users in self._weights if not users or not users <= nodes)

    def macs(self, gone: Sequence[Sublayer]) -> int:
        """Multiply-adds of the nodes that are left."""
        nodes = gone_with(gone)
        return sum(count for node, count in self._macs.items() if node not in nodes)

    def bytes(self, gone: Sequence[Sublayer]) -> int:
        """Bytes of tensors that something still reads."""
        nodes = gone_with(gone)
        return sum(size for size, users in self._stored if not users or not users <= nodes)

    def left(self, what: str, gone: Sequence[Sublayer]) -> int:
        """Parameters, multiply-adds, bytes or nanoseconds that are left."""
        return self._counts[what](gone)

    def enough(self, budget: Budget) -> Enough:
        """Whether no more is left than a budget allows.

        Raises:
            ModelError: multiply-adds are to be counted, and those of some node are not known.
        """
        if budget.what == "macs":
            require_known(self.unknown)
        target = budget.target(self.dense[budget.what])
        return lambda gone: self.left(budget.what, gone) <= target

    def weights(
        self, candidates: Sequence[Sublayer], per: Literal["unit", "params", "macs"]
    ) -> dict[str, float]:
        """Share of the model that each sublayer is, at least one element of it; 1 per unit."""
        if per == "unit":
            return dict.fromkeys((item.name for item in candidates), 1.0)
        dense = max(1, self.dense[per])
        return {i.name: max(1, self.dense[per] - self.left(per, (i,))) / dense for i in candidates}


def outputs_without(
    analysis: Analysis,
    candidates: Sequence[Sublayer],
    batches: Sequence[Feeds],
    metric: Metric,
    *,
    timeout: float | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Score:
    """How far the outputs are from the dense ones without some of the candidates."""
    session = Candidates(gated(analysis, (), candidates), timeout)
    judge = Judge(analysis.model, batches, session.run, metric, note)
    return lambda names: judge.loss(partial(session.run, bypassed=names))


def ranked(scores: Mapping[str, float], order: Sequence[Sublayer]) -> list[Removal]:
    """Everything in the order in which fixed scores let it go; ties go to the later sublayer."""
    place = {item.name: number for number, item in enumerate(order)}
    names = sorted(scores, key=lambda name: (scores[name], -place[name]))
    return [Removal(name, scores[name]) for name in names]


def greedy(
    candidates: Sequence[Sublayer],
    loss: Score,
    enough: Enough,
    weight: Callable[[Sublayer], float],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Removal]:
    """FinerCut: each step removes the candidate without which the outputs stay closest to the dense ones.

    Args:
        candidates: in graph order; ties go to the later one.
        loss: of the model without some of them.
        enough: whether to stop.
        weight: what the loss of a candidate is divided by.
        progress: called with candidates tried and candidates there are in this step.
    """
    left, gone, steps = list(candidates), list[Sublayer](), list[Removal]()
    while left and not enough(gone):
        names = [item.name for item in gone]
        losses = []
        for number, item in enumerate(left):
            progress(number, len(left))
            losses.append(loss([*names, item.name]))
        best = min(range(len(left)), key=lambda at: (losses[at] / weight(left[at]), -at))
        chosen = left.pop(best)
        gone.append(chosen)
        steps.append(Removal(chosen.name, losses[best]))
        left = [item for item in left if not _inside(item, gone)]
    return steps


def taken(removals: Sequence[Removal], candidates: Sequence[Sublayer], enough: Enough) -> list[Sublayer]:
    """The first removals that are enough, or all of them, in the order in which they go.

    Where they are more than enough, those that a later and larger one makes needless stay, the dearest first.
    """
    by_name = {item.name: item for item in candidates}
    gone: list[Sublayer] = []
    for removal in removals:
        if enough(gone):
            break
        gone.append(by_name[removal.name])
    if not enough(gone):
        return gone
    for item in reversed(gone[:-1]):
        rest = [each for each in gone if each is not item]
        if enough(rest):
            gone = rest
    return gone


def _inside(item: Sublayer, gone: Sequence[Sublayer]) -> bool:
    """Whether a sublayer went with another one."""
    nodes: set[ir.Node] = {node for each in gone for node in each.nodes}
    return item.join in nodes
