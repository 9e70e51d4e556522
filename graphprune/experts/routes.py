"""What experts do: how often they are chosen, with what weight, and how much they add to the stream.

What an expert adds is measured, not read off the graph: the part of the graph between the experts' weights
and their joint result runs once per expert with all other experts' weights set to zero, so that every layout
(loops, grouped rows, stacked weights, fused operators) is measured alike, routing and scaling included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.sublayers import find_sublayers
from graphprune.errors import DataError
from graphprune.experts.mixtures import Mixture
from graphprune.ir.arrays import Array, Bools, Doubles
from graphprune.ir.build import drop_unread, initializer, new_node
from graphprune.ir.clone import copy_model
from graphprune.labels.stored import is_stored
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.run import USUAL, Run
from graphprune.runtime.session import Feeds, Outputs, Session, open_session
from graphprune.statistics.places import Places

GATE = "graphprune/experts"
SAMPLE = 4096
"""Rows of router scores that are kept."""
TOLERANCE = 1e-3
WEIGHING = (Trait.PROBABILITIES, Trait.SIGMOID, Trait.AFFINE, Trait.CLIP, Trait.CAST, Trait.LAYOUT)
"""What turns the chosen scores into weights."""


@dataclass(frozen=True, eq=False)
class Routes:
    """Sums over tokens for one layer of E experts.

    Attributes:
        tokens: how many there were.
        count: [E] tokens that were routed to each expert.
        gate: [E] routing weights of those tokens; NaN where the graph does not show them.
        added: [E] norms of what the expert added.
        turned: [E] those norms times 1 - cos of the stream before and after the layer (EASY-EP); NaN where
            there is no stream.
        together: [E, E] tokens routed to both of two experts.
        scores: [tokens, E] the router's scores of the first tokens.
    """

    tokens: float
    count: Doubles
    gate: Doubles
    added: Doubles
    turned: Doubles
    together: Doubles
    scores: Doubles

    def __add__(self, other: Routes) -> Routes:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)[:-1]}
        return Routes(**sums, scores=np.concatenate([self.scores, other.scores])[:SAMPLE])

    @property
    def mean_added(self) -> Doubles:
        """REAP: mean over an expert's tokens of what it added; 0 for experts that got none."""
        return self.added / np.maximum(self.count, 1)


def summed(routed: Bools, gates: Doubles, added: Doubles, turn: Doubles, scores: Doubles) -> Routes:
    """The sums over some tokens.

    Args:
        routed: [T, E] who was chosen.
        gates: [T, E] with what weight.
        added: [T, E] norm of weight times expert output.
        turn: [T] 1 - cos of the stream before and after.
        scores: [T, E] of the router.
    """
    chosen = routed.astype(np.float64)
    return Routes(
        tokens=float(len(routed)),
        count=chosen.sum(0),
        gate=np.where(routed, gates, 0.0).sum(0) if len(routed) else np.zeros(routed.shape[1]),
        added=(added * chosen).sum(0),
        turned=(added * chosen * np.maximum(turn, 0.0)[:, None]).sum(0),
        together=chosen.T @ chosen,
        scores=scores[:SAMPLE],
    )


def collect_routes(
    analysis: Analysis,
    mixtures: Sequence[Mixture],
    batches: Sequence[Feeds],
    *,
    outputs: bool = True,
    run: Run = USUAL,
) -> tuple[Routes, ...]:
    """Measures every layer of experts.

    Args:
        analysis: of the model.
        mixtures: its layers of experts.
        batches: calibration data.
        outputs: whether to measure what experts add (a run of the layer per expert), or only the routing.
        run: how it is run.

    Raises:
        DataError: what the experts of a layer add cannot be told apart.
    """
    layers = [_Layer(analysis, mixture, outputs, run.timeout) for mixture in mixtures]
    places = Places(analysis.model, analysis.sizes, (), batches)
    inputs = {value.name for value in analysis.model.graph.inputs}
    taps = sorted({name for layer in layers for name in layer.taps} - inputs)
    session = open_session(analysis.model, extra_outputs=taps, exact=True)
    totals: list[Routes | None] = [None] * len(layers)
    for number, feeds in enumerate(batches):
        values = {**feeds, **session.run(feeds, run.timeout)}
        mask = places.mask(feeds)
        for at, layer in enumerate(layers):
            run.progress(number * len(layers) + at, len(batches) * len(layers), "experts")
            found, so_far = layer.measure(values, mask), totals[at]
            totals[at] = found if so_far is None else so_far + found
    return tuple(total for total in totals if total is not None)


class _Layer:
    """One layer of experts under measurement."""

    def __init__(self, analysis: Analysis, mixture: Mixture, outputs: bool, timeout: float | None) -> None:
        self._mixture, self._timeout = mixture, timeout
        self._gates = _gate_values(analysis, mixture)
        self._stream = _stream(analysis, mixture)
        self._region: _Region | None = _Region(analysis, mixture) if outputs else None

    @property
    def taps(self) -> Iterator[str]:
        """Names of the values that a run of the whole model must return."""
        selector = self._mixture.selector
        chosen = None if selector is None else selector.outputs[-1]
        for value in (self._mixture.scores, chosen, self._gates, self._stream):
            if value is not None:
                yield value.name or ""
        yield from self._region.inputs if self._region is not None else ()

    def measure(self, values: Mapping[str, Array], mask: Bools | None) -> Routes:
        """The sums of one batch."""
        scores = self._by_expert(values[self._mixture.scores.name or ""])
        routed, index = self._routed(values, scores)
        gates = self._weights(values, routed, index, scores)
        added, turn = np.full(scores.shape, np.nan), np.full(len(scores), np.nan)
        if self._region is not None:
            added, whole = self._region.measure(values, self._timeout, self._mixture.group.id)
            turn = self._turn(values, whole)
        real = np.ones(len(scores), bool)
        if mask is not None and mask.size == len(scores):
            real = mask.ravel()
        return summed(routed[real], gates[real], added[real], turn[real], scores[real])

    def _by_expert(self, scores: Array) -> Doubles:
        axis = self._mixture.axis % scores.ndim
        rows = np.moveaxis(scores, axis, -1).reshape(-1, scores.shape[axis])
        return np.asarray(rows[:, self._mixture.slots], np.float64)

    def _routed(self, values: Mapping[str, Array], scores: Doubles) -> tuple[Bools, Array | None]:
        """[T, E] who is chosen, and [T, k] the chosen Units in the order of their weights."""
        mixture = self._mixture
        if mixture.selector is not None:
            picked = values[mixture.selector.outputs[-1].name or ""]
            units = np.argsort(mixture.slots)[picked.reshape(len(scores), -1)]
        elif has(mixture.chooser, Trait.MIXTURE):
            attributes = mixture.chooser.attributes
            count = attributes.get_int("k", 1)
            units = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        else:
            return np.ones(scores.shape, bool), None
        routed = np.zeros(scores.shape, bool)
        np.put_along_axis(routed, units, True, axis=1)
        return routed, units

    def _weights(
        self, values: Mapping[str, Array], routed: Bools, index: Array | None, scores: Doubles
    ) -> Doubles:
        """[T, E] routing weights, NaN where the graph does not show them."""
        if has(self._mixture.chooser, Trait.MIXTURE):
            return _fused_weights(self._mixture.chooser, scores, routed)
        if self._gates is None:
            return np.full(scores.shape, np.nan)
        found = values[self._gates.name or ""]
        if index is None:
            return self._by_expert(found)
        gates = np.zeros(scores.shape)
        np.put_along_axis(
            gates, index.astype(np.int64), found.reshape(index.shape).astype(np.float64), axis=1
        )
        return gates

    def _turn(self, values: Mapping[str, Array], whole: Doubles) -> Doubles:
        """[T] 1 - cos between the stream and the stream plus what the experts add."""
        if self._stream is None:
            return np.full(len(whole), np.nan)
        stream = values[self._stream.name or ""]
        if stream.size != whole.size:
            return np.full(len(whole), np.nan)
        before = stream.reshape(whole.shape).astype(np.float64)
        after = before + whole
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        return np.asarray(1 - (before * after).sum(1) / np.maximum(lengths, 1e-30))


def _fused_weights(node: ir.Node, scores: Doubles, routed: Bools) -> Doubles:
    """Softmax over the chosen experts, or over all of them."""
    attributes = node.attributes
    over = attributes.get_int("normalize_routing_weights", 0) == 1
    shown = np.where(routed, scores, -np.inf) if over else scores
    weights = np.exp(shown - shown.max(axis=1, keepdims=True))
    return np.asarray(np.where(routed, weights / weights.sum(axis=1, keepdims=True), 0.0))


def _stream(analysis: Analysis, mixture: Mixture) -> ir.Value | None:
    """The residual stream that the layer adds to."""
    around = [item for item in find_sublayers(analysis).found if mixture.chooser in item.nodes]
    return min(around, key=lambda item: len(item.nodes)).stream if around else None


def _gate_values(analysis: Analysis, mixture: Mixture) -> ir.Value | None:
    """The weights of the chosen experts as the layer uses them, in the shape of the choice."""
    if mixture.selector is None:
        return mixture.chooser.outputs[0] if has(mixture.chooser, Trait.PROBABILITIES) else None
    shapes, index = analysis.sizes.shapes, mixture.selector.outputs[-1]
    found = mixture.selector.outputs[0] if len(mixture.selector.outputs) > 1 else None
    for user, position in index.uses():
        apiece = shapes.get(user.outputs[0]) == shapes.get(index) and not is_stored(user.inputs[0])
        if position == 1 and apiece and has(user, Trait.GATHER):
            found = user.outputs[0]  # weights that are not what the choice was made by
    while found is not None:
        users = [user for user, _ in found.uses() if has(user, *WEIGHING)]
        same = [u for u in users if shapes.get(u.outputs[0]) == shapes.get(index)]
        if not same:
            return found
        found = same[-1].outputs[0]
    return None


class _Region:
    """The experts of a layer as a model of their own, with a gate per expert on its weights."""

    def __init__(self, analysis: Analysis, mixture: Mixture) -> None:
        self._size = mixture.group.size
        model, self.inputs = _extracted(analysis, mixture)
        self._session: Session = open_session(model, exact=True)

    def measure(
        self, values: Mapping[str, Array], timeout: float | None, name: str
    ) -> tuple[Doubles, Doubles]:
        """[T, E] norms of what each expert adds to a token, and [T, C] what all of them add.

        Raises:
            DataError: the parts do not make the whole.
        """
        feeds = {each: values[each] for each in self.inputs}

        def run(gate: Array) -> Doubles:
            outputs: Outputs = self._session.run({**feeds, GATE: gate.astype(np.float32)}, timeout)
            (result,) = outputs.values()
            return np.asarray(result.reshape(-1, result.shape[-1]), np.float64)

        nothing = run(np.zeros(self._size))
        whole = run(np.ones(self._size)) - nothing
        total, norms = np.zeros_like(whole), np.zeros((len(whole), self._size))
        for unit in range(self._size):
            part = run(np.arange(self._size) == unit) - nothing
            norms[:, unit] = np.linalg.norm(part, axis=1)
            total += part
        if np.abs(total - whole).max(initial=0.0) > TOLERANCE * max(np.abs(whole).max(initial=0.0), 1e-30):
            raise DataError(
                f"what the experts of '{name}' add cannot be told apart: their result is not a sum",
                "use criterion=frequency, which reads only the router",
            )
        return norms, whole


def _extracted(analysis: Analysis, mixture: Mixture) -> tuple[ir.Model, tuple[str, ...]]:
    """The nodes of the region as a model: what they read becomes inputs, the experts' weights are gated."""
    copy = copy_model(analysis.model)
    graph = copy.model.graph
    nodes = {copy.nodes[node] for node in mixture.region}
    result = copy.values[mixture.result]
    graph.outputs[:] = [result]
    fed: dict[ir.Value, ir.Value] = {}
    for node in nodes:
        for position, value in enumerate(node.inputs):
            if value is None or value.producer() in nodes or value.const_value is not None:
                continue
            if value not in fed:
                rank = len(analysis.sizes.shapes.get(_original(copy.values, value)) or value.shape or ())
                fed[value] = ir.Value(name=value.name, type=value.type, shape=ir.Shape([None] * rank))
            node.replace_input_with(position, fed[value])
    for node in reversed(list(graph)):
        if node not in nodes:
            graph.remove(node, safe=True)
    ordered = sorted(fed.values(), key=lambda value: value.name or "")
    graph.inputs[:] = ordered
    _gate(copy.values, mixture, graph)
    drop_unread(graph)
    return copy.model, tuple(value.name or "" for value in ordered)


def _original(values: Mapping[ir.Value, ir.Value], copy: ir.Value) -> ir.Value:
    return next(old for old, new in values.items() if new is copy)


def _gate(values: Mapping[ir.Value, ir.Value], mixture: Mixture, graph: ir.Graph) -> None:
    """Multiplies every weight of expert e by gate[e]."""
    gate = ir.Value(name=GATE, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([mixture.group.size]))
    graph.inputs.append(gate)
    first = next(iter(graph))
    for number, touched in enumerate(mixture.stacks):
        tensor = touched.use.value.const_value
        assert tensor is not None
        units, slots = touched.pairs
        index = np.zeros(touched.length, np.int64)
        index[slots] = units
        tail = len(tensor.shape) - touched.axis - 1
        _multiply(values[touched.use.value], gate, index, tail, f"{GATE}/stack{number}", graph, first)
    for unit, owned in enumerate(mixture.owned):
        for number, value in enumerate(owned):
            index = np.array([unit], np.int64)
            _multiply(values[value], gate, index, 0, f"{GATE}/{unit}/{number}", graph, first)


def _multiply(
    weight: ir.Value, gate: ir.Value, index: Array, tail: int, name: str, graph: ir.Graph, first: ir.Node
) -> None:
    users = [(user, position) for user, position in weight.uses() if user.graph is graph]
    shape = np.array([len(index), *[1] * tail], np.int64)
    picked = new_node("Gather", [gate, initializer(graph, f"{name}/index", index)], f"{name}/pick")
    extents = initializer(graph, f"{name}/shape", shape)
    nodes = [picked, new_node("Reshape", [picked.outputs[0], extents], f"{name}/reshape")]
    if weight.const_value is not None and weight.const_value.dtype != ir.DataType.FLOAT:
        kind = {"to": weight.const_value.dtype.value}
        nodes.append(new_node("Cast", [nodes[-1].outputs[0]], f"{name}/cast", kind))
    nodes.append(new_node("Mul", [weight, nodes[-1].outputs[0]], f"{name}/mul"))
    graph.insert_before(first, nodes)
    for user, position in users:
        user.replace_input_with(position, nodes[-1].outputs[0])
