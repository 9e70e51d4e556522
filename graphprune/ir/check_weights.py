"""Operator rules for what has weights: convolutions, products, norms, recurrent layers."""

from __future__ import annotations

from graphprune.ir.check_view import Dims, Op, Rule


def conv(op: Op) -> None:
    """Weight [out, in/group, ...], bias [out]."""
    x, w = op.shape(0), op.shape(1)
    group = _group(op)
    window(op, w)
    if w is None:
        return
    out, per_group = w[0], w[1]
    if out is not None:
        op.require(out % group == 0, f"group {group} does not divide {out} output channels")
    _rank(op, x, w)
    if x is not None and x[1] is not None and per_group is not None:
        op.require(
            x[1] == per_group * group, f"weight expects {per_group * group} channels, input has {x[1]}"
        )
    op.require_dims(2, (out,), "bias")


def conv_transpose(op: Op) -> None:
    """Weight [in, out/group, ...], bias [out]."""
    x, w = op.shape(0), op.shape(1)
    group = _group(op)
    window(op, w)
    if w is None:
        return
    if w[0] is not None:
        op.require(w[0] % group == 0, f"group {group} does not divide {w[0]} input channels")
    _rank(op, x, w)
    if x is not None and x[1] is not None and w[0] is not None:
        op.require(x[1] == w[0], f"weight expects {w[0]} channels, input has {x[1]}")
    op.require_dims(2, (None if w[1] is None else w[1] * group,), "bias")


def _group(op: Op) -> int:
    group = op.integer("group", 1)
    op.require(group >= 1, f"group is {group}")
    return group


def _rank(op: Op, x: Dims | None, w: Dims) -> None:
    op.require(len(w) >= 3, f"weight has rank {len(w)}")
    if x is not None:
        op.require(len(x) == len(w), f"input has rank {len(x)}, weight rank {len(w)}")


def window(op: Op, w: Dims | None) -> None:
    """kernel_shape, strides, dilations and pads agree with the weight's spatial rank."""
    kernel = op.integers("kernel_shape")
    if w is not None and kernel is not None:
        spatial = list(w[2:])
        same = len(kernel) == len(spatial) and all(
            b in (None, a) for a, b in zip(kernel, spatial, strict=True)
        )
        op.require(same, f"kernel_shape {kernel} differs from the weight's {spatial}")
    rank = len(w) - 2 if w is not None else len(kernel) if kernel is not None else None
    _window_attributes(op, rank)


def _window_attributes(op: Op, rank: int | None) -> None:
    for name, least in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", None)):
        values = op.integers(name)
        if values is None:
            continue
        if least is not None:
            op.require(min(values, default=least) >= least, f"{name} {values} has a value below {least}")
        if rank is not None:
            needed = rank * 2 if name == "pads" else rank
            op.require(len(values) == needed, f"{name} {values} needs {needed} values")


def pool(op: Op) -> None:
    """Window attributes fit the input's rank."""
    kernel = op.integers("kernel_shape")
    x = op.shape(0)
    _window_attributes(op, len(x) - 2 if x is not None else None if kernel is None else len(kernel))


def gemm(op: Op) -> None:
    """A [m, k] times B [k, n] plus C that broadcasts to [m, n]."""
    a, b = op.shape(0), op.shape(1)
    for shape, name in ((a, "A"), (b, "B")):
        op.require(shape is None or len(shape) == 2, f"{name} is not a matrix")
    if a is None or b is None:
        return
    m, k = reversed(a) if op.integer("transA", 0) else a
    k_too, n = reversed(b) if op.integer("transB", 0) else b
    op.require(None in (k, k_too) or k == k_too, f"inner dimensions differ: {k} and {k_too}")
    c = op.shape(2)
    if c is not None:
        op.require(len(c) <= 2, f"C has rank {len(c)}")
        for have, want in zip(reversed(c), (n, m), strict=False):
            op.require(
                None in (have, want) or have in (1, want), f"C of shape {list(c)} does not fit {[m, n]}"
            )


def matmul(op: Op) -> None:
    """The inner dimensions agree."""
    a, b = op.shape(0), op.shape(1)
    if not a or not b:
        op.require(a != () and b != (), "an input is a scalar")
        return
    k, k_too = a[-1], b[-2] if len(b) > 1 else b[0]
    op.require(None in (k, k_too) or k == k_too, f"inner dimensions differ: {k} and {k_too}")


def per_channel(*inputs: tuple[int, str]) -> Rule:
    """Vectors with one value per channel of the first input."""

    def rule(op: Op) -> None:
        x = op.shape(0)
        channels = x[1] if x is not None and len(x) > 1 else None
        for index, name in inputs:
            vector = op.shape(index)
            if vector is not None:
                op.require(len(vector) == 1, f"{name} has rank {len(vector)}")
            op.require_dims(index, (channels,), name)

    return rule


def group_norm(op: Op) -> None:
    """Groups divide the channels; scale and bias are per channel or, up to opset 20, per group."""
    x, groups = op.shape(0), op.integer("num_groups", 0)
    op.require(groups >= 1, f"num_groups is {groups}")
    if x is None or len(x) < 2 or x[1] is None:
        return
    op.require(x[1] % groups == 0, f"num_groups {groups} does not divide {x[1]} channels")
    for index, name in ((1, "scale"), (2, "bias")):
        vector = op.shape(index)
        fits = vector is None or None in vector or vector in ((x[1],), (groups,))
        op.require(fits, f"{name} of shape {vector} does not fit {x[1]} channels in {groups} groups")


def recurrent(gates: int) -> Rule:
    """W [directions, gates*H, input], R [directions, gates*H, H], B [directions, 2*gates*H]."""

    def rule(op: Op) -> None:
        x, hidden = op.shape(0), op.integer("hidden_size", 0) or None
        directions = 2 if op.text("direction", "forward") == "bidirectional" else 1
        rows = None if hidden is None else gates * hidden
        op.require_dims(1, (directions, rows, x[2] if x is not None and len(x) == 3 else None), "W")
        op.require_dims(2, (directions, rows, hidden), "R")
        op.require_dims(3, (directions, None if rows is None else 2 * rows), "B")

    return rule


def axis_attribute(default: int | None, *, end: int = 0) -> Rule:
    """`axis` is inside the rank of the first input."""

    def rule(op: Op) -> None:
        x = op.shape(0)
        if x is not None:
            op.axis("axis", len(x), default, end=end)

    return rule
