"""What a loss compares in place of an output: numbers before the last Softmax, Sigmoid or ArgMax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from graphprune.axes.outputs import SAME, Judged
from graphprune.ops import has
from graphprune.ops.forms.distributions import distribution
from graphprune.ops.traits import Trait

GoalKind = Literal["classes", "scores", "values"]
"""Logits of a distribution over classes, logits of numbers in [0, 1], and all else."""
DEPTH = 32


@dataclass(frozen=True)
class Goal:
    """A value of the graph whose numbers have to be those of the dense model.

    Attributes:
        output: the output that it stands for.
        value: its name.
        kind: what its numbers are.
        axis: of classes, counted from the end.
        chances: whether they are probabilities already, because no operator makes them from logits.
        tokens: the input with the ids that a language model continues; empty for none.
    """

    output: str
    value: str
    kind: GoalKind
    axis: int = -1
    chances: bool = False
    tokens: str = ""


def find_goals(model: ir.Model, outputs: Sequence[Judged]) -> tuple[Goal, ...]:
    """The goals of all outputs, each value once; outputs that no gradient reaches have none."""
    values = {value.name or "": value for value in model.graph.outputs}
    found: dict[str, Goal] = {}
    for item in outputs:
        for goal in _goals(values[item.name], item):
            found.setdefault(goal.value, goal)
    return tuple(found.values())


def _goals(value: ir.Value, item: Judged) -> Iterator[Goal]:
    inner = list(_before(value, item.name, DEPTH))
    if inner:
        yield from inner
    elif item.kind in ("classes", "tokens"):
        axis = item.axis if item.axis < 0 else item.axis - _rank(value)
        chances = item.scale == "probabilities"
        yield Goal(item.name, item.name, "classes", axis, chances, item.tokens)
    elif item.kind == "scores":
        yield Goal(item.name, item.name, "scores", chances=item.scale != "logits")
    elif item.kind == "values":
        yield Goal(item.name, item.name, "values")


def _before(value: ir.Value | None, output: str, depth: int) -> Iterator[Goal]:
    """Logits from which a value is made by moving, joining or picking alone."""
    node = value.producer() if value is not None else None
    if value is None or node is None or depth == 0:
        return
    source = node.inputs[0] if node.inputs else None
    name = source.name if source is not None and source.producer() is not None else None
    written = distribution(node)
    if written is not None:
        axis = written.axis if written.axis < 0 else written.axis - _rank(written.logits)
        yield Goal(output, written.logits.name or "", "classes", axis)
    elif has(node, Trait.PROBABILITIES, Trait.LOG_PROBABILITIES) and name:
        yield Goal(output, name, "classes", _axis(node, source))
    elif has(node, Trait.SIGMOID) and name:
        yield Goal(output, name, "scores")
    elif has(node, Trait.SELECT) and not _is_floating(value) and name:
        found = list(_before(source, output, depth - 1))
        yield from found or [Goal(output, name, "classes", _axis(node, source))]
    elif has(node, *SAME, Trait.RESHAPE, Trait.TRANSPOSE, Trait.PICK, Trait.CLIP):
        yield from _before(source, output, depth - 1)
    elif has(node, Trait.CONCAT):
        yield from _joined(node, output, depth)


def _joined(node: ir.Node, output: str, depth: int) -> Iterator[Goal]:
    """What each part is made from; parts that are no scores are values, such as boxes beside them."""
    parts = [(value, list(_before(value, output, depth - 1))) for value in node.inputs]
    if not any(found for _, found in parts):
        return
    for value, found in parts:
        yield from found
        if not found and value is not None and value.producer() is not None and _is_floating(value):
            yield Goal(output, value.name or "", "values")


def _axis(node: ir.Node, source: ir.Value | None) -> int:
    """The axis of classes, counted from the end."""
    opset = node.graph.opset_imports.get("", 13) if node.graph is not None else 13
    softmax = has(node, Trait.PROBABILITIES, Trait.LOG_PROBABILITIES)
    last = has(node, Trait.PICK) or (softmax and opset >= 13)
    default = -1 if last else int(softmax)
    axis = node.attributes.get_int("axis", default)
    return axis if axis < 0 else axis - _rank(source)


def _rank(value: ir.Value | None) -> int:
    return len(value.shape) if value is not None and value.shape is not None else 2


def _is_floating(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()
