"""Products and convolutions whose operands sit at other positions than those of MatMul and Conv."""

from __future__ import annotations

from dataclasses import dataclass

from graphprune.labels.algebra import ONE, Label, is_static
from graphprune.labels.edits import AttributeCount
from graphprune.labels.visit import Visit

NEIGHBOURS = "another operator: whatever is left would have other neighbours under this one"


def mask_quantised(visit: Visit, position: int, axis: int, zero_point: int | None) -> None:
    """The mask of a contracted axis; a removed slot of a quantised operand reads as its zero point."""
    if zero_point is None or not visit.has(zero_point):
        visit.contract(position, axis)
    elif all(size == ONE for size in visit.shape(zero_point) or ()):
        visit.contract(position, axis, f"input:{zero_point}")
    else:
        visit.fix(visit.axis(position, axis), "its zero point is not the same everywhere")


def whole_blocks(visit: Visit, label: Label, size: int, blocks: int) -> Label | None:
    """Cuts an axis into equal blocks that are kept or removed whole; returns the label of the blocks."""
    if blocks == 0 or size % blocks:
        visit.fix(label, "its last quantisation block is not full")
        return None
    refined = visit.refine(label, (blocks, size // blocks))
    if refined is None:
        return None
    visit.fix(visit.between(refined, blocks, size), "a quantisation block is kept whole")
    return visit.between(refined, 1, blocks)


def all_fixed(visit: Visit, rank: int) -> list[Label]:
    """Fixed labels for the first output, also where its shape is not known."""
    return visit.top() if visit.out_shape() is not None else [()] * rank


def fix_positions(visit: Visit, position: int = 0, channel: int = 1) -> None:
    """Every axis but batch and channel is fixed: the operator reads its neighbouring positions together."""
    axes = visit.axes(position)
    for axis, label in enumerate(axes):
        if axis not in (0, channel % len(axes)):
            visit.fix(label, f"{visit.node.op_type} works along it", NEIGHBOURS)


def per_slot(visit: Visit, position: int, label: Label, role: str = "scale") -> None:
    """A scale, zero point or bias with one element per slot of `label`; a single element is left alone."""
    if not visit.has(position):
        return
    visit.roles(position, role)
    shape = visit.shape(position)
    if shape is None:
        visit.fix(label, f"the shape of input {position} of {visit.node.op_type} is not known")
        return
    for axis, size in enumerate(shape):
        if size != ONE and axis == len(shape) - 1:
            visit.equal(visit.axis(position, axis), label)
        elif size != ONE:
            visit.fix(visit.axis(position, axis), f"{visit.node.op_type} fixes it")
            visit.fix(label, f"input {position} of {visit.node.op_type} has several axes")


@dataclass(frozen=True)
class Product:
    """A matrix product A.B with optional transpositions.

    Attributes:
        a: input position of A[..., M, K].
        b: input position of B[..., K, N].
        a_zero: position of A's zero point, if A is quantised.
        b_zero: position of B's zero point, if B is quantised.
        trans_a: A is [..., K, M].
        trans_b: B is [..., N, K].
    """

    a: int = 0
    b: int = 1
    a_zero: int | None = None
    b_zero: int | None = None
    trans_a: bool = False
    trans_b: bool = False

    def visit(self, visit: Visit) -> tuple[list[Label], Label] | None:
        """States EQ(A.K, B.K) and the masks; returns (labels of the result, N), None without shapes."""
        if visit.shape(self.a) is None or visit.shape(self.b) is None:
            visit.fix_all("an operand's shape is not known")
            return None
        a, b = visit.axes(self.a), visit.axes(self.b)
        a_inner = -2 if self.trans_a and len(a) > 1 else -1
        b_inner = -1 if self.trans_b or len(b) == 1 else -2
        visit.equal(a[a_inner], b[b_inner])
        self._roles(visit, self.a, a_inner)
        self._roles(visit, self.b, b_inner)
        self._mask(visit, a_inner, b_inner)
        rows = [a[-3 - a_inner]] if len(a) > 1 else []
        columns = [b[-3 - b_inner]] if len(b) > 1 else []
        return [*self._batch(visit), *rows, *columns], columns[0] if columns else ()

    @staticmethod
    def _roles(visit: Visit, position: int, inner: int) -> None:
        visit.roles(position, "source")
        visit.role(position, inner, "sink")

    def _mask(self, visit: Visit, a_inner: int, b_inner: int) -> None:
        position, axis, zero = self.a, a_inner, self.a_zero
        if visit.is_constant(self.a) and not visit.is_constant(self.b):
            position, axis, zero = self.b, b_inner, self.b_zero
        mask_quantised(visit, position, axis, zero)

    def _batch(self, visit: Visit) -> list[Label]:
        ranks = {p: visit.rank(p) - 2 for p in (self.a, self.b)}
        out: list[Label] = []
        for axis in range(-max(*ranks.values(), 0), 0):
            holders = [p for p in ranks if -axis <= ranks[p] and (visit.shape(p) or ())[axis - 2] != ONE]
            if len(holders) == 2:
                visit.equal(visit.axis(self.a, axis - 2), visit.axis(self.b, axis - 2))
            out.append(visit.axis(holders[0], axis - 2) if holders else ())
        return out


@dataclass(frozen=True)
class Convolution:
    """A convolution with W[Co, Ci/g, k...].

    Attributes:
        x: input position of the activation.
        w: input position of the weight.
        x_zero: position of the activation's zero point, if it is quantised.
        channel: the channel axis of the activation and of the result.
    """

    x: int = 0
    w: int = 1
    x_zero: int | None = None
    channel: int = 1

    def visit(self, visit: Visit) -> Label | None:
        """Returns the label of the output channels (docs/theory.md#products-and-convolutions)."""
        shape, weight = visit.shape(self.x), visit.shape(self.w)
        if shape is None or weight is None or not is_static(shape[self.channel]):
            visit.fix_all("an operand's shape is not known")
            return None
        groups, channels = visit.int_attr("group", 1), shape[self.channel][0]
        visit.kernel(self.w)
        visit.roles(self.w, "source")
        x, rows = visit.axis(self.x, self.channel), visit.axis(self.w, 0)
        if groups == 1:
            visit.equal(x, visit.axis(self.w, 1))
            visit.role(self.w, 1, "sink")
        elif groups == channels == weight[0][0]:
            visit.equal(x, rows)
            visit.role(self.w, 0, "scale")
            visit.edit(AttributeCount(visit.node, "group", x))
            return rows
        else:
            self._grouped(visit, x, rows, groups)
        mask_quantised(visit, self.x, self.channel, self.x_zero)
        return rows

    def _grouped(self, visit: Visit, x: Label, rows: Label, groups: int) -> None:
        if visit.tied(0) or not visit.is_constant(self.w):
            reason = "the blocks of a quantised or channel-last grouped convolution are kept whole"
            for label in (x, rows, visit.axis(self.w, 1)):
                visit.fix(label, reason)
            return
        visit.balance(x, groups)
        visit.balance(rows, groups)
        visit.blocked(self.w, 1, groups, x)
        visit.role(self.w, 1, "sink")

    def result(self, visit: Visit, channels: Label) -> list[Label]:
        """The labels of the result: batch and channels pass, spatial axes are fixed."""
        fix_positions(visit, self.x, self.channel)
        out = all_fixed(visit, visit.rank(self.x))
        out[0], out[self.channel] = visit.axis(self.x, 0), channels
        return out
