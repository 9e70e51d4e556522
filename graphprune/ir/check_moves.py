"""Operator rules for what moves or makes data: joins, cuts, lookups, shapes."""

from __future__ import annotations

from graphprune.ir.check_view import Dims, Op, Rule


def concat(op: Op) -> None:
    """Ranks and the other dims agree."""
    shapes = [op.shape(index) for index in range(len(op.node.input))]
    known = [shape for shape in shapes if shape is not None]
    if not known:
        return
    rank = len(known[0])
    axis = op.axis("axis", rank, None)
    for shape in known:
        op.require(len(shape) == rank, f"inputs have ranks {rank} and {len(shape)}")
    for dim in (d for d in range(rank) if d != axis):
        sizes = {shape[dim] for shape in known} - {None}
        op.require(
            len(sizes) <= 1, f"inputs differ in dimension {dim}: {sorted(s for s in sizes if s is not None)}"
        )


def split(op: Op) -> None:
    """Sizes are as many as outputs and sum to the axis."""
    x = op.shape(0)
    attribute = op.integers("split")
    constant = op.constant(1)
    sizes = (
        attribute if attribute is not None else None if constant is None else constant.reshape(-1).tolist()
    )
    axis = op.axis("axis", len(x), 0) if x is not None else None
    if sizes is not None:
        op.require(len(sizes) == len(op.node.output), f"{len(sizes)} sizes for {len(op.node.output)} outputs")
        op.require(min(sizes, default=0) >= 0, f"sizes {sizes} have a negative value")
        if x is not None and axis is not None and x[axis] is not None:
            op.require(sum(sizes) == x[axis], f"sizes {sizes} sum to {sum(sizes)}, the axis has {x[axis]}")


def slices(op: Op) -> None:
    """No step is 0, no axis is named twice."""
    x, axes, steps = op.shape(0), op.constant(3), op.constant(4)
    if steps is not None:
        op.require(bool((steps != 0).all()), "a step is 0")
    if x is not None and axes is not None:
        op.unique_axes(axes.reshape(-1).tolist(), len(x))


def gather(op: Op) -> None:
    """Constant indices are inside the axis."""
    x, indices = op.shape(0), op.constant(1)
    if x is None:
        return
    axis = op.axis("axis", len(x), 0)
    if indices is not None and x[axis] is not None and indices.size:
        _in_range(op, int(indices.min()), int(indices.max()), x[axis])


def gather_nd(op: Op) -> None:
    """Constant index tuples are inside the input."""
    x, indices = op.shape(0), op.constant(1)
    if x is None or indices is None or not indices.ndim or not indices.size:
        return
    batch, width = op.integer("batch_dims", 0), indices.shape[-1]
    op.require(
        batch >= 0 and batch + width <= len(x), f"indices address {batch + width} of {len(x)} dimensions"
    )
    for column in range(width):
        _in_range(op, int(indices[..., column].min()), int(indices[..., column].max()), x[batch + column])


def _in_range(op: Op, low: int, high: int, size: int | None) -> None:
    if size is not None:
        op.require(
            -size <= low and high < size, f"index {low if low < -size else high} is outside {size} elements"
        )


def reshape(op: Op) -> None:
    """A constant shape is well formed and holds as many elements."""
    x, constant = op.shape(0), op.constant(1)
    if constant is None:
        return
    target: list[int] = constant.reshape(-1).tolist()
    op.require(min(target, default=0) >= -1 and target.count(-1) <= 1, f"shape {target} is not valid")
    if op.integer("allowzero", 0):
        op.require(not (0 in target and -1 in target), f"shape {target} has both 0 and -1")
        return
    if x is None or None in x or any(d == 0 and i >= len(x) for i, d in enumerate(target)):
        return
    dims = [x[i] if d == 0 else d for i, d in enumerate(target)]
    have, want = _product(x), _product(tuple(d for d in dims if d != -1))
    fits = have % want == 0 if -1 in target and want else have == want
    op.require(fits, f"{have} elements do not fit shape {target}")


def _product(dims: Dims) -> int:
    product = 1
    for dim in dims:
        product *= dim or 0
    return product


def transpose(op: Op) -> None:
    """`perm` is a permutation of the axes."""
    x, perm = op.shape(0), op.integers("perm")
    if perm is None:
        return
    op.require(sorted(perm) == list(range(len(perm))), f"perm {perm} is not a permutation")
    op.require(x is None or len(x) == len(perm), f"perm {perm} for an input of rank {len(x or ())}")


def pad(op: Op) -> None:
    """Two pads per axis."""
    x, axes = op.shape(0), op.constant(3)
    attribute, constant = op.integers("pads"), op.constant(1)
    pads = attribute if attribute is not None else None if constant is None else constant.reshape(-1).tolist()
    if x is None or pads is None or (op.has_input(3) and axes is None):
        return
    count = len(x) if axes is None else axes.size
    op.require(len(pads) == 2 * count, f"pads has {len(pads)} values, not {2 * count}")
    if axes is not None:
        op.unique_axes(axes.reshape(-1).tolist(), len(x))


def not_negative(index: int) -> Rule:
    """A constant input that holds sizes or counts."""

    def rule(op: Op) -> None:
        sizes = op.constant(index)
        if sizes is not None and sizes.size:
            op.require(int(sizes.min()) >= 0, f"a size is negative: {sizes.reshape(-1).tolist()[:8]}")

    return rule


def arange(op: Op) -> None:
    """The step is not 0."""
    step = op.constant(2)
    if step is not None and step.size:
        op.require(bool(step.reshape(-1)[0] != 0), "the step is 0")


def space_to_depth(op: Op) -> None:
    """There is a block."""
    _block(op)


def _block(op: Op) -> int:
    block = op.integer("blocksize", 0)
    op.require(block >= 1, f"blocksize is {block}")
    return block


def depth_to_space(op: Op) -> None:
    """The block divides the channels."""
    x, block = op.shape(0), _block(op)
    if x is not None and len(x) == 4 and x[1] is not None:
        op.require(x[1] % (block * block) == 0, f"blocksize {block} does not divide {x[1]} channels")
