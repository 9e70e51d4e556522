"""Values inside a compressed graph that the dense one has too: further aims beside the outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir

from graphprune.axes.goals import Goal
from graphprune.ir.nodes import is_constant
from graphprune.ops import has
from graphprune.ops.torch.call import Tensor
from graphprune.ops.traits import LAYERS, Trait

ROOM = 1 << 22
"""Bytes of a sample's values, at most: the dense model's are kept for many samples."""
CONSTANT = (Trait.BATCH_NORM, Trait.SCALE, Trait.SUM)
"""What may stand behind a layer and only scales or shifts, if its other operands are constants."""


def matched(dense: ir.Model, model: ir.Model, goals: Sequence[Goal]) -> tuple[Goal, ...]:
    """Results of layers that lost weights, behind their scales and shifts; some may have lost width, too.

    Args:
        dense: the model that it was.
        model: the compressed model.
        goals: what is compared anyway.
    """
    before = {value.name: value for node in dense.graph for value in node.outputs}
    taken = {goal.value for goal in goals}
    found = []
    for node in model.graph:
        name = node.outputs[0].name or ""
        if not has(node, *LAYERS) or name not in before or not _shrank(before[name].producer(), node):
            continue
        value = _behind(node.outputs[0], before)
        if value.name and value.name not in taken:
            taken.add(value.name)
            found.append(Goal(value.name, value.name, "values"))
    return tuple(found)


def _shrank(dense: ir.Node | None, node: ir.Node) -> bool:
    """Whether a weight of the layer is smaller, and it is the same layer."""
    if dense is None or dense.op_type != node.op_type:
        return False
    sizes = [[_size(value) for value in each.inputs] for each in (dense, node)]
    return any(0 < after < before for before, after in zip(*sizes, strict=False))


def _size(value: ir.Value | None) -> int:
    """Elements of a constant; 0 for all else."""
    return value.const_value.size if is_constant(value) and value.const_value is not None else 0


def small_enough(
    goals: Sequence[Goal], dense: Mapping[str, Tensor], small: Mapping[str, Tensor]
) -> tuple[Goal, ...]:
    """Those whose values have the same shape in both models, as far as there is room for a sample's."""
    room, found = ROOM, []
    for goal in goals:
        one, two = dense[goal.value], small[goal.value]
        if one.shape == two.shape and two.is_floating_point() and one.nbytes <= room:
            room -= one.nbytes
            found.append(goal)
    return tuple(found)


def _behind(value: ir.Value, known: Collection[str | None]) -> ir.Value:
    """The value behind what scales and shifts this one."""
    while len(uses := list(value.uses())) == 1 and not value.is_graph_output():
        reader = uses[0].node
        others = [each for each in reader.inputs if each is not value]
        after = reader.outputs[0]
        if not has(reader, *CONSTANT) or not all(map(is_constant, others)) or after.name not in known:
            break
        value = after
    return value
