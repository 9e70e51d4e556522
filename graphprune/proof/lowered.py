"""Second proof: a lowered graph against the one that it was made of, wherever they differ.

Values that have the same name in both graphs are said to be the same. Between them lie regions whose nodes
differ; each is cut out of both graphs, fed with the same numbers, and has to give the same: random ones, the
kinks of activations, infinities, NaN, numbers near the ends of the type. From the first region to the last,
that makes every such value the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.arrays import Array, Arrays
from graphprune.ir.domains import is_default
from graphprune.ir.names import quote
from graphprune.ir.nodes import is_constant
from graphprune.ir.opsets import changed
from graphprune.ir.shapes import infer
from graphprune.ops import record_of
from graphprune.proof.rounding import MOST, Bounds, nudged, own_rounding
from graphprune.proof.scales import full_scale, squashers
from graphprune.run import USUAL, Run
from graphprune.runtime.brief import rewriting_pays
from graphprune.runtime.compare import agreement
from graphprune.runtime.session import Feeds, Outputs, RunTimeoutError, open_session

KINKS = (0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, -6.0, 2.5, -2.5, 0.5, 1e-3)
LARGE = 0.78
"""Power of a type's largest number that is fed: 1e30 for float32, so that six times that is finite."""
CHUNK = 2**27
"""Bytes of inputs that are fed at a time."""
STEPS = 16
"""Steps of a format by which two orders of rounding may lie apart, where that is more than the tolerance."""
SPARSE = 101
"""One of so many elements is a number that is none, as it spreads over all that a product makes."""
MANY = 1e3
"""Times the largest ordinary number from which on a number comes of the large ones that were fed."""
Shapes = Mapping[str, tuple[int, ...]]
Moved = frozenset[str]
"""Operators of which two opsets have different versions."""


@dataclass(frozen=True)
class Lowered:
    """The result of the comparison.

    Attributes:
        wrong: values that are not the same.
        error: the largest difference of finite numbers, relative to the largest one of that value.
        regions: how many were run.
        skipped: values whose regions cannot be run alone.
    """

    wrong: tuple[str, ...]
    error: float
    regions: int
    skipped: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.wrong


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """What the bodies of a node read of the graphs around them."""
    bodies = [each.as_graph() for each in node.attributes.values() if each.type == ir.AttributeType.GRAPH]
    for body in bodies:
        made = (out for inner in body for out in inner.outputs)
        own = {*body.inputs, *body.initializers.values(), *made}
        read = [value for inner in body for value in (*inner.inputs, *_captured(inner))]
        yield from (value for value in (*read, *body.outputs) if value is not None and value not in own)


@dataclass(frozen=True)
class _Cut:
    """A model, and the values of it that another one has, too."""

    model: ir.Model
    common: frozenset[str]

    def region(self, root: ir.Value) -> tuple[set[ir.Node], dict[str, ir.Value]]:
        """The nodes between a value and the common ones before it, and those."""
        nodes: set[ir.Node] = set()
        inputs: dict[str, ir.Value] = {}
        waiting = [root.producer()]
        while waiting:
            node = waiting.pop()
            if node is None or node in nodes:
                continue
            nodes.add(node)
            for value in (*node.inputs, *_captured(node)):
                if value is None or is_constant(value):
                    continue
                if value.name in self.common:
                    inputs[value.name or ""] = value
                else:
                    waiting.append(value.producer())
        return nodes, inputs


def prove_lowered(
    before: ir.Model, after: ir.Model, shapes: Shapes, tolerance: float = 1e-4, run: Run = USUAL
) -> Lowered:
    """Run the regions in which two graphs differ.

    Args:
        before: the unlowered graph.
        after: the lowered one.
        shapes: of its inputs.
        tolerance: largest difference, relative to the largest number of a value.
        run: seed and time limit.
    """
    values = {value.name or "": value for value in _values(before)}
    others = {value.name or "": value for value in _values(after)}
    cuts = [_Cut(model, frozenset(values.keys() & others.keys())) for model in (before, after)]
    moved = _moved(before, after)
    roots = [name for name in values if name in others and not _same(values[name], others[name], moved)]
    sizes = infer(before, record_of, shapes).shapes
    known = {
        name: (-1,) if (shape := sizes.get(value)) is None else tuple(a for a, _ in shape)
        for name, value in values.items()
    }
    wrong: list[str] = []
    skipped: list[str] = []
    worst = 0.0
    waiting = list(_parts(roots, cuts, (values, others), known, skipped))
    while waiting:
        part, inputs = waiting.pop(0)
        one = _both(cuts[0], values, part, inputs, known, run)
        two = _both(cuts[1], others, part, inputs, known, run)
        if (one is None or two is None) and len(part) > 1:
            halves = (part[: len(part) // 2], part[len(part) // 2 :])
            waiting[:0] = [
                each for half in halves for each in _parts(half, cuts, (values, others), known, [])
            ]
            continue
        if one is None or two is None:
            skipped += part
            continue
        for name in part:
            error = _error([each[name] for each in one], [each[name] for each in two])
            worst = max(worst, error) if np.isfinite(error) else worst
            if not error <= _bound(values[name], tolerance):
                wrong.append(name)
    return Lowered(tuple(wrong), worst, len(roots) - len(skipped), tuple(skipped))


@dataclass(frozen=True)
class Whole:
    """Two whole graphs on the same inputs: the worst error of any output, its bound, and lines on it."""

    ok: bool
    error: float
    bound: float
    details: tuple[str, ...] = ()


def prove_whole(
    before: ir.Model, after: ir.Model, inputs: Sequence[Feeds], tolerance: float, run: Run = USUAL
) -> Whole:
    """Run two whole graphs as ONNX Runtime fuses them.

    Where they differ, bounds make room for the model's own rounding, as in the proof of a cut. Outputs with a
    full scale of 1 are compared on that, and what enters the operators that give it as well.
    """
    squashed = {out.name or "": squashers(out) for out in before.graph.outputs}
    entered = {node.inputs[0].name or "" for nodes in squashed.values() for node in nodes if node.inputs[0]}
    taps = sorted(entered & {value.name for value in _values(after)})
    small = [name for name, nodes in squashed.items() if nodes]
    optimise = rewriting_pays(before)
    runs = [_outputs(model, inputs, taps, run, optimise) for model in (before, after)]
    bounds = Bounds(tolerance)
    found = _worst(runs[0], runs[1], small, bounds)
    if found.ok:
        return found
    others = [(before, not optimise), (nudged(before), optimise)]
    own = own_rounding(runs[0], *(_outputs(m, inputs, taps, run, o) for m, o in others), squashed=small)
    if max(own.values(), default=0.0) > MOST:
        return Whole(
            True, 0.0, tolerance, ("the model differs from itself: only what was rewritten is compared",)
        )
    return _worst(runs[0], runs[1], small, Bounds(tolerance, own))


def _outputs(
    model: ir.Model, inputs: Sequence[Feeds], taps: Sequence[str], run: Run, optimise: bool
) -> list[Outputs]:
    session = open_session(model, optimise=optimise, extra_outputs=taps, exact=True, rearrange=False)
    return [session.run(feed, run.timeout) for feed in inputs]


def _worst(one: Sequence[Outputs], two: Sequence[Outputs], squashed: Sequence[str], bounds: Bounds) -> Whole:
    """The output that is worst against its bound; a NaN in both is none."""
    error, wrong = 0.0, []
    for first, second in zip(one, two, strict=True):
        pairs = {
            name: _paired(first[name], second[name], name in squashed) for name in first if name in second
        }
        ours, theirs = ({name: pair[side] for name, pair in pairs.items()} for side in (0, 1))
        for found in agreement(ours, theirs, bounds.base).outputs:
            error = max(error, found.relative)
            if not found.ok and not found.relative <= bounds.of(found.name):
                wrong.append(f"{quote(found.name)}: {found.note}")
    return Whole(not wrong, error, bounds.widest, tuple(dict.fromkeys(wrong)) or tuple(bounds.notes))


def _paired(one: Array, two: Array, squashed: bool) -> tuple[Array, Array]:
    """What is compared of two outputs."""
    if one.dtype.kind == "f" and one.shape == two.shape:
        neither = np.isnan(one) & np.isnan(two)
        one, two = (np.where(neither, 0, each).astype(each.dtype) for each in (one, two))
    return (full_scale(one), full_scale(two)) if squashed else (one, two)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """All that has data: inputs, and results in the order of the nodes."""
    yield from model.graph.inputs
    for node in model.graph:
        yield from (out for out in node.outputs if out.name)


def _moved(before: ir.Model, after: ir.Model) -> frozenset[str]:
    """Operators that are others in the opset of the second model."""
    opsets = [model.opset_imports.get("", 0) for model in (before, after)]
    return frozenset() if opsets[0] == opsets[1] else changed(before, *opsets)


def _same(one: ir.Value, two: ir.Value, moved: Moved) -> bool:
    """Whether two nodes do the same to the same values."""
    a, b = one.producer(), two.producer()
    if a is None or b is None:
        return a is b
    return _same_node(a, b, moved)


def _same_node(a: ir.Node, b: ir.Node, moved: Moved) -> bool:
    if (a.domain, a.op_type, len(a.inputs)) != (b.domain, b.op_type, len(b.inputs)):
        return False
    if a.attributes.keys() != b.attributes.keys() or (a.op_type in moved and is_default(a.domain)):
        return False
    return all(
        _same_attribute(attr, b.attributes[name], moved) for name, attr in a.attributes.items()
    ) and all(_alike(x, y) for x, y in zip(a.inputs, b.inputs, strict=True))


def _same_attribute(one: ir.Attr, two: ir.Attr, moved: Moved) -> bool:
    """Whether two attributes hold the same; tensors are not compared, as no rule writes any."""
    if one.type != two.type:
        return False
    if one.type == ir.AttributeType.GRAPH:
        return _same_body(one.as_graph(), two.as_graph(), moved)
    skipped = (ir.AttributeType.GRAPHS, ir.AttributeType.TENSOR)
    return one.type in skipped or bool(one.value == two.value)


def _same_body(one: ir.Graph, two: ir.Graph, moved: Moved) -> bool:
    """Whether two bodies have the same nodes in one order; where their constants stand does not matter."""
    ends = [(*graph.inputs, *graph.outputs) for graph in (one, two)]
    if len(one) != len(two) or [len(one.inputs), len(one.outputs)] != [len(two.inputs), len(two.outputs)]:
        return False
    made = [[out.name for node in graph for out in node.outputs] for graph in (one, two)]
    return (
        made[0] == made[1]
        and all(_alike(a, b) for a, b in zip(*ends, strict=True))
        and all(_same_node(a, b, moved) for a, b in zip(one, two, strict=True))
    )


def _alike(one: ir.Value | None, two: ir.Value | None) -> bool:
    if one is None or two is None:
        return one is two
    if is_constant(one) or is_constant(two):
        return one.const_value is two.const_value
    return one.name == two.name


Part = tuple[list[str], dict[str, ir.Value]]


def _parts(
    roots: Sequence[str],
    cuts: Sequence[_Cut],
    sides: Sequence[Mapping[str, ir.Value]],
    known: Shapes,
    skipped: list[str],
) -> Iterator[Part]:
    """Regions that are run together: values, and the inputs of all their regions."""
    part: list[str] = []
    inputs: dict[str, ir.Value] = {}
    for root in roots:
        needed: dict[str, ir.Value] = {}
        for cut, side in zip(cuts, sides, strict=True):
            needed |= cut.region(side[root])[1]
        if not all(_fed(name, value, known) for name, value in needed.items()):
            skipped.append(root)
            continue
        if part and sum(_bytes(known[name]) for name in inputs | needed) > CHUNK:
            yield part, inputs
            part, inputs = [], {}
        part.append(root)
        inputs = inputs | needed
    if part:
        yield part, inputs


def _fed(name: str, value: ir.Value, known: Shapes) -> bool:
    """Whether numbers can be made for a value."""
    return (
        value.dtype is not None
        and value.dtype != ir.DataType.STRING
        and min(known.get(name, (-1,)), default=0) >= 0
    )


def _bytes(shape: tuple[int, ...]) -> int:
    return 8 * prod(shape)


def _both(
    cut: _Cut,
    values: Mapping[str, ir.Value],
    roots: Sequence[str],
    inputs: Mapping[str, ir.Value],
    known: Shapes,
    run: Run,
) -> list[Arrays] | None:
    """What regions give for ordinary numbers and for others; None where they do not run alone."""
    model = _regions(cut, values, roots, inputs)
    try:
        session = open_session(model, optimise=False, exact=True)
        chosen = any(_chooses(known[name], value) for name, value in inputs.items())
        branches = (False, True) if chosen else (False,)
        feeds = [
            _feeds(inputs, known, run.seed, special, branch)
            for branch in branches
            for special in (False, True)
        ]
        return [
            session.run({k: v for k, v in feed.items() if k in session.inputs}, run.timeout) for feed in feeds
        ]
    except RunTimeoutError:
        raise
    except ModelError:
        return None


def _regions(
    cut: _Cut, values: Mapping[str, ir.Value], roots: Sequence[str], inputs: Mapping[str, ir.Value]
) -> ir.Model:
    """A model of nothing but the regions of some values."""
    nodes: set[ir.Node] = set()
    for root in roots:
        nodes |= cut.region(values[root])[0]
    copies = {name: ir.Value(name=f"cut:{name}", type=value.type) for name, value in inputs.items()}
    inner: dict[ir.Value, ir.Value] = {}
    weights: dict[ir.Value, ir.Value] = {}
    made = []
    for node in cut.model.graph:
        if node in nodes:
            read = [_read(value, copies, inner, weights) for value in node.inputs]
            copy = ir.Node(
                node.domain, node.op_type, read, list(node.attributes.values()), num_outputs=len(node.outputs)
            )
            for old, new in zip(node.outputs, copy.outputs, strict=True):
                new.name, new.type = old.name, old.type
                inner[old] = new
            made.append(copy)
    outputs = [inner[values[root]] for root in roots]
    # Bodies read by name.
    taken = {value.name for value in inner}
    for value in dict.fromkeys(value for node in nodes for value in _captured(node)):
        source = _read(value, copies, inner, weights)
        if value.name not in taken and not is_constant(value):
            alias = ir.Node("", "Identity", [source], num_outputs=1)
            alias.outputs[0].name = value.name
            taken.add(value.name)
            made.insert(0, alias)
    opsets = dict(cut.model.opset_imports)
    graph = ir.Graph(
        list(copies.values()),
        outputs,
        nodes=made,
        initializers=list(weights.values()),
        opset_imports=opsets,
        name="regions",
    )
    return ir.Model(graph, ir_version=max(cut.model.ir_version, 4))


def _read(
    value: ir.Value | None,
    copies: Mapping[str, ir.Value],
    inner: Mapping[ir.Value, ir.Value],
    weights: dict[ir.Value, ir.Value],
) -> ir.Value | None:
    """What a copied node reads in place of a value."""
    if value is None:
        return None
    if not is_constant(value):
        return inner[value] if value.name not in copies else copies[value.name or ""]
    if value not in weights:
        weights[value] = ir.Value(
            name=value.name, shape=value.shape, type=value.type, const_value=value.const_value
        )
    return weights[value]


def _chooses(shape: tuple[int, ...], value: ir.Value) -> bool:
    """Whether a value may be what an If goes by."""
    return value.dtype == ir.DataType.BOOL and prod(shape) == 1


def _feeds(
    inputs: Mapping[str, ir.Value], known: Shapes, seed: int, special: bool, branch: bool
) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    for at, (name, value) in enumerate(inputs.items()):
        assert value.dtype is not None
        random = np.random.default_rng([seed, at])
        if _chooses(known[name], value):
            feeds[f"cut:{name}"] = np.full(known[name], branch)
        else:
            feeds[f"cut:{name}"] = _numbers(known[name], value.dtype, random, special)
    return feeds


def _numbers(shape: tuple[int, ...], dtype: ir.DataType, random: np.random.Generator, special: bool) -> Array:
    kind = dtype.numpy()
    if not dtype.is_floating_point():
        return np.asarray(random.integers(0, 2, shape)).astype(kind)
    content = 3 * random.standard_normal(shape)
    flat = content.reshape(-1)
    flat[::7] = np.resize(KINKS, flat[::7].shape)
    if special:
        large = float(dtype.max) ** LARGE
        others = (np.inf, large, np.nan, -np.inf, -large)
        flat[3::SPARSE] = np.resize(others, flat[3::SPARSE].shape)
    return content.astype(kind)


def _error(one: Sequence[Array], two: Sequence[Array]) -> float:
    """The largest difference relative to the largest ordinary number; infinite where others differ."""
    scale, worst = 0.0, 0.0
    for a, b in zip(one, two, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return np.inf
        x, y = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(x)
        if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return np.inf
        x, y = x[finite], y[finite]
        size = np.maximum(np.abs(x), np.where(np.isfinite(y), np.abs(y), 0))
        scale = scale or float(np.abs(x).max(initial=0.0)) or 1.0
        # What large numbers leave where they cancel is their rounding: the largest says what that may be.
        size = np.where(size > MANY * scale, size.max(initial=0.0), np.maximum(scale, np.abs(x)))
        with np.errstate(over="ignore", invalid="ignore"):
            gaps = np.abs(x - y) / size
        worst = max(worst, float(gaps.max(initial=0.0)))
    return worst


def _bound(value: ir.Value, tolerance: float) -> float:
    kind = value.dtype
    return (
        tolerance if kind is None or not kind.is_floating_point() else max(tolerance, STEPS * float(kind.eps))
    )
