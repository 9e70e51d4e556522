"""Fused attention with its projection: Q, K and V side by side in one weight (docs/theory.md#attention)."""

from __future__ import annotations

from graphprune.ir.operators import Held, Shape, ShapeRule, Shaping, Sized, follows
from graphprune.labels.algebra import Label
from graphprune.labels.edits import AttributeCount, AttributeCounts
from graphprune.labels.visit import Visit
from graphprune.ops.counting import At, Counter, Place, Term
from graphprune.ops.heads import (
    UNKNOWN,
    Packed,
    cache,
    default_scale,
    divided,
    mask_heads,
    pieces,
    static,
    tokens,
)
from graphprune.ops.operands import per_slot
from graphprune.ops.record import Layer, Record, ops, traits
from graphprune.ops.shaping import plus, scaled
from graphprune.ops.traits import Trait


def _packed(visit: Visit, label: Label, sizes: list[int], heads: int) -> Packed | None:
    found = [
        divided(visit, part, size, heads)
        for part, size in zip(pieces(visit, label, sizes, "qkv"), sizes, strict=True)
    ]
    if found[0] is None or found[1] is None or found[2] is None:
        visit.fix(label, UNKNOWN)
        return None
    q, k, v = found[0], found[1], found[2]
    visit.equal(q.heads, k.heads)
    visit.equal(q.heads, v.heads)
    visit.equal(q.dims, k.dims)
    return Packed(q, k, v, (sizes[0], sizes[1], sizes[2]))


def packed_attention(visit: Visit) -> None:
    """com.microsoft Attention: x.W with W = [Wq Wk Wv], then attention over `num_heads` heads."""
    width, heads = static(visit, 1, 1), visit.int_attr("num_heads", 0)
    sizes = list(visit.ints_attr("qkv_hidden_sizes") or [(width or 0) // 3] * 3)
    found = _packed(visit, visit.axis(1, 1), sizes, heads) if width == sum(sizes) and width else None
    if found is None:
        visit.fix_all(UNKNOWN)
        return
    visit.equal(visit.axis(0, -1), visit.axis(1, 0))
    visit.contract(0, -1)
    visit.roles(1, "source")
    visit.role(1, 0, "sink")
    for position in (1, 2):
        if visit.has(position):
            visit.contract(position, -1)
    per_slot(visit, 2, visit.axis(1, 1), "bias")
    visit.edit(AttributeCount(visit.node, "num_heads", found.q.heads))
    visit.edit(
        AttributeCounts(visit.node, "qkv_hidden_sizes", (found.q.packed, found.k.packed, found.v.packed))
    )
    _packed_tail(visit, found, heads, bias=5, past=4)


def quantised_attention(visit: Visit) -> None:
    """QAttention: as Attention with an integer weight; the three widths are equal."""
    width, heads = static(visit, 1, 1) or 0, visit.int_attr("num_heads", 0)
    found = _packed(visit, visit.axis(1, 1), [width // 3] * 3, heads) if width and width % 3 == 0 else None
    if found is None:
        visit.fix_all(UNKNOWN)
        return
    for label in (visit.axis(0, -1), visit.axis(1, 0), found.q.dims, found.v.dims):
        visit.fix(label, "QAttention has integer operands, whose masked form differs")
    visit.roles(1, "source")
    visit.role(1, 0, "sink")
    for position, role in ((2, "bias"), (4, "scale"), (7, "table")):
        per_slot(visit, position, visit.axis(1, 1), role)
    visit.edit(AttributeCount(visit.node, "num_heads", found.q.heads))
    _packed_tail(visit, found, heads, bias=9, past=8)


def _packed_tail(visit: Visit, found: Packed, heads: int, bias: int, past: int) -> None:
    """What follows the projection: scale, masks, rotation, cache and result."""
    batch = visit.axis(0, 0)
    queries = tokens(visit, 0, 1)
    default_scale(visit, found.sizes[0] // heads, found.q.dims, zero_is_default=True)
    mask_heads(visit, bias, found.q.heads)
    mask = 3 if bias == 5 else 5
    for label in visit.axes(mask) if visit.has(mask) else ():
        visit.fix(label, "it masks tokens")
    if visit.int_attr("do_rotary", 0):
        visit.fix(found.q.dims, "its head dims are rotated inside the operator")
    if visit.has(past) or len(visit.node.outputs) > 1:
        visit.equal(found.k.dims, found.v.dims)
        cache(visit, past, 1, [(), batch, found.k.heads, (), found.k.dims])
    visit.out([batch, queries, (*found.q.heads, *found.v.dims)])


def packed_attention_macs(past: int) -> Counter:
    """Attention of com.microsoft: x W with W = [Wq Wk Wv], then scores over all heads."""

    def count(at: At) -> list[Term]:
        (batch, queries, _), (inner, width) = at.input(0), at.input(1)
        sizes = at.numbers("qkv_hidden_sizes") or (width // 3,) * 3
        keys = queries + (at.input(past)[3] if at.has(past) else 0)
        first, last = Place.input(1, 1, 0, sizes[0]), Place.output(2)
        return [
            Term(batch * queries * inner * width, (Place.input(0, 2), Place.input(1, 1))),
            Term(batch * queries * keys * sizes[0], (first,)),
            Term(batch * queries * keys * sizes[2], (last,)),
        ]

    return count


def packed_attention_shape(past: int) -> ShapeRule:
    """The result, and the cache of keys and values together."""

    def rule(at: Sized) -> list[Shape | None]:
        x, weight, heads = at.input(0), at.input(1), at.number("num_heads", 1)
        sizes = at.numbers("qkv_hidden_sizes")
        value = (sizes[2], sizes[2]) if sizes else scaled(weight[1], 1, 3)
        total = plus(x[1], at.input(past)[3]) if at.has(past) else x[1]
        return [(*x[:2], value), ((2, 2), x[0], (heads, heads), total, scaled(value, 1, heads))]

    return rule


ROWS = (
    Record(
        ops("Attention", "com.microsoft"),
        packed_attention,
        "W.1 = [H x D; H x D; H x Dv]; x.2 = W.0",
        "contraction",
        "W, bias, `num_heads`, `qkv_hidden_sizes`, `scale`, cache",
        packed_attention_macs(past=4),
        shaping=Shaping(packed_attention_shape(past=4)),
        layer=Layer(1, -1, -2, bias=2, result="fused"),
        caches=((4, 1),),
        traits=traits(Trait.ATTENTION),
    ),
    Record(
        ops("QAttention", "com.microsoft"),
        quantised_attention,
        "as Attention; x.2 and head dims fixed",
        "contraction",
        "W, scale, bias, `num_heads`",
        packed_attention_macs(past=8),
        shaping=Shaping(packed_attention_shape(past=8), follows(3)),
        layer=Layer(1, -1, -2, bias=2, result="hidden"),
        held=(Held(0, (3,), 6), Held(1, (4,), 7), Held(2)),
        traits=traits(Trait.ATTENTION, Trait.CODES),
    ),
)
