"""What a piece costs: copies of its node with weights of their own, timed in a model of nothing else.

A busy machine is slower for minutes on end, for all alike. So a fixed product is timed beside every piece,
and a piece counts as what it takes while that product is as quick as it was at best at the start.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_ir as ir

from graphprune.run import CPU_ALONE
from graphprune.runtime.pieces import COUNTING, Given, Piece, Shape
from graphprune.runtime.session import open_session

Providers = tuple[str, ...]
COPIES, FEW = 8, 2
LARGE = 2**20
"""Elements of an input from which there are few copies."""
SAMPLES, SAMPLE_SECONDS, TRIES = 5, 0.002, 10
CHANNELS, STAIRS, PAIRS, PART, LARGE_PART = 64, (4, 8, 16), 4, 0.35, 0.25
REPEATS, ROUNDS = 3, 16
NAMES = {"float": "float32", "double": "float64"}
"""Types that the trace calls otherwise than numpy."""


def seconds_of(
    piece: Piece, widths: Sequence[int], threads: int = 1, providers: Providers = CPU_ALONE
) -> float:
    """Of one run of it at these widths: CPU time with one thread of the CPU provider, else wall time.

    Raises:
        ModelError: it does not run alone.
    """
    shapes = piece.at(widths)
    copies = COPIES if max(map(math.prod, shapes), default=0) < LARGE else FEW
    model, feeds = _model(piece, shapes, widths, copies)
    spent = _mood(threads, providers).quiet(_clock(model, feeds, threads, providers))
    return max(0.0, (spent - nothing(threads, providers, copies)) / copies)


@cache
def nothing(threads: int = 1, providers: Providers = CPU_ALONE, copies: int = 0) -> float:
    """Seconds of a run of a model that computes nothing, and reads as many shapes as there are copies."""
    made = _Builder()
    for copy in range(copies):
        made.read(made.inputs[0], copy)
    return _mood(threads, providers).quiet(_clock(*made.model({"": 17}), threads, providers))


Sample = Callable[[], float]
"""Times something once, in seconds."""


def _clock(
    model: ir.Model,
    feeds: dict[str, np.ndarray],
    threads: int,
    providers: Providers,
    optimise: bool = False,
) -> Sample:
    """What times a model, over as many runs as a sample takes."""
    session = open_session(model, threads=threads, providers=providers, optimise=optimise)
    session.run(feeds)
    own = threads == 1 and providers == CPU_ALONE
    clock = time.thread_time if own else time.perf_counter
    start = clock()
    session.call(feeds)
    times = max(1, min(500, round(SAMPLE_SECONDS / max(clock() - start, 1e-7))))

    def sample() -> float:
        start = clock()
        for _ in range(times):
            session.call(feeds)
        return (clock() - start) / times

    return sample


@dataclass(frozen=True)
class _Mood:
    """How quick the machine is just now, told by a fixed product."""

    sample: Sample
    best: float

    def quiet(self, sample: Sample) -> float:
        """Seconds of what is sampled, were the machine as quick as at the start: the median of a few."""
        found = []
        for _ in range(SAMPLES):
            before, spent, after = self.sample(), sample(), self.sample()
            found.append(spent / (before + after) * 2)
        return float(np.median(found)) * self.best


@cache
def _mood(threads: int, providers: Providers) -> _Mood:
    sample = _clock(*fixed_product(), threads, providers)
    return _Mood(sample, min(sample() for _ in range(TRIES * SAMPLES)))


def reference(threads: int = 1, providers: Providers = CPU_ALONE) -> float:
    """Seconds of the fixed product that all costs of this process are measured by."""
    return _mood(threads, providers).best


def stairs(threads: int = 1, providers: Providers = CPU_ALONE) -> int:
    """By how many of 64 channels a convolution has to be narrower to be cheaper.

    The first power of two, from four on, of which one step brings its part of what two bring: on a staircase
    it brings nothing.
    """
    seconds = _least(
        {top - part * step for step in STAIRS for top in _tops(step) for part in range(3)}, threads, providers
    )
    for step in STAIRS:
        first = sum(seconds[top] - seconds[top - step] for top in _tops(step))
        both = sum(seconds[top] - seconds[top - 2 * step] for top in _tops(step))
        if first > PART * both and both > LARGE_PART * seconds[CHANNELS]:
            return step
    return CHANNELS // 2


def _tops(step: int) -> range:
    """Widths from which one and two steps down are looked at."""
    return range(CHANNELS, CHANNELS // 4 + 2 * step - 1, -2 * step)[:PAIRS]


def _least(widths: Collection[int], threads: int, providers: Providers) -> dict[int, float]:
    """Seconds of two convolutions with so many channels between them, the least of many runs in turns.

    Steps are a few hundredths of a run, less than any correction for a busy machine is good for; but that
    only ever adds to a run, as does memory that a session has got in a bad place.
    """
    found: dict[int, list[float]] = {width: [] for width in sorted(widths)}
    for _ in range(REPEATS):
        samples = {width: _between(threads, providers, width) for width in found}
        for _ in range(ROUNDS):
            for width, sample in samples.items():
                found[width].append(sample())
    return {width: min(each) for width, each in found.items()}


def _between(threads: int, providers: Providers, channels: int) -> Sample:
    """Times a model of two convolutions with so many channels between them."""
    made, rng = _Builder(), np.random.default_rng(0)
    value = made.value("x", rng.standard_normal((1, CHANNELS, 14, 14)).astype(np.float32), False)
    for number, (before, after) in enumerate([(CHANNELS, channels), (channels, CHANNELS)]):
        array = rng.standard_normal((after, before, 3, 3)).astype(np.float32)
        weight = made.value(f"w {number}", array, True)
        made.nodes.append(
            ir.node("Conv", [value, weight], {"pads": [1, 1, 1, 1]}, outputs=[ir.Value(name=f"y {number}")])
        )
        value = made.nodes[-1].outputs[0]
    made.results.append(value)
    return _clock(*made.model({"": 17}), threads, providers, optimise=True)


def fixed_product() -> tuple[ir.Model, dict[str, np.ndarray]]:
    """What is timed beside all else, and its inputs."""
    made = _Builder()
    rng = np.random.default_rng(0)
    x = made.value("x", rng.standard_normal((64, 256)).astype(np.float32), False)
    for number in range(COPIES):
        weight = made.value(f"w {number}", rng.standard_normal((256, 256)).astype(np.float32), True)
        made.nodes.append(ir.node("MatMul", [x, weight], outputs=[ir.Value(name=f"y {number}")]))
    return made.model({"": 17})


class _Builder:
    """A model in the making: it hands one number on, and whatever else it computes goes nowhere."""

    def __init__(self) -> None:
        tick = ir.val("tick", dtype=ir.DataType.FLOAT, shape=[1])
        self.inputs, self.weights = [tick], list[ir.Value]()
        self.nodes = [ir.node("Identity", [tick])]
        self.results = [*self.nodes[0].outputs]
        self.feeds = {"tick": np.zeros(1, np.float32)}

    def value(self, name: str, array: np.ndarray, constant: bool) -> ir.Value:
        """A weight, or an input."""
        made = ir.val(name, dtype=ir.DataType.from_numpy(array.dtype), shape=array.shape)
        if constant:
            made.const_value = ir.tensor(array, name=name)
            self.weights.append(made)
        else:
            self.inputs.append(made)
            self.feeds[name] = array
        return made

    def read(self, value: ir.Value, number: int) -> None:
        """Somebody has to: memory of what nobody reads is not used again, and every run asks for it anew."""
        self.nodes.append(ir.node("Shape", [value], outputs=[ir.Value(name=f"read {number}")]))

    def model(self, opsets: dict[str, int]) -> tuple[ir.Model, dict[str, np.ndarray]]:
        """The whole."""
        graph = ir.Graph(
            self.inputs,
            self.results,
            nodes=self.nodes,
            initializers=self.weights,
            opset_imports=opsets,
            name="alone",
        )
        return ir.Model(graph, ir_version=10), self.feeds


def _model(
    piece: Piece, shapes: Sequence[Shape], widths: Sequence[int], copies: int
) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """Copies of a node that read the same data."""
    rng, made = np.random.default_rng(0), _Builder()
    arrays = [_content(given, shape, rng) for given, shape in zip(piece.inputs, shapes, strict=True)]
    shared = {
        at: made.value(f"in {at}", array, False)
        for at, (array, given) in enumerate(zip(arrays, piece.inputs, strict=True))
        if not given.constant
    }
    for copy in range(copies):
        own = [
            shared[at] if at in shared else made.value(f"weight {at} {copy}", array.copy(), True)
            for at, array in enumerate(arrays)
        ]
        made.nodes.append(node := _copy(piece, own, widths, copy))
        made.read(next(value for value in node.outputs if value.name), copy)
    assert piece.node.graph is not None
    return made.model({"": 17, **piece.node.graph.opset_imports})


def _copy(piece: Piece, own: Sequence[ir.Value], widths: Sequence[int], number: int) -> ir.Node:
    node, present = piece.node, iter(own)
    attributes = [
        ir.AttrInt64(each.name, widths[-1]) if _is_width(piece, each) else each
        for each in node.attributes.values()
    ]
    names = [f"out {number} {at}" if value.name else "" for at, value in enumerate(node.outputs)]
    return ir.Node(
        node.domain,
        node.op_type,
        [None if value is None else next(present) for value in node.inputs],
        attributes,
        name=f"copy {number}",
        outputs=[ir.Value(name=name) for name in names],
    )


def _is_width(piece: Piece, attribute: ir.Attr) -> bool:
    """Whether an attribute says how wide the node is; of groups only where each has one channel."""
    if (
        not piece.roles
        or attribute.name not in COUNTING
        or (attribute.name == "group" and len(piece.roles) > 1)
    ):
        return False
    return attribute.as_int() == piece.widths[-1]


def _content(given: Given, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    if given.content is not None and given.content.shape == tuple(shape):
        return given.content
    dtype = np.dtype(NAMES.get(given.type, given.type))
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    return np.ones(shape, dtype)
