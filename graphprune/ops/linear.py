"""MatMul, Gemm, Einsum, Conv, ConvTranspose in all group forms (docs/theory.md#products-and-convolutions)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from graphprune.ir.operators import Shape, Shaping, Sized
from graphprune.labels.algebra import ONE, Label, is_fixed, is_static
from graphprune.labels.edits import AttributeCount, OldPlaces
from graphprune.labels.visit import Visit
from graphprune.ops import counting as macs
from graphprune.ops.counting import At, Place, Term
from graphprune.ops.operands import fix_positions
from graphprune.ops.record import Layer, Record, ops, traits
from graphprune.ops.shaping import conv as conv_shape
from graphprune.ops.traits import Trait

BLOCKS = "group=1, or blocks on both sides that the rest of the graph does not tie crosswise"


def matmul(visit: Visit) -> None:
    """EQ(A.K, B.K); M and N pass; batch axes broadcast."""
    if visit.shape(0) is None or visit.shape(1) is None:
        visit.fix_all("an operand's shape is not known")
        return
    a, b = visit.axes(0), visit.axes(1)
    inner = -2 if len(b) > 1 else -1
    visit.equal(a[-1], b[inner])
    visit.contract(1 if visit.is_constant(0) else 0, inner if visit.is_constant(0) else -1)
    for position, free, contracted in ((0, -2, -1), (1, -1, inner)):
        visit.roles(position, "source")
        visit.role(position, contracted, "sink")
        if visit.rank(position) > 1:
            visit.role(position, free, "source")
    out = _batch(visit) + ([a[-2]] if len(a) > 1 else []) + ([b[-1]] if len(b) > 1 else [])
    visit.out(out)


def _batch(visit: Visit) -> list[Label]:
    ranks = [visit.rank(0) - 2, visit.rank(1) - 2]
    out: list[Label] = []
    for axis in range(-max(*ranks, 0), 0):
        wide = [p for p in (0, 1) if -axis <= ranks[p] and (visit.shape(p) or ())[axis - 2] != ONE]
        if len(wide) == 2:
            visit.equal(visit.axis(0, axis - 2), visit.axis(1, axis - 2))
        out.append(visit.axis(wide[0], axis - 2) if wide else ())
    return out


def gemm(visit: Visit) -> None:
    """EQ(A.K, B.K) after the transpositions; C broadcasts to (M, N)."""
    if visit.shape(0) is None or visit.shape(1) is None:
        visit.fix_all("an operand's shape is not known")
        return
    trans_a, trans_b = visit.int_attr("transA", 0), visit.int_attr("transB", 0)
    a, b = visit.axes(0), visit.axes(1)
    visit.equal(a[0 if trans_a else 1], b[1 if trans_b else 0])
    masked = 1 if visit.is_constant(0) else 0
    visit.contract(masked, (1 if trans_b else 0) if masked else (0 if trans_a else 1))
    rows, columns = a[1 if trans_a else 0], b[0 if trans_b else 1]
    for position, contracted in ((0, 0 if trans_a else 1), (1, 1 if trans_b else 0)):
        visit.roles(position, "source")
        visit.role(position, contracted, "sink")
    if visit.has(2):
        _gemm_bias(visit, rows, columns)
    visit.out([rows, columns])


def _gemm_bias(visit: Visit, rows: Label, columns: Label) -> None:
    visit.roles(2, "bias")
    shape = visit.shape(2) or ()
    for axis, label in zip(range(-len(shape), 0), (rows, columns)[2 - len(shape) :], strict=True):
        if shape[axis] != ONE:
            visit.equal(visit.axis(2, axis), label)


def einsum(visit: Visit) -> None:
    """One label per letter; letters absent from the output are contracted; an ellipsis broadcasts."""
    equation = visit.str_attr("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow or "..." in equation or any(len(set(t)) != len(t) for t in terms):
        visit.fix_all(f"Einsum '{equation}' is not analysed")
        return
    labels: dict[str, Label] = {}
    for position, term in enumerate(terms):
        for axis, letter in enumerate(term):
            size = (visit.shape(position) or ())[axis]
            visit.role(position, axis, "source" if letter in right else "sink")
            if size == ONE:
                continue
            if letter in labels:
                visit.equal(labels[letter], visit.axis(position, axis))
            labels.setdefault(letter, visit.axis(position, axis))
    for letter in dict.fromkeys(c for term in terms for c in term if c not in right):
        _contract_letter(visit, terms, letter)
    visit.out([labels.get(letter, ()) for letter in right])


def _contract_letter(visit: Visit, terms: list[str], letter: str) -> None:
    holders = [p for p, term in enumerate(terms) if letter in term]
    live = [p for p in holders if not visit.is_constant(p)]
    if live:
        visit.contract(live[0], terms[live[0]].index(letter))


def conv(visit: Visit) -> None:
    """group=1: EQ(x.1, W.1), out.1 = W.0; depthwise ties x.1 with W.0; grouped keeps equal blocks."""
    shape, weight = visit.shape(0), visit.shape(1)
    if shape is None or weight is None or not is_static(shape[1]):
        visit.fix_all("an operand's shape is not known")
        return
    if _reads_channels(visit):
        _along_channels(visit)
        return
    groups = visit.int_attr("group", 1)
    channels, outputs = shape[1][0], weight[0][0]
    visit.kernel(1)
    visit.roles(1, "source")
    if groups == 1:
        out = _conv_dense(visit)
    elif groups == channels and outputs == channels:
        out = _conv_depthwise(visit)
    elif groups == channels:
        out = _conv_multiplier(visit, channels, outputs // channels)
    elif visit.tied(0) or not visit.is_constant(1):
        out = _conv_tied(visit, groups, weight_out=0)
    else:
        out = _conv_grouped(visit, groups, weight_out=0)
    _conv_bias(visit, out)
    fix_positions(visit)
    visit.out([visit.axis(0, 0), out, *visit.top()[2:]])


def _reads_channels(visit: Visit) -> bool:
    """ECA: one kernel along [N, 1, C], and as many places as before; elsewhere they are channels."""
    shape, out = visit.shape(0) or (), visit.out_shape() or ()
    single = visit.node.op_type == "Conv" and (visit.shape(1) or ())[:2] == (ONE, ONE)
    producer = visit.value(0).producer()
    inside = producer is not None and producer.graph is visit.node.graph
    along = len(shape) == 3 and shape == out and is_static(shape[2]) and not is_fixed(visit.axis(0, 2))
    return single and inside and along and visit.is_constant(1)


def _along_channels(visit: Visit) -> None:
    visit.kernel(1)
    visit.roles(1, "source")
    label = visit.axis(0, 2)
    visit.contract(0, 2)
    visit.edit(OldPlaces(visit.node, label))
    visit.out([visit.axis(0, 0), (), label])


def _conv_bias(visit: Visit, out: Label) -> None:
    if visit.has(2):
        visit.roles(2, "bias")
        visit.equal(visit.axis(2, 0), out)


def _conv_dense(visit: Visit) -> Label:
    visit.equal(visit.axis(0, 1), visit.axis(1, 1))
    visit.role(1, 1, "sink")
    visit.contract(0, 1)
    return visit.axis(1, 0)


def _conv_depthwise(visit: Visit) -> Label:
    visit.equal(visit.axis(0, 1), visit.axis(1, 0))
    visit.role(1, 0, "scale")
    visit.edit(AttributeCount(visit.node, "group", visit.axis(0, 1)))
    return visit.axis(1, 0)


def _conv_multiplier(visit: Visit, channels: int, multiplier: int) -> Label:
    """Depthwise with several outputs per input: whole inputs go with all their outputs."""
    refined = visit.refine(visit.axis(1, 0), (channels, multiplier))
    if refined is None:
        visit.fix(visit.axis(0, 1), "its depthwise filters cannot be divided")
        return visit.axis(1, 0)
    visit.equal(visit.axis(0, 1), visit.between(refined, 1, channels))
    visit.fix(visit.between(refined, channels, channels * multiplier), "a depthwise multiplier is kept whole")
    visit.edit(AttributeCount(visit.node, "group", visit.axis(0, 1)))
    return refined


def _conv_grouped(visit: Visit, groups: int, weight_out: int) -> Label:
    """Equal counts per block on both sides; the weight's inner axis is a position within the block."""
    x = visit.axis(0, 1)
    visit.balance(x, groups)
    if weight_out == 0:
        out = visit.axis(1, 0)
        visit.blocked(1, 1, groups, x)
        visit.role(1, 1, "sink")
    else:
        visit.equal(x, visit.axis(1, 0))
        visit.role(1, 0, "sink")
        size = (visit.shape(1) or ())[1][0] * groups
        out = visit.fresh((size, size), "out")
        visit.blocked(1, 1, groups, out)
        visit.role(1, 1, "source")
    visit.balance(out, groups)
    visit.contract(0, 1)
    return out


def _conv_tied(visit: Visit, groups: int, weight_out: int) -> Label:
    """The same positions go in every block (needed when one selection cannot balance the blocks)."""
    shape, weight = visit.shape(0) or (), visit.shape(1) or ()
    outer = weight[weight_out][0]
    channels = shape[1][0]
    x = visit.refine(visit.axis(0, 1), (groups, channels // groups))
    rows = visit.axis(1, 0)
    split = visit.refine(rows, (groups, weight[0][0] // groups))
    if x is None or split is None:
        for label in (visit.axis(0, 1), rows, visit.axis(1, 1)):
            visit.fix(label, "its blocks cannot be divided")
        return (
            rows
            if weight_out == 0
            else visit.fixed((groups * weight[1][0],) * 2, "its blocks cannot be divided")
        )
    for blocks in (visit.between(x, 1, groups), visit.between(split, 1, groups)):
        visit.fix(blocks, "whole blocks of a grouped convolution are kept", BLOCKS)
    visit.contract(0, 1)
    visit.role(1, 1 - weight_out, "sink")
    if weight_out == 0:
        visit.equal(visit.between(x, groups, channels), visit.axis(1, 1))
        return split
    visit.equal(x, split)
    return (*visit.fixed((groups, groups), "whole blocks are kept"), *visit.axis(1, 1)) if outer else ()


def conv_transpose(visit: Visit) -> None:
    """EQ(x.1, W.0); group=1: out.1 = W.1; grouped as Conv with the roles swapped."""
    shape, weight = visit.shape(0), visit.shape(1)
    if shape is None or weight is None or not is_static(shape[1]):
        visit.fix_all("an operand's shape is not known")
        return
    groups = visit.int_attr("group", 1)
    visit.kernel(1)
    visit.roles(1, "source")
    if groups == 1:
        visit.equal(visit.axis(0, 1), visit.axis(1, 0))
        visit.role(1, 0, "sink")
        visit.contract(0, 1)
        out = visit.axis(1, 1)
    elif groups == shape[1][0] and weight[1] == ONE:
        out = _conv_depthwise(visit)
    elif visit.tied(0) or not visit.is_constant(1):
        out = _conv_tied(visit, groups, weight_out=1)
    else:
        out = _conv_grouped(visit, groups, weight_out=1)
    _conv_bias(visit, out)
    fix_positions(visit)
    visit.out([visit.axis(0, 0), out, *visit.top()[2:]])


def conv_transpose_macs(at: At) -> list[Term]:
    """Every element of the input is spread over a window of the output channels of its group."""
    return [Term(prod(at.input(0)) * prod(at.input(1)[1:]), (Place.input(0, 1), Place.input(1, 1)))]


def einsum_macs(at: At) -> list[Term]:
    """Operands are contracted from left to right, as ONNX Runtime does; a letter goes once none needs it."""
    left, arrow, right = at.text("equation").replace(" ", "").partition("->")
    shapes = [at.input(position) for position in range(len(at.node.inputs))]
    terms = [_letters(term, len(shape)) for term, shape in zip(left.split(","), shapes, strict=True)]
    letters = [letter for term in terms for letter in term]
    kept = [letter for letter in letters if letter.isdigit()]  # of ellipses, which always stay
    wanted = {*kept, *(right if arrow else _once(letters))}
    sizes: dict[str, int] = {}
    places: dict[str, Place] = {}
    for position, term in enumerate(terms):
        for axis, letter in enumerate(term):
            if shapes[position][axis] > sizes.get(letter, -1):
                sizes[letter], places[letter] = shapes[position][axis], Place.input(position, axis)
    found, held = [], set(terms[0])
    for position, term in enumerate(terms[1:], 1):
        joint = sorted(held | set(term))
        found.append(Term(prod(sizes[x] for x in joint), tuple(places[x] for x in joint)))
        held = set(joint) & wanted.union(*terms[position + 1 :])
    return found


def _letters(term: str, rank: int) -> list[str]:
    """Letters of an operand, an ellipsis as digits that count from the right."""
    if "..." not in term:
        return list(term)
    head, _, tail = term.partition("...")
    return [*head, *(str(axis) for axis in range(rank - len(head) - len(tail), 0, -1)), *tail]


def _once(letters: Sequence[str]) -> list[str]:
    """What an equation without an arrow keeps: letters that come once."""
    return [letter for letter in letters if letters.count(letter) == 1]


def matmul_shape(at: Sized) -> list[Shape | None] | None:
    """The usual form; what broadcasts or does not fit is left to the onnx package."""
    a, b = at.input(0), at.input(1)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2] or (len(b) > 2 and a[:-2] != b[:-2]):
        return None
    return [(*a[:-1], b[-1])]


def gemm_shape(at: Sized) -> list[Shape | None] | None:
    """[M, N] of the operands."""
    a, b = at.input(0), at.input(1)
    if len(a) != 2 or len(b) != 2:
        return None
    return [(a[1 if at.number("transA") == 1 else 0], b[0 if at.number("transB") == 1 else 1])]


WINDOWS = Layer(1, 0, 1, bias=2, channel=1, kernel="columns")
CONV = {
    ops("Conv"): (WINDOWS, traits(Trait.CONVOLUTION)),
    ops("FusedConv", "com.microsoft"): (
        replace(WINDOWS, result="fused"),
        traits(Trait.CONVOLUTION, Trait.ADDS),
    ),
}
ROWS = (
    Record(
        ops("MatMul"),
        matmul,
        "A.K = B.K; batch axes broadcast; M and N pass",
        "contraction",
        "slices the constant operand",
        macs.matmul,
        shaping=Shaping(matmul_shape),
        layer=Layer(1, -1, -2, either=True),
        traits=traits(Trait.PRODUCT),
    ),
    Record(
        ops("Gemm"),
        gemm,
        "A.K = B.K after transposition; C broadcasts to (M, N)",
        "contraction",
        "slices B and C",
        macs.gemm,
        shaping=Shaping(gemm_shape),
        layer=Layer(1, -1, -2, bias=2, either=True),
        traits=traits(Trait.PRODUCT),
    ),
    Record(
        ops("Einsum"),
        einsum,
        "one label per letter; letters absent from the output are contracted",
        "contraction",
        macs=einsum_macs,
        shaping=Shaping(),
        traits=traits(Trait.EINSUM),
    ),
    *(
        Record(
            names,
            conv,
            "x.1 = W.1, out.1 = W.0; depthwise x.1 = W.0; grouped: equal counts per block; ECA: out.2 = x.2",
            "contraction",
            "W, bias, `group`; a Gather on either side along channels",
            macs.conv(),
            shaping=Shaping(conv_shape(last=False), axes="windows"),
            layer=layer,
            traits=what,
        )
        for names, (layer, what) in CONV.items()
    ),
    Record(
        ops("ConvTranspose"),
        conv_transpose,
        "x.1 = W.0, out.1 = W.1; grouped: equal counts per block",
        "contraction",
        "W, bias, `group`",
        conv_transpose_macs,
        shaping=Shaping(axes="windows"),
        layer=Layer(1, 1, 0, bias=2, channel=1, kernel="rows"),
        traits=traits(Trait.CONVOLUTION, Trait.SPREAD),
    ),
)
