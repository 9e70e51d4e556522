"""Linear attention: a recurrent state for scores, caches written in place (docs/theory.md#attention)."""

from __future__ import annotations

from graphprune.ir.operators import Shape, Shaping, Sized
from graphprune.labels.edits import AttributeCount
from graphprune.labels.visit import Visit
from graphprune.ops.attention import head_axes
from graphprune.ops.counting import At, Place, Term
from graphprune.ops.heads import UNKNOWN, Heads, default_scale, grouped, static, tokens
from graphprune.ops.record import Record, ops
from graphprune.ops.shaping import SAME, scaled


def linear_attention(visit: Visit) -> None:
    """LinearAttention: as attention, with a state [B, Hkv, Dk, Dv]; Q and K both contract Dk."""
    heads, groups = visit.int_attr("q_num_heads", 0), visit.int_attr("kv_num_heads", 0)
    found = [head_axes(visit, p, count or None) for p, count in enumerate((heads, groups, groups))]
    if visit.int_attr("state_window", 0) or found[0] is None or found[1] is None or found[2] is None:
        visit.fix_all(UNKNOWN)
        return
    q, k, v = found[0], found[1], found[2]
    if heads >= groups:
        grouped(visit, q.heads, heads, k.heads, groups)
    else:
        visit.fix(q.heads, "its key heads outnumber its query heads")
        visit.fix(k.heads, "its key heads outnumber its query heads")
    visit.equal(k.heads, v.heads)
    visit.equal(q.dims, k.dims)
    for position in (0, 1):
        visit.contract(position, -1)
    default_scale(visit, (static(visit, 0, -1) or 0) // heads, q.dims, zero_is_default=True)
    visit.edit(AttributeCount(visit.node, "q_num_heads", q.heads))
    visit.edit(AttributeCount(visit.node, "kv_num_heads", k.heads))
    for position in (4, 5):
        _gate(visit, position, k, groups)
    for position in range(3):
        tokens(visit, position, 1)
    batch = visit.axis(0, 0)
    wide = static(visit, 0, -1) is not None and heads >= groups
    visit.out([batch, visit.axis(0, 1), (*(q if wide else k).heads, *v.dims)])
    state = [batch, k.heads, k.dims, v.dims]
    if visit.has(3):
        visit.roles(3, "table")
        for label, other in zip(visit.axes(3), state, strict=True):
            visit.equal(label, other)
    visit.out(state, 1)


def _gate(visit: Visit, position: int, keys: Heads, groups: int) -> None:
    """Decay is per head or per head dim, beta per head or one for all."""
    width = static(visit, position, -1) if visit.has(position) else 1
    if width == 1:
        return
    visit.equal(visit.axis(position, -1), keys.heads if width == groups else keys.packed)


def tensor_scatter(visit: Visit) -> None:
    """TensorScatter: a cache that is written along one axis; all others are tied."""
    axis = visit.int_attr("axis", -2) % visit.rank(0)
    out = list(visit.axes(0))
    for other, label in enumerate(visit.axes(1)):
        if other == axis:
            visit.fix(label, "it counts tokens of a cache")
            visit.fix(out[axis], "it counts tokens of a cache")
        else:
            visit.equal(out[other], label)
    visit.out(out)


DELTA = ("delta", "gated_delta")


def linear_attention_macs(at: At) -> list[Term]:
    """A token writes k v' into the state of every key head, and every query head reads it by q."""
    (batch, tokens, _), keys, values = at.input(0), at.input(1)[2], at.input(2)[2]
    heads, groups = at.number("q_num_heads"), at.number("kv_num_heads")
    state = batch * tokens * (keys // groups) * (values // groups)
    writes = 2 if at.text("update_rule", "gated_delta") in DELTA else 1  # delta rules read by k as well
    values_in = Place("in", 2, 2, inner=True)
    return [
        Term(state * groups * writes, (Place.input(1, 2), values_in)),
        Term(state * max(heads, groups), (Place.input(0 if heads >= groups else 1, 2), values_in)),
    ]


def linear_attention_shape(at: Sized) -> list[Shape | None]:
    """All query heads, and the state of every key head."""
    q, k, v = (at.input(position) for position in range(3))
    heads, groups = at.number("q_num_heads", 1), at.number("kv_num_heads", 1)
    dims, values = scaled(k[2], 1, groups), scaled(v[2], 1, groups)
    state = None if at.number("state_window") else (q[0], (groups, groups), dims, values)
    return [(*q[:2], scaled(values, max(heads, groups))), state]


ROWS = (
    Record(
        ops("LinearAttention") + ops("LinearAttention", "com.microsoft"),
        linear_attention,
        "H = Hkv x repeats; Q.Dk = K.Dk = state.2; out = H x Dv",
        "contraction",
        "`q_num_heads`, `kv_num_heads`, `scale`, state",
        linear_attention_macs,
        shaping=Shaping(linear_attention_shape),
    ),
    Record(
        ops("TensorScatter"), tensor_scatter, "written axis fixed; others tied", "structural", shaping=SAME
    ),
)
