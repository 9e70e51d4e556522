"""Fused mixtures: one axis of the router and of every stacked weight (docs/theory.md#mixtures-of-experts)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from graphprune.ir.operators import Held
from graphprune.labels.algebra import Label
from graphprune.labels.visit import Visit
from graphprune.ops.counting import At, Counter, Place, Term
from graphprune.ops.heads import divided, static
from graphprune.ops.record import Record, held, ops, traits
from graphprune.ops.shaping import SAME
from graphprune.ops.traits import Trait


@dataclass(frozen=True)
class Stacked:
    """Input positions of the stacked weights, biases, scales and zero points of fc1, fc2 and fc3."""

    weights: tuple[int, int, int]
    biases: tuple[int, int, int]
    scales: tuple[int, int, int] | None = None
    zeros: tuple[int, int, int] | None = None


PLAIN = Stacked((2, 4, 6), (3, 5, 7))
QUANTISED = Stacked((2, 5, 8), (4, 7, 10), (3, 6, 9), (11, 12, 13))


def experts(visit: Visit) -> None:
    """MoE: router.1 = W.0; x = fc1.2 is contracted; out = fc2.1; all experts share the width f."""
    if visit.shape(0) is None or visit.shape(1) is None:
        visit.fix_all("an operand's shape is not known")
        return
    fc1, fc2, fc3 = PLAIN.weights
    _route(visit, PLAIN)
    hidden, inner = visit.axis(0, -1), visit.axis(fc2, 2)
    for position in (fc1, fc3):
        if visit.has(position):
            visit.equal(visit.axis(position, 2), hidden)
    visit.contract(0, -1)
    visit.contract(fc2, 2)
    _inner(visit, PLAIN, inner)
    if visit.has(PLAIN.biases[1]):
        visit.equal(visit.axis(PLAIN.biases[1], 1), visit.axis(fc2, 1))
    _roles(visit, PLAIN)
    visit.out([*visit.axes(0)[:-1], visit.axis(fc2, 1)])


def _route(visit: Visit, stacked: Stacked) -> None:
    """One label for the experts; a removed expert gets no probability, and k of them must be left."""
    router = visit.axis(1, -1)
    visit.contract(1, -1, "-inf")
    visit.at_least(router, visit.int_attr("k", 1))
    if visit.int_attr("use_sparse_mixer", 0):
        visit.fix(router, "the sparse mixer compares all experts")
    positions = [*stacked.weights, *stacked.biases, *(stacked.scales or ()), *(stacked.zeros or ())]
    for position in positions:
        if visit.has(position):
            visit.equal(visit.axis(position, 0), router)


def _inner(visit: Visit, stacked: Stacked, inner: Label) -> None:
    """fc1.1 = fc3.1 = f; a fused SwiGLU keeps gate and linear part, interleaved (1) or side by side (2)."""
    fc1, fc2, fc3 = stacked.weights
    width, rows = static(visit, fc2, 2), static(visit, fc1, 1)
    for position in (fc3, stacked.biases[2]):
        if visit.has(position):
            visit.equal(visit.axis(position, 1), inner)
    for position in (fc1, stacked.biases[0]):
        if visit.has(position):
            visit.equal(_gate(visit, visit.axis(position, 1), width or 0, rows or 0), inner)


def _gate(visit: Visit, label: Label, width: int, rows: int) -> Label:
    if rows == width:
        return label
    if not width or rows != 2 * width:
        visit.fix(label, "its gate has another width")
        return visit.fixed((width, width), "its gate has another width")
    interleaved = visit.int_attr("swiglu_fusion", 0) == 1
    found = divided(visit, label, rows, width if interleaved else 2)
    if found is None:
        return visit.fixed((width, width), "its gate cannot be divided")
    inner, sides = (found.heads, found.dims) if interleaved else (found.dims, found.heads)
    visit.fix(sides, "the gate and the linear part of SwiGLU go together")
    return inner


def _roles(visit: Visit, stacked: Stacked) -> None:
    for position in stacked.weights:
        visit.role(position, 0, "source")
        visit.role(position, 1, "source")
        visit.role(position, 2, "sink")
    for positions, role in ((stacked.biases, "bias"), (stacked.scales, "scale"), (stacked.zeros, "table")):
        for position in positions or ():
            visit.roles(position, role)


def quantised_experts(visit: Visit) -> None:
    """QMoE: experts as in MoE; widths are packed in bytes and blocks, so they are kept."""
    if visit.str_attr("quant_type", "int") != "int" or visit.int_attr("weights_prepacked", -1) == 1:
        visit.fix_all("QMoE with prepacked or floating-point blocks is not analysed")
        return
    _route(visit, QUANTISED)
    stacked = QUANTISED
    for position in (*stacked.weights, *stacked.biases, *(stacked.scales or ()), *(stacked.zeros or ())):
        for label in visit.axes(position)[1:] if visit.has(position) else ():
            visit.fix(label, "QMoE packs it")
    visit.fix(visit.axis(0, -1), "QMoE packs the axis it is contracted with")
    if visit.has(14):
        visit.equal(visit.axis(14, -1), visit.axis(1, -1))
    _roles(visit, stacked)
    out = list(visit.axes(0)[:-1])
    visit.out([*out, visit.fixed((visit.shape(0) or ())[-1], "QMoE packs it")])


def mixture_macs(fc1: int, fc2: int, fc3: int, bits: str = "") -> Counter:
    """Every token goes through k experts: fc1 and fc3 from the stream, fc2 back to it."""

    def count(at: At) -> list[Term]:
        stream = at.input(0)
        width = stream[-1]
        chosen = prod(stream[:-1]) * at.number("k", 1)
        packing = 8 // at.number(bits, 4) if bits else 1
        back = at.input(fc2)
        terms = [
            Term(
                chosen * at.input(position)[1] * width,
                (Place.input(0, len(stream) - 1), Place.input(position, 1)),
            )
            for position in (fc1, fc3)
            if at.has(position)
        ]
        return [
            *terms,
            Term(chosen * back[1] * back[2] * packing, (Place.input(fc2, 1), Place.input(fc2, 2))),
        ]

    return count


ROWS = (
    Record(
        ops("MoE", "com.microsoft"),
        experts,
        "router.1 = W.0 = e; x.2 = fc1.2 = fc3.2; fc1.1 = fc3.1 = fc2.2 = f; out = fc2.1",
        "contraction",
        "stacked weights and biases",
        mixture_macs(*PLAIN.weights),
        shaping=SAME,
        traits=traits(Trait.MIXTURE),
    ),
    Record(
        ops("QMoE", "com.microsoft"),
        quantised_experts,
        "router.1 = W.0 = e; widths fixed",
        "contraction",
        "stacked weights, scales, zero points, biases",
        mixture_macs(*QUANTISED.weights, bits="expert_weight_bits"),
        shaping=SAME,
        held=(
            Held(0),
            *(Held(at, bits="expert_weight_bits") for at in QUANTISED.weights),
            *held(*QUANTISED.biases),
        ),
        traits=traits(Trait.MIXTURE, Trait.CODES),
    ),
)
