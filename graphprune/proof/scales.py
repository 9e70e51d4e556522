"""Values with a full scale of 1: near zero they round as near 1, so differences are relative to that.

A score of 3e-7 out of a Sigmoid carries the kernel's error of 3e-8, which is none of a cut's. What enters the
Sigmoid is compared as well: there a difference that matters shows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.proof.pairing import is_constant

SQUASHING = frozenset({"Sigmoid", "Softmax", "HardSigmoid", "Tanh"})
SHAPED = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Identity"})
PICKED = frozenset({"Slice", "Split", "Gather", "GatherND", "GatherElements", "TopK"})
MOVING = SHAPED | PICKED | {"MaxPool", "ReduceMax", "ReduceMin", "Clip", "Sqrt", "Cast"}
"""Every element of the result lies within the full scale of 1 if those of the first input do."""
JOINING = frozenset({"Concat", "Max", "Min", "Mul"})
"""The same of all inputs."""
FLOATING = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def squashers(value: ir.Value | None) -> frozenset[ir.Node]:
    """The nodes that gave a value its full scale of 1; none if it does not have it."""
    found: set[ir.Node] = set()
    seen: set[ir.Value | None] = set()
    work = [value]
    while work:
        one = work.pop()
        node = None if one is None or one.dtype not in FLOATING else one.producer()
        if node is None:
            return frozenset()
        if node.op_type in SQUASHING:
            found.add(node)
        elif one not in seen:
            seen.add(one)
            work.extend(_sources(node))
    return frozenset(found)


def _sources(node: ir.Node) -> Iterator[ir.Value | None]:
    if node.op_type in MOVING:
        yield node.inputs[0]
    elif node.op_type in JOINING and not any(map(is_constant, node.inputs)):
        yield from node.inputs
    else:
        yield None


def full_scale(array: Array) -> Array:
    """The array with its full scale of 1 beside it, so that differences are relative to that."""
    return np.append(np.ravel(array), np.ones(1, array.dtype))
