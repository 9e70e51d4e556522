"""Runs of operators that torch computes at once: the same formula in fewer passes over memory.

For training, where nobody asks for what lies inside a run. Numbers alone are taken as constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx_ir as ir
import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ir.nodes import is_constant, operator_of
from graphprune.ops.torch import linear
from graphprune.ops.torch.call import Call, Tensor

Term: TypeAlias = "tuple[str | Term, ...] | str | float"
"""An operator and its operands; a name is any value, the same at each place; a name after # is a number."""
Bound = Mapping[str, ir.Value | float]
SAME = 1e-5
"""Relative difference up to which a number is the one of a formula."""
SYMMETRIC = frozenset({"Add", "Mul"})


@dataclass(frozen=True)
class Written:
    """A run of operators.

    Attributes:
        nodes: that it takes the place of, in order; the last makes the result.
        inputs: what it reads.
        run: computes the result, from the `Call` of the first node and the inputs.
    """

    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    run: Callable[..., Tensor]


@dataclass(frozen=True)
class _Found:
    """What a term matched."""

    bound: Bound = field(default_factory=dict)
    nodes: frozenset[ir.Node] = frozenset()

    def with_name(self, name: str, value: ir.Value | float) -> _Found:
        return _Found({**self.bound, name: value}, self.nodes)


HARD: Term = ("Clip", ("Add", "x", 3.0), 0.0, 6.0)
ERF: list[Term] = [("Erf", ("Div", "x", math.sqrt(2))), ("Erf", ("Mul", "x", math.sqrt(0.5)))]
CUBES: list[Term] = [
    ("Mul", ("Pow", "x", 3.0), 0.044715),
    ("Mul", "x", ("Mul", "x", ("Mul", "x", 0.044715))),
]
TANH: list[Term] = [("Tanh", ("Mul", ("Add", "x", cube), math.sqrt(2 / math.pi))) for cube in CUBES]
CENTRED: Term = ("Sub", "x", ("ReduceMean", "x"))
SQUARES: list[Term] = [("Pow", CENTRED, 2.0), ("Mul", CENTRED, CENTRED)]
NORMAL: list[Term] = [
    ("Div", CENTRED, ("Sqrt", ("Add", ("ReduceMean", square), "#epsilon"))) for square in SQUARES
]


def _halved(curve: Term) -> list[Term]:
    """Ways to write x (1 + curve) / 2."""
    one: Term = ("Add", curve, 1.0)
    return [
        ("Mul", ("Mul", "x", one), 0.5),
        ("Mul", "x", ("Mul", one, 0.5)),
        ("Mul", ("Mul", "x", 0.5), one),
        ("Div", ("Mul", "x", one), 2.0),
    ]


HARD_SWISH: list[Term] = [
    ("Div", ("Mul", "x", HARD), 6.0),
    ("Mul", "x", ("Div", HARD, 6.0)),
    ("Mul", ("Mul", "x", HARD), 1 / 6),
    ("Mul", "x", ("Mul", HARD, 1 / 6)),
]
FORMULAS: tuple[tuple[list[Term], Callable[..., Tensor]], ...] = (
    (HARD_SWISH, lambda call, x: F.hardswish(x)),
    ([each for curve in ERF for each in _halved(curve)], lambda call, x: F.gelu(x)),
    ([each for curve in TANH for each in _halved(curve)], lambda call, x: F.gelu(x, approximate="tanh")),
    ([("Mul", "x", ("Sigmoid", "x"))], lambda call, x: F.silu(x)),
    (NORMAL, lambda call, x, epsilon: F.layer_norm(x, x.shape[-1:], eps=epsilon)),
)
"""Ways to write a function down, and the function of x, with what numbers they name."""


def written(nodes: Sequence[ir.Node], kept: Collection[ir.Value]) -> list[Written]:
    """Runs among the nodes of a graph, none with a node of another.

    Args:
        nodes: in order.
        kept: values that are asked for by themselves.
    """
    taken: set[ir.Node] = set()
    found = []
    order = {node: at for at, node in enumerate(nodes)}
    for node in reversed(nodes):
        each = None if node in taken else _formula(node, kept) or _convolution(node, kept)
        if each is None or taken & set(each.nodes) or not set(each.nodes) <= order.keys():
            continue
        taken |= set(each.nodes)
        found.append(Written(tuple(sorted(each.nodes, key=order.__getitem__)), each.inputs, each.run))
    return found


def _formula(node: ir.Node, kept: Collection[ir.Value]) -> Written | None:
    """The run that ends here, if it is a known formula of one value."""
    for terms, run in FORMULAS:
        for term in terms:
            found = next(_matched(node.outputs[0], term, _Found()), None)
            if found is None or not _closed(found.nodes, node, kept):
                continue
            x = found.bound["x"]
            numbers = {name[1:]: value for name, value in found.bound.items() if name.startswith("#")}
            assert isinstance(x, ir.Value)
            return Written(tuple(found.nodes), (x,), _with(run, numbers))
    return None


def _with(run: Callable[..., Tensor], numbers: Mapping[str, object]) -> Callable[..., Tensor]:
    return lambda call, x: run(call, x, **numbers)


def _matched(value: ir.Value | None, term: Term, found: _Found) -> Iterator[_Found]:
    """Every way to read a value as a term."""
    if value is None:
        return
    if isinstance(term, str) and not term.startswith("#"):
        if found.bound.get(term, value) is value:
            yield found.with_name(term, value)
        return
    if not isinstance(term, tuple):
        held = _number(value)
        if held is not None and isinstance(term, str):
            yield found.with_name(term, held)
        elif held is not None and isinstance(term, float) and math.isclose(held, term, rel_tol=SAME):
            yield found
        return
    node = value.producer()
    if node is None or operator_of(node) != term[0] or not _is_plain(node):
        return
    yield from _operands(node, term[1:], _Found(found.bound, found.nodes | {node}))


def _operands(node: ir.Node, terms: Sequence[Term], found: _Found) -> Iterator[_Found]:
    orders = [list(node.inputs[: len(terms)])]
    if operator_of(node) in SYMMETRIC:
        orders.append(orders[0][::-1])
    for operands in orders:
        ways = [found] if len(operands) == len(terms) else []
        for operand, term in zip(operands, terms, strict=False):
            ways = [each for way in ways for each in _matched(operand, term, way)]
        yield from ways


def _is_plain(node: ir.Node) -> bool:
    """Whether a mean is over the last axis, which stays as one; all else is plain as it is."""
    if operator_of(node) != "ReduceMean":
        return True
    axes = node.attributes.get("axes")
    held = node.inputs[1] if len(node.inputs) > 1 else None
    numbers = (
        list(axes.as_ints())
        if axes is not None
        else held.const_value.numpy().tolist()
        if is_constant(held) and held.const_value is not None
        else []
    )
    keeps = node.attributes.get("keepdims")
    return numbers == [-1] and (keeps is None or keeps.as_int() == 1)


def _number(value: ir.Value) -> float | None:
    """The floating number that a constant holds, if it holds only one."""
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or tensor.size != 1 or not tensor.dtype.is_floating_point():
        return None
    return float(tensor.numpy().reshape(-1)[0])


def _closed(nodes: Collection[ir.Node], last: ir.Node, kept: Collection[ir.Value]) -> bool:
    """Whether nobody else reads what lies inside."""
    inner = [value for node in nodes if node is not last for value in node.outputs]
    return not any(
        value in kept or value.is_graph_output() or any(reader not in nodes for reader, _ in value.uses())
        for value in inner
    )


Pair: TypeAlias = "tuple[Tensor | None, Tensor | None]"
"""A factor and a shift per channel, or one number; None where there is none yet."""


@dataclass(frozen=True)
class _Affine:
    """A node that scales or shifts channels.

    Attributes:
        operands: its constants.
        vectors: whether each is a plain vector over channels, on whichever axis of the data these are.
        then: the factor and the shift with those of this node behind them.
    """

    operands: tuple[ir.Value, ...]
    vectors: bool
    then: Callable[..., Pair]

    def fits(self, weight: ir.Value) -> bool:
        """Whether the constants lie along the channels that a weight makes, and have its type."""
        kernel = weight.const_value
        assert kernel is not None
        channels, rank = kernel.shape.numpy()[0], len(kernel.shape)
        for operand in self.operands:
            held = operand.const_value
            if held is None or held.dtype != kernel.dtype:
                return False
            shape = held.shape.numpy()
            places = shape == (channels,) if self.vectors else len(shape) >= rank - 1
            along = places and shape[-1 if self.vectors else 1 - rank] == channels
            if held.size != (channels if along else 1) or len(shape) > rank:
                return False
        return True


def _convolution(node: ir.Node, kept: Collection[ir.Value]) -> Written | None:
    """A convolution and what scales and shifts its channels, up to this node."""
    chain: list[ir.Node] = [node]
    affine: list[_Affine] = []
    while operator_of(chain[-1]) != "Conv":
        before = next((v.producer() for v in chain[-1].inputs if v is not None and v.producer()), None)
        step = _affine(chain[-1])
        if before is None or step is None:
            return None
        chain.append(before)
        affine.insert(0, step)
    own = tuple(value for value in chain[-1].inputs if value is not None)
    weighted = is_constant(own[1]) and all(step.fits(own[1]) for step in affine)
    if not affine or not weighted or not _closed(chain, node, kept):
        return None
    inputs = own + tuple(value for step in affine for value in step.operands)
    return Written(tuple(chain), inputs, _scaled(affine, len(own)))


def _affine(node: ir.Node) -> _Affine | None:
    """What a node does to each channel, if it only scales or shifts."""
    operator = operator_of(node)
    constants = tuple(value for value in node.inputs if is_constant(value))
    if operator == "BatchNormalization" and len(constants) == 4 and len(node.outputs) == 1:
        training, epsilon = node.attributes.get("training_mode"), node.attributes.get("epsilon")
        if training is None or not training.as_int():
            return _Affine(constants, True, _by_statistics(1e-5 if epsilon is None else epsilon.as_float()))
    if len(constants) != 1 or len(node.inputs) != 2:
        return None
    if operator == "Mul":
        return _Affine(constants, False, _scale)
    return _Affine(constants, False, _plus) if operator == "Add" else None


def _times(value: Tensor | None, factor: Tensor) -> Tensor:
    return factor if value is None else value * factor


def _scale(scale: Tensor | None, shift: Tensor | None, factor: Tensor) -> Pair:
    return _times(scale, factor), None if shift is None else shift * factor


def _plus(scale: Tensor | None, shift: Tensor | None, more: Tensor) -> Pair:
    return scale, more if shift is None else shift + more


def _by_statistics(epsilon: float) -> Callable[..., Pair]:
    held: list[Tensor] = []

    def then(
        scale: Tensor | None,
        shift: Tensor | None,
        gamma: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
    ) -> Pair:
        if not held or held[0] is not variance:  # statistics stay: once is enough
            held[:] = variance, torch.rsqrt(variance.detach() + epsilon)
        factor = gamma * (torch.rsqrt(variance + epsilon) if variance.requires_grad else held[1])
        more = torch.addcmul(bias, mean, factor, value=-1)
        return _times(scale, factor), more if shift is None else torch.addcmul(more, shift, factor)

    return then


def _scaled(affine: Sequence[_Affine], own: int) -> Callable[..., Tensor]:
    """The convolution with its weight scaled, and its bias scaled and shifted, instead of its result."""

    def run(call: Call, *inputs: Tensor) -> Tensor:
        x, weight, *bias = inputs[:own]
        scale, shift, place = None, bias[0] if bias else None, own
        for step in affine:
            operands = inputs[place : place + len(step.operands)]
            place += len(operands)
            scale, shift = step.then(scale, shift, *(each.reshape(-1) for each in operands))
        if scale is not None:
            weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        if shift is not None and len(shift) != len(weight):
            shift = shift.expand(len(weight))
        return linear.conv(call, x, weight, shift)

    return run
