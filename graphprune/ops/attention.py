"""Fused attention (docs/theory.md#attention): heads x dims on one axis; Q and K contract the dims."""

from __future__ import annotations

from math import prod

from graphprune.ir.operators import Shape, Shaping, Sized
from graphprune.labels.algebra import ONE, Label
from graphprune.labels.edits import AttributeCount
from graphprune.labels.visit import Visit
from graphprune.ops import counting as macs
from graphprune.ops.counting import At, Place, Term
from graphprune.ops.heads import (
    UNKNOWN,
    Heads,
    Packed,
    cache,
    default_scale,
    divided,
    grouped,
    in_blocks,
    mask_heads,
    paired,
    pieces,
    static,
    tokens,
)
from graphprune.ops.operands import per_slot
from graphprune.ops.record import Record, ops, traits
from graphprune.ops.shaping import plus, scaled
from graphprune.ops.traits import Trait


def attention(visit: Visit) -> None:
    """H = Hkv x repeats; Q.D = K.D is contracted; the result has the heads of Q and the dims of V."""
    rank = visit.rank(0)
    names = ("q_num_heads", "kv_num_heads", "kv_num_heads")
    if rank == 4:
        counts = [static(visit, position, 1) for position in range(3)]
    else:
        counts = [visit.int_attr(name, 0) for name in names]
    parts = [head_axes(visit, position, count) for position, count in enumerate(counts)]
    if parts[0] is None or parts[1] is None or parts[2] is None:
        visit.fix_all(UNKNOWN)
        return
    q, k, v = parts[0], parts[1], parts[2]
    grouped(visit, q.heads, counts[0] or 0, k.heads, counts[1] or 0)
    visit.equal(k.heads, v.heads)
    visit.equal(q.dims, k.dims)
    visit.contract(0, -1)
    width = static(visit, 0, -1) or 0
    default_scale(visit, width if rank == 4 else width // (counts[0] or 1), q.dims)
    if rank == 3:
        visit.edit(AttributeCount(visit.node, "q_num_heads", q.heads))
        visit.edit(AttributeCount(visit.node, "kv_num_heads", k.heads))
    mask_heads(visit, 3, q.heads)
    _attention_outputs(visit, q, k, v)


def head_axes(visit: Visit, position: int, count: int | None) -> Heads | None:
    """Heads and head dims of a query, key or value, 3-D (packed) or 4-D."""
    width = static(visit, position, -1)
    if count is None or width is None:
        return None
    visit.roles(position, "source")
    if visit.rank(position) == 4:
        return Heads(visit.axis(position, 1), visit.axis(position, -1))
    return divided(visit, visit.axis(position, -1), width, count)


def _attention_outputs(visit: Visit, q: Heads, k: Heads, v: Heads) -> None:
    batch, queries = visit.axis(0, 0), tokens(visit, 0, -2)
    for position in (1, 2):
        tokens(visit, position, -2)
        visit.equal(batch, visit.axis(position, 0))
    out = Heads(q.heads, v.dims)
    four = visit.rank(0) == 4
    visit.out([batch, out.heads, queries, out.dims] if four else [batch, queries, out.packed])
    cache(visit, 4, 1, [batch, k.heads, (), k.dims])
    cache(visit, 5, 2, [batch, v.heads, (), v.dims])
    if len(visit.node.outputs) > 3:
        shape = visit.out_shape(3) or (ONE,) * 4
        visit.out([batch, q.heads, queries, visit.fixed(shape[-1])], 3)


def multi_head_attention(visit: Visit) -> None:
    """com.microsoft MultiHeadAttention, packed (5-D) or not, with an optional bias for Q, K and V."""
    heads = visit.int_attr("num_heads", 0)
    found = _five(visit) if visit.rank(0) == 5 else _separate(visit, heads)
    if found is None or not heads:
        visit.fix_all(UNKNOWN)
        return
    q, k, v = found.q, found.k, found.v
    for other in (k, v):
        visit.equal(q.heads, other.heads)
    visit.equal(q.dims, k.dims)
    if visit.has(6) or visit.has(7):
        visit.equal(k.dims, v.dims)  # with a cache the kernel takes one head size
    visit.contract(0, -1)
    default_scale(visit, found.sizes[0], q.dims, zero_is_default=True)
    visit.edit(AttributeCount(visit.node, "num_heads", q.heads))
    _bias(visit, found, heads)
    mask_heads(visit, 5, q.heads)
    batch, queries = visit.axis(0, 0), tokens(visit, 0, 1)
    visit.out([batch, queries, (*q.heads, *v.dims)])
    cache(visit, 6, 1, [batch, k.heads, (), k.dims])
    cache(visit, 7, 2, [batch, v.heads, (), v.dims])
    if len(visit.node.outputs) > 3:
        shape = visit.out_shape(3) or (ONE,) * 4
        visit.out([batch, q.heads, queries, visit.fixed(shape[-1])], 3)


def _separate(visit: Visit, heads: int) -> Packed | None:
    """Q [B, S, H.D]; K and V 3-D, or 4-D [B, H, T, D], or packed together [B, T, H, 2, D]."""
    width = static(visit, 0, -1)
    q = divided(visit, visit.axis(0, -1), width, heads) if width else None
    if q is None or not visit.has(1) or not width:
        return None
    if visit.rank(1) == 5:
        tokens(visit, 1, 1)
        pair = Heads(visit.axis(1, 2), visit.axis(1, 4))
        return Packed(q, pair, pair, (width // heads, width // heads, width // heads))
    if not visit.has(2):
        return None
    found = [head_axes(visit, position, heads) for position in (1, 2)]
    if found[0] is None or found[1] is None:
        return None
    for position in (1, 2):
        tokens(visit, position, 1 if visit.rank(position) == 3 else 2)
    sizes = [(static(visit, p, -1) or 0) // (heads if visit.rank(p) == 3 else 1) for p in (1, 2)]
    return Packed(q, found[0], found[1], (width // heads, sizes[0], sizes[1]))


def _five(visit: Visit) -> Packed | None:
    """Q, K and V packed as [B, S, H, 3, D]."""
    size = static(visit, 0, 4)
    if size is None:
        return None
    every = Heads(visit.axis(0, 2), visit.axis(0, 4))
    visit.fix(visit.axis(0, 3), "it holds Q, K and V")
    return Packed(every, every, every, (size, size, size))


def _bias(visit: Visit, found: Packed, heads: int) -> None:
    if not visit.has(3):
        return
    sizes = [size * heads for size in found.sizes]
    visit.roles(3, "bias")
    visit.contract(3, 0)
    if static(visit, 3, 0) != sum(sizes):
        for part in (found.q, found.k, found.v):
            visit.fix(part.packed, "its bias has another width")
        return
    bias = visit.axis(3, 0)
    for piece, own in zip(pieces(visit, bias, sizes, "bias"), (found.q, found.k, found.v), strict=True):
        visit.equal(piece, own.packed)


def group_query_attention(visit: Visit) -> None:
    """com.microsoft GroupQueryAttention: heads go in key groups or repeats, head dims in steps."""
    heads, groups = visit.int_attr("num_heads", 0), visit.int_attr("kv_num_heads", 0)
    quantised = visit.int_attr("kv_cache_bit_width", 0) or visit.has(12) or visit.has(13)
    found = None if quantised or not heads or not groups else _group_query_parts(visit, heads, groups)
    if found is None:
        visit.fix_all("GroupQueryAttention with a quantised cache or of unknown width is not analysed")
        return
    q, k, v, size = found.q, found.k, found.v, found.sizes[0]
    grouped(visit, q.heads, heads, k.heads, groups)
    visit.equal(k.heads, v.heads)
    visit.equal(q.dims, k.dims)
    visit.equal(k.dims, v.dims)
    _group_query_dims(visit, q.dims, size)
    visit.contract(0, -1)
    default_scale(visit, size, q.dims, zero_is_default=True)
    visit.edit(AttributeCount(visit.node, "num_heads", q.heads))
    visit.edit(AttributeCount(visit.node, "kv_num_heads", k.heads))
    mask_heads(visit, 10, q.heads)
    if visit.has(11):
        per_slot(visit, 11, q.heads, "bias")
    batch = visit.axis(0, 0)
    visit.out([batch, tokens(visit, 0, 1), (*q.heads, *v.dims)])
    cache(visit, 3, 1, [batch, k.heads, (), k.dims])
    cache(visit, 4, 2, [batch, v.heads, (), v.dims])
    if len(visit.node.outputs) > 3:
        shape = visit.out_shape(3) or (ONE,) * 4
        visit.out([batch, q.heads, tokens(visit, 0, 1), visit.fixed(shape[-1])], 3)


def _group_query_parts(visit: Visit, heads: int, groups: int) -> Packed | None:
    width = static(visit, 0, -1)
    if width is None:
        return None
    if visit.has(1) and visit.has(2):
        found = [head_axes(visit, p, count) for p, count in enumerate((heads, groups, groups))]
        size = width // heads
        for position in (1, 2):
            tokens(visit, position, 1)
    else:
        size, rest = divmod(width, heads + 2 * groups)
        if rest:
            return None
        sizes = [heads * size, groups * size, groups * size]
        parts = pieces(visit, visit.axis(0, -1), sizes, "qkv")
        counts = (heads, groups, groups)
        found = [divided(visit, *item) for item in zip(parts, sizes, counts, strict=True)]
    if found[0] is None or found[1] is None or found[2] is None:
        return None
    return Packed(found[0], found[1], found[2], (size, size, size))


def _group_query_dims(visit: Visit, dims: Label, size: int) -> None:
    """The kernel takes head sizes in steps of 8, with rotation 16; a norm inside it fixes them."""
    if visit.has(14) or visit.has(15):
        visit.fix(dims, "Q and K are normalised over it inside the operator")
    if not visit.int_attr("do_rotary", 0):
        in_blocks(visit, dims, size, 8)
        return
    columns = static(visit, 7, 1) if visit.has(7) else None
    interleaved = visit.int_attr("rotary_interleaved", 0) == 1
    pairs = paired(visit, dims, size, 2 * columns, interleaved, block=8) if columns else None
    if pairs is None:
        visit.fix(dims, "its rotary pairs cannot be divided")
    for position in (7, 8):
        if visit.has(position):
            visit.roles(position, "table")
            visit.fix(visit.axis(position, 0), "it is indexed by position")
            visit.equal(
                visit.axis(position, 1), pairs if pairs is not None else visit.fixed((columns or 1,) * 2)
            )


def opaque(visit: Visit) -> None:
    """A fused operator whose inner layout is not analysed."""
    visit.fix_all(f"{visit.node.op_type} is kept whole")


def attention_macs(at: At) -> list[Term]:
    """Attention of ai.onnx: [B, S, H x D] or [B, H, S, D]; a past of [B, H, P, D] comes before the keys."""
    query, out = at.input(0), at.output()
    keys = at.input(1)[-2] + (at.input(4)[2] if at.has(4) else 0)
    axes = (2,) if len(query) == 3 else (1, 3)
    return [
        Term(prod(query) * keys, tuple(Place.input(0, axis) for axis in axes)),
        Term(prod(out) * keys, tuple(Place.output(axis) for axis in axes)),
    ]


def multi_head_attention_macs(at: At) -> list[Term]:
    """Q, K and V apart or packed ([B, S, H, 3, D], [B, T, H, 2, D]); K also as [B, H, T, D]."""
    query = at.input(0)
    batch, queries = query[:2]
    packed = len(query) == 5
    width = query[2] * query[4] if packed else query[2]
    heads: tuple[Place, ...] = (Place.input(0, 2), Place.input(0, 4)) if packed else (Place.input(0, 2),)
    keys = queries
    if not packed:
        key = at.input(1)
        keys = key[2] if len(key) == 4 else key[1]
    if at.has(6):
        keys += at.input(6)[2]
    pairs = batch * queries * keys
    return [Term(pairs * width, heads), Term(pairs * at.output()[2], (Place.output(2),))]


def group_query_attention_macs(at: At) -> list[Term]:
    """Every query head meets the keys of its group, past ones included; one head dim for Q, K and V."""
    batch, queries, width = at.output()
    keys = (at.input(1)[1] if at.has(1) else queries) + (at.input(3)[2] if at.has(3) else 0)
    term = Term(batch * queries * keys * width, (Place.output(2),))
    return [term, term]


def multi_head_attention_shape(at: Sized) -> list[Shape | None]:
    """The result, both caches, and the scores."""
    q, heads = at.input(0), at.number("num_heads", 1)
    if len(q) == 5:
        size, tokens, width = (q[4], q[4]), q[1], scaled(q[4], heads)
    elif len(at.input(1)) == 5:
        k = at.input(1)
        size, tokens, width = (k[4], k[4]), k[1], q[2]
    else:
        k, v = at.input(1), at.input(2)
        parts = [shape[3] if len(shape) == 4 else scaled(shape[2], 1, heads) for shape in (k, v)]
        size, tokens = (parts[0], parts[1]), k[2] if len(k) == 4 else k[1]
        width = scaled(size[1], heads)
    total = plus(tokens, at.input(6)[2]) if at.has(6) else tokens
    count = (heads, heads)
    caches: list[Shape | None] = [(q[0], count, total, part) for part in size]
    return [(*q[:2], width), *caches, (q[0], count, q[1], total)]


def group_query_attention_shape(at: Sized) -> list[Shape | None]:
    """The result and both caches."""
    q, heads, groups = at.input(0), at.number("num_heads", 1), at.number("kv_num_heads", 1)
    size = scaled(q[2], 1, heads if at.has(1) else heads + 2 * groups)
    past = at.input(3) if at.has(3) else ()
    cached: Shape | None = (q[0], (groups, groups), plus(past[2], q[1]), size) if past else None
    return [(*q[:2], scaled(size, heads)), cached, cached]


ROWS = (
    Record(
        ops("Attention"),
        attention,
        "H = Hkv x repeats; Q.D = K.D; out = H x Dv",
        "contraction",
        "`q_num_heads`, `kv_num_heads`, `scale`, caches",
        attention_macs,
        caches=((4, 1), (5, 2)),
        traits=traits(Trait.ATTENTION),
    ),
    Record(
        ops("MultiHeadAttention", "com.microsoft"),
        multi_head_attention,
        "Q, K = H x D, V = H x Dv; out = H x Dv",
        "contraction",
        "bias, `num_heads`, `scale`, caches",
        multi_head_attention_macs,
        shaping=Shaping(multi_head_attention_shape),
        caches=((6, 1), (7, 2)),
        traits=traits(Trait.ATTENTION),
    ),
    Record(
        ops("GroupQueryAttention", "com.microsoft"),
        group_query_attention,
        "H = Hkv x repeats; one D, in blocks of 8 (rotary: 16)",
        "contraction",
        "`num_heads`, `kv_num_heads`, `scale`, rotary caches, caches",
        group_query_attention_macs,
        shaping=Shaping(group_query_attention_shape),
        caches=((3, 1), (4, 2)),
        traits=traits(Trait.ATTENTION),
    ),
    Record(
        ops("FlexAttention", "ai.onnx.preview")
        + ops(
            "DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DecoderAttention PackedAttention "
            "PackedMultiHeadAttention PagedAttention SparseAttention SparsePagedAttention "
            "LongformerAttention DynamicSparseAttention QOrderedAttention QOrderedLongformerAttention",
            "com.microsoft",
        ),
        opaque,
        "all axes fixed",
        "frozen",
        macs=macs.unknown,
        traits=traits(Trait.ATTENTION),
    ),
    Record(
        ops(
            "GatedRelativePositionBias RelativePositionBias RemovePadding RestorePadding "
            "SparseAttentionIndexer PackedSparseAttentionIndexer GatedDeltaNet EngramGate "
            "LinearAttentionGate",
            "com.microsoft",
        ),
        opaque,
        "all axes fixed",
        "frozen",
        macs=macs.unknown,
    ),
)
