"""Two head dims that turn together go together (docs/theory.md#rotary-position-embedding)."""

from __future__ import annotations

from graphprune.labels.algebra import Label
from graphprune.labels.edits import AttributeCount
from graphprune.labels.visit import Visit
from graphprune.ops.heads import Heads, divided, paired, static
from graphprune.ops.record import Record, ops
from graphprune.ops.shaping import SAME


def rotary(visit: Visit) -> None:
    """Default domain: X, cos, sin, positions."""
    _rotary(visit, cosine=1, sine=2)


def contrib_rotary(visit: Visit) -> None:
    """com.microsoft: X, positions, cos, sin."""
    if visit.int_attr("is_packed_batching", 0):
        visit.fix_all("RotaryEmbedding with packed batching is not analysed")
        return
    _rotary(visit, cosine=2, sine=3)


def _rotary(visit: Visit, cosine: int, sine: int) -> None:
    columns = static(visit, cosine, -1)
    found = _heads(visit, columns) if columns else None
    if found is None or not columns:
        visit.fix_all("the head size of RotaryEmbedding is not known")
        return
    heads, size = found
    turned = visit.int_attr("rotary_embedding_dim", 0) or size
    interleaved = visit.int_attr("interleaved", 0) == 1
    pairs = paired(visit, heads.dims, size, turned, interleaved) if turned == 2 * columns else None
    if pairs is None:
        visit.fix(heads.dims, "its rotary pairs cannot be divided")
        pairs = visit.fixed((columns, columns))
    _caches(visit, (cosine, sine), pairs)
    for name, label in (("rotary_embedding_dim", pairs), ("num_heads", heads.heads)):
        if visit.int_attr(name, 0):
            visit.edit(AttributeCount(visit.node, name, label))
    visit.out(visit.axes(0))


def _heads(visit: Visit, columns: int | None) -> tuple[Heads, int] | None:
    """Heads and head dims of X, and the head size; without num_heads it is 2 x columns."""
    width = static(visit, 0, -1)
    if width is None or columns is None:
        return None
    if visit.rank(0) == 4:
        return Heads(visit.axis(0, 1), visit.axis(0, -1)), width
    count = visit.int_attr("num_heads", 0) or width // (2 * columns)
    found = divided(visit, visit.axis(0, -1), width, count)
    return None if found is None else (found, width // count)


def _caches(visit: Visit, positions: tuple[int, int], pairs: Label) -> None:
    for position in positions:
        visit.roles(position, "table")
        *rest, last = visit.axes(position)
        for label in rest:
            visit.fix(label, "it is indexed by position")
        visit.equal(last, pairs)


ROWS = (
    Record(
        ops("RotaryEmbedding"),
        rotary,
        "X = H x D; pairs of D = cos.-1 = sin.-1",
        "parallel",
        "caches, `num_heads`, `rotary_embedding_dim`",
        shaping=SAME,
    ),
    Record(
        ops("RotaryEmbedding", "com.microsoft"),
        contrib_rotary,
        "X = H x D; pairs of D = cos.-1 = sin.-1",
        "parallel",
        "caches, `num_heads`, `rotary_embedding_dim`",
        shaping=SAME,
    ),
    Record(
        ops("GemmaRotaryEmbedding MRotaryEmbedding", "com.microsoft"),
        lambda visit: visit.fix_all(f"{visit.node.op_type} is kept whole"),
        "all axes fixed",
        "frozen",
    ),
)
