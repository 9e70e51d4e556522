"""Layer-wise relevance propagation: what every value contributed to a model's answer.

Composite rules (Pruning by Explaining, Yeom et al. 2021, arXiv 1912.08881; Bach et al. 2015), chosen by what
an operator is. Each hands on what it gets, but for what is counted as absorbed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.gradients import Batch, Loss
from graphprune.autograd.sensitivity import Data
from graphprune.ir.arrays import Doubles
from graphprune.ops import has
from graphprune.ops.torch.call import Tensor
from graphprune.ops.traits import Trait

EPSILON = 1e-6
"""Added to the size of what relevance is divided by."""
TINY = 1e-12
"""Sums of positive parts below this are none."""
NORMS = (Trait.BATCH_NORM, Trait.WIDTH_NORM, Trait.CHANNEL_NORM, Trait.OTHER_NORM)
SAME = (*NORMS, Trait.ACTIVATION, Trait.TANH, Trait.CLIP, Trait.PROBABILITIES, Trait.LOG_PROBABILITIES)
"""Relevance passes these unchanged."""
MOVES = (
    Trait.LAYOUT,
    Trait.COPY,
    Trait.CAST,
    Trait.DROPOUT,
    Trait.RESHAPE,
    Trait.TRANSPOSE,
    Trait.PART,
    Trait.GATHER,
    Trait.PICK,
    Trait.JOIN,
    Trait.REPEAT,
    Trait.BLOCKS,
)
"""Every element of the result is one of an input's, so relevance follows it."""
GATES = (Trait.SIGMOID, Trait.PROBABILITIES)
"""What multiplies something and counts as a constant there."""


@dataclass
class Explanation:
    """Where the relevance of one sample went.

    Attributes:
        of: by value.
        start: how much there was at the outputs.
        absorbed: taken by biases, by what keeps quotients finite, and where nothing spoke for a result.
        lost: taken by operators that no rule is exact for.
    """

    of: dict[ir.Value, Tensor] = field(default_factory=dict)
    start: float = 0.0
    absorbed: float = 0.0
    lost: float = 0.0

    def arrived(self, graph: ir.Graph) -> float:
        """What reached the inputs, and tables that are looked up."""
        ends = (value for value in self.of if value.producer() is None)
        return float(sum(self.of[value].sum() for value in ends))


def explain(
    net: Differentiable, graph: ir.Graph, feeds: Mapping[str, Tensor], answers: Mapping[str, Tensor]
) -> Explanation:
    """Propagates relevance from the outputs to the inputs of the main graph.

    Args:
        net: the model.
        graph: its main graph.
        feeds: inputs of one batch by name.
        answers: relevance of some outputs by name, in their shapes.
    """
    outputs = [value for value in graph.outputs if value.name in answers]
    nodes = _leading(graph, outputs)
    with torch.no_grad():
        work = _Work(net, _known(net, nodes, feeds), _constant(graph))
    for value in outputs:
        work.give(value, answers[value.name or ""])
        work.told.start += float(answers[value.name or ""].sum())
    for node in reversed(nodes):
        if any(value in work.told.of for value in node.outputs):
            work.spread(node)
    return work.told


def channels(
    net: Differentiable, graph: ir.Graph, data: Data, axes: Mapping[ir.Value, int]
) -> dict[str, Doubles]:
    """Sums of absolute relevance over samples and positions, per channel of some values, by name.

    Args:
        net: the model.
        graph: its main graph.
        data: samples; answers are the model's own.
        axes: the channel axis of each value.
    """

    def sums(at: int, feeds: Batch, loss: Loss) -> dict[str, Doubles]:
        with torch.no_grad():
            answers = data.likelihood.answers(net.run(feeds))
        found = explain(net, graph, feeds, answers).of
        wide = ((v, found[v].double().abs().movedim(axis, 0)) for v, axis in axes.items() if v in found)
        return {value.name or "": part.flatten(1).sum(1).numpy(force=True) for value, part in wide}

    totals: dict[str, Doubles] = {}
    for found in data.over("relevance", sums):
        for name, part in found.items():
            totals[name] = totals.get(name, 0.0) + part
    return totals


def _leading(graph: ir.Graph, outputs: Sequence[ir.Value]) -> list[ir.Node]:
    """Nodes that lead to some outputs, in order."""
    wanted, left = set[ir.Node](), list(outputs)
    while left:
        node = left.pop().producer()
        if node is not None and node not in wanted:
            wanted.add(node)
            left += [value for value in node.inputs if value is not None]
    return [node for node in graph if node in wanted]


def _known(net: Differentiable, nodes: Sequence[ir.Node], feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All values that these nodes read or make."""
    values = [v for n in nodes for v in (*n.inputs, *n.outputs) if v is not None and v.name]
    names = [name for name in dict.fromkeys(value.name or "" for value in values) if name not in feeds]
    found = net.run(feeds, names)
    return {**feeds, **{name: each for name, each in found.items() if isinstance(each, torch.Tensor)}}


def _constant(graph: ir.Graph) -> frozenset[ir.Value]:
    """Values that no input reaches."""
    moving = {value for value in graph.inputs if value.const_value is None}
    for node in graph:
        if any(value in moving for value in node.inputs) or any(
            attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        ):
            moving.update(node.outputs)
    every = {value for node in graph for value in (*node.inputs, *node.outputs) if value is not None}
    return frozenset(every - moving)


@dataclass
class _Work:
    """Relevance on its way back."""

    net: Differentiable
    known: Mapping[str, Tensor]
    constant: frozenset[ir.Value]
    told: Explanation = field(default_factory=Explanation)

    def give(self, value: ir.Value, relevance: Tensor) -> None:
        """Relevance that a reader hands to a value."""
        self.told.of[value] = self.told.of[value] + relevance if value in self.told.of else relevance

    def spread(self, node: ir.Node) -> None:
        """Relevance of what a node makes to what it reads."""
        given = {value: self.told.of[value] for value in node.outputs if value in self.told.of}
        moving = [value for value in node.inputs if value is not None and self._moves(value)]
        rule = self._rule(node, moving)
        rule(node, given, moving)

    def _moves(self, value: ir.Value) -> bool:
        tensor = self.known.get(value.name or "")
        return value not in self.constant and tensor is not None and tensor.is_floating_point()

    def _rule(self, node: ir.Node, moving: list[ir.Value]) -> _Rule:
        if has(node, *SAME) and moving and moving[0] is node.inputs[0]:
            return self._same
        if has(node, *MOVES):
            return self._moved
        if len(moving) == 1 and has(node, Trait.CONVOLUTION, Trait.SPREAD):
            entry = moving[0].producer() is None
            return self._boxed if entry else self._positive
        if len(moving) == 2 and has(node, Trait.MULTIPLY, Trait.PRODUCT):
            return self._product
        if moving and (has(node, Trait.SUM) or (has(node, Trait.ADDS) and has(node, Trait.AFFINE))):
            return self._proportional
        if len(moving) == 2 and has(node, Trait.SCALE):
            return self._quotient
        affine = has(node, Trait.PRODUCT, Trait.AFFINE, Trait.WINDOW)
        return self._proportional if len(moving) == 1 and affine else self._any

    # -- rules

    def _same(self, node: ir.Node, given: _Given, moving: list[ir.Value]) -> None:
        """Unchanged: elementwise functions, and norms with their statistics as constants."""
        relevance = given.get(node.outputs[0])
        if relevance is not None:
            self.give(moving[0], relevance)

    def _moved(self, node: ir.Node, given: _Given, moving: list[ir.Value]) -> None:
        """Along the elements; of a table that is looked up it ends there."""
        ends = (
            moving
            or [
                value
                for value in node.inputs
                if value is not None
                and (t := self.known.get(value.name or "")) is not None
                and t.is_floating_point()
            ][:1]
        )
        for value, slope in self._slopes(node, ends, given, self._inputs(node)).items():
            self.give(value, slope)

    def _proportional(self, node: ir.Node, given: _Given, moving: list[ir.Value]) -> None:
        """X * dz/dx * R / (z + e): every part of a sum by its share (epsilon rule)."""
        made = node.outputs[0]
        z, relevance = self.known[made.name or ""], given[made]
        stable = _stable(z)
        shares = relevance / stable
        for value, slope in self._slopes(node, moving, {made: shares}, self._inputs(node)).items():
            self.give(value, self.known[value.name or ""] * slope)
        still = {value: torch.zeros_like(self.known[value.name or ""]) for value in moving}
        with torch.no_grad():
            bias = self._run(node, {**self._inputs(node), **still})[0]
        self.told.absorbed += float((shares * (bias + stable - z)).sum())

    def _positive(self, node: ir.Node, given: _Given, moving: list[ir.Value]) -> None:
        """Only what speaks for the result: alpha 1, beta 0, no bias."""
        (value,), made = moving, node.outputs[0]
        x, weight = self.known[value.name or ""], self._weight(node)
        parts = [(x.clamp_min(0), weight.clamp_min(0)), (x.clamp_max(0), weight.clamp_max(0))]
        cases = [{**self._without_bias(node), value: a, self._weighted(node): w} for a, w in parts]
        with torch.no_grad():
            total = sum(self._run(node, case)[0] for case in cases)
        self._share(node, given[made], total, [(case, case[value], 1.0) for case in cases], value)

    def _boxed(self, node: ir.Node, given: _Given, moving: list[ir.Value]) -> None:
        """The first layer: inputs lie between the least and the largest of the sample (z^B)."""
        (value,), made = moving, node.outputs[0]
        x, weight, plain = self.known[value.name or ""], self._weight(node), self._without_bias(node)
        at = self._weighted(node)
        cases = [
            ({**plain, value: x, at: weight}, x, 1.0),
            ({**plain, value: torch.full_like(x, float(x.min())), at: weight.clamp_min(0)}, x.min(), -1.0),
            ({**plain, value: torch.full_like(x, float(x.max())), at: weight.clamp_max(0)}, x.max(), -1.0),
        ]
        with torch.no_grad():
            total = sum(sign * self._run(node, case)[0] for case, _, sign in cases)
        self._share(node, given[made], total, cases, value)

    def _share(
        self,
        node: ir.Node,
        relevance: Tensor,
        total: Tensor,
        cases: Sequence[tuple[Mapping[ir.Value, Tensor], Tensor, float]],
        value: ir.Value,
    ) -> None:
        """By the parts that a sum has; where it has none, relevance is absorbed."""
        alive = total.abs() > TINY
        shares = torch.where(alive, relevance / torch.where(alive, total, torch.ones_like(total)), 0)
        self.told.absorbed += float(torch.where(alive, torch.zeros_like(relevance), relevance).sum())
        for case, level, sign in cases:
            slope = self._slopes(node, [value], {node.outputs[0]: shares}, case)[value]
            self.give(value, sign * level * slope)

    def _product(self, node: ir.Node, given: _Given, moving: list[ir.Value]) -> None:
        """Of two computed factors a gate gets nothing; else each gets half."""
        gates = [value for value in moving if _is_gate(value)]
        parts = [value for value in moving if value not in gates] or moving
        made = node.outputs[0]
        z = self.known[made.name or ""]
        stable = _stable(z)
        shares = given[made] / stable
        for value, slope in self._slopes(node, parts, {made: shares}, self._inputs(node)).items():
            self.give(value, self.known[value.name or ""] * slope / len(parts))
        self.told.absorbed += float((shares * (stable - z)).sum())

    def _quotient(self, node: ir.Node, given: _Given, moving: list[ir.Value]) -> None:
        """What is divided gets all."""
        self._proportional(node, given, [moving[0]])

    def _any(self, node: ir.Node, given: _Given, moving: list[ir.Value]) -> None:
        """X times gradient, as for a linear function; what that does not explain is lost."""
        shares = {value: r / _stable(self.known[value.name or ""]) for value, r in given.items()}
        total = sum(float(r.sum()) for r in given.values())
        for value, slope in self._slopes(node, moving, shares, self._inputs(node)).items():
            part = self.known[value.name or ""] * slope / len(moving)
            self.give(value, part)
            total -= float(part.sum())
        self.told.lost += total

    # -- one node

    def _inputs(self, node: ir.Node) -> dict[ir.Value, Tensor]:
        """What a node reads of floats, and all else that is computed."""
        found = {}
        for value in node.inputs:
            tensor = None if value is None else self.known.get(value.name or "")
            if (
                value is not None
                and tensor is not None
                and (value.producer() is not None or self._moves(value))
            ):
                found[value] = tensor
        return found

    def _run(self, node: ir.Node, inputs: Mapping[ir.Value, Tensor]) -> list[Tensor]:
        names = [value.name or "" for value in node.outputs if value.name]
        found = self.net.run({value.name or "": tensor for value, tensor in inputs.items()}, names)
        return [found[name] for name in names]

    def _slopes(
        self, node: ir.Node, of: Sequence[ir.Value], given: _Given, inputs: Mapping[ir.Value, Tensor]
    ) -> dict[ir.Value, Tensor]:
        """Vector-Jacobian products of a node."""
        leaves = {value: inputs.get(value, self.known[value.name or ""]).detach() for value in of}
        for leaf in leaves.values():
            leaf.requires_grad_()
        with torch.enable_grad():
            made = dict(
                zip((v for v in node.outputs if v.name), self._run(node, {**inputs, **leaves}), strict=True)
            )
            pairs = [(made[v], r) for v, r in given.items() if made[v].requires_grad]
        if not pairs:
            return {}
        slopes = torch.autograd.grad(
            [one for one, _ in pairs], list(leaves.values()), [two for _, two in pairs], allow_unused=True
        )
        return {value: slope for value, slope in zip(leaves, slopes, strict=True) if slope is not None}

    def _weighted(self, node: ir.Node) -> ir.Value:
        value = node.inputs[1]
        assert value is not None
        return value

    def _weight(self, node: ir.Node) -> Tensor:
        return self.known[self._weighted(node).name or ""].detach()

    def _without_bias(self, node: ir.Node) -> dict[ir.Value, Tensor]:
        return {
            value: torch.zeros_like(self.known[value.name or ""])
            for value in node.inputs[2:]
            if value is not None
        }


_Given = Mapping[ir.Value, Tensor]
_Rule = Callable[[ir.Node, _Given, list[ir.Value]], None]


def _stable(z: Tensor) -> Tensor:
    """Away from zero."""
    return torch.where(z < 0, z - EPSILON, z + EPSILON)


def _is_gate(value: ir.Value) -> bool:
    """Whether a value comes from a Sigmoid or Softmax, moved at most."""
    node = value.producer()
    while node is not None and has(node, *MOVES) and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and has(node, *GATES)
