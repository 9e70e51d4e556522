"""Normalisers whose statistics run over kept slots only: what an inexact cut declares that it computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from graphprune.errors import GraphpruneError
from graphprune.ir.arrays import Bools
from graphprune.ir.graft import Graft
from graphprune.ir.names import called


class CannotNormaliseError(GraphpruneError):
    """An inexact normaliser has no form over kept slots."""


def over_kept(graft: Graft, node: ir.Node, mask: Bools) -> None:
    """Makes a normaliser of the reference compute over the kept slots of its width."""
    write = TABLE.get(node.op_type)
    if write is None:
        raise CannotNormaliseError(f"{called(node)} has no reference over kept slots")
    write(graft, node, mask)
    if not any(out.uses() or out.is_graph_output() for out in node.outputs):
        assert isinstance(node.graph, ir.Graph)
        node.graph.remove(node, safe=True)


def _mean(graft: Graft, node: ir.Node, mask: Bools) -> None:
    """A mean of masked slots divides by all of them: n/n' makes it the mean of the kept ones."""
    out = node.outputs[0]
    ratio = np.array(len(mask) / mask.sum(), _numpy(out))
    corrected = graft.after(out, "Mul", out, graft.constant(ratio))
    corrected.dtype = out.dtype or ir.DataType.FLOAT
    producer = corrected.producer()
    assert producer is not None
    graft.supersede(out, corrected, {producer})


def _layer_norm(graft: Graft, node: ir.Node, mask: Bools) -> None:
    x = node.inputs[0]
    assert x is not None
    _write(graft, node, x, _at(node, 1), _at(node, 2), mask, 1e-5)


def _instance_norm(graft: Graft, node: ir.Node, mask: Bools) -> None:
    """A GroupNorm in primitive operators, [N, groups, slots]: scale and bias are one number per row."""
    x, column = node.inputs[0], graft.constant(np.array([-1, 1]))
    assert x is not None
    scale, bias = (
        _behind(graft, node, "Reshape", value, column) for value in node.inputs[1:3] if value is not None
    )
    _write(graft, node, x, scale, bias, mask, 1e-5)


def _skip_layer_norm(graft: Graft, node: ir.Node, mask: Bools) -> None:
    """Input + skip + bias, then the norm; output 3 is the sum."""
    first, skip = node.inputs[0], node.inputs[1]
    assert first is not None and skip is not None
    total = _behind(graft, node, "Add", first, skip)
    bias = _at(node, 4)
    if bias is not None:
        total = graft.after(total, "Add", total, bias)
    if len(node.outputs) > 3:
        graft.supersede(node.outputs[3], total, set())
    _write(graft, node, total, _at(node, 2), _at(node, 3), mask, 1e-12)


def _embed_layer_norm(graft: Graft, node: ir.Node, mask: Bools) -> None:
    """The operator itself still looks up and adds; only its norm is written out."""
    if len(node.outputs) < 3:
        node.resize_outputs(3)
    total = node.outputs[2]
    total.name = total.name or f"{node.outputs[0].name}.sum"
    total.dtype = total.dtype or node.outputs[0].dtype or ir.DataType.FLOAT
    _write(graft, node, total, _at(node, 5), _at(node, 6), mask, 1e-12)


def _write(
    graft: Graft,
    node: ir.Node,
    x: ir.Value,
    scale: ir.Value | None,
    bias: ir.Value | None,
    mask: Bools,
    default: float,
) -> None:
    """Y = (x - mean) / sqrt(variance + epsilon) * scale + bias; both moments are products with the mask."""
    kind = x.dtype or ir.DataType.FLOAT
    epsilon = node.attributes.get_float("epsilon", default)
    weights = graft.constant(mask.astype(np.float32).reshape(-1, 1))
    share = graft.constant(np.array(1 / mask.sum(), np.float32))
    wide = _behind(graft, node, "Cast", x, to=ir.DataType.FLOAT.value)
    total = graft.after(wide, "MatMul", wide, weights)
    mean = graft.after(total, "Mul", total, share)
    centred = graft.after(mean, "Sub", wide, mean)
    square = graft.after(centred, "Mul", centred, centred)
    summed = graft.after(square, "MatMul", square, weights)
    variance = graft.after(summed, "Mul", summed, share)
    shifted = graft.after(variance, "Add", variance, graft.constant(np.array(epsilon, np.float32)))
    deviation = graft.after(shifted, "Sqrt", shifted)
    unit = graft.after(deviation, "Div", centred, deviation)
    result = graft.after(unit, "Cast", unit, to=kind.value)
    for op, operand in (("Mul", scale), ("Add", bias)):
        if operand is not None:
            result = graft.after(result, op, result, operand)
    graft.supersede(node.outputs[0], result, set())
    _statistics(graft, node, mean, deviation)


def _statistics(graft: Graft, node: ir.Node, mean: ir.Value, deviation: ir.Value) -> None:
    """Outputs 1 and 2 of a LayerNormalization: the mean and the inverse standard deviation."""
    if node.op_type == "EmbedLayerNormalization":
        return
    if len(node.outputs) > 1:
        graft.supersede(node.outputs[1], mean, set())
    if len(node.outputs) > 2:
        graft.supersede(node.outputs[2], graft.after(deviation, "Reciprocal", deviation), set())


def _behind(graft: Graft, node: ir.Node, op: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
    """A node right behind `node`, where everything that `node` reads is known."""
    out = graft.after(node.outputs[0], op, *inputs, **attributes)
    if "to" not in attributes and inputs[0].dtype is not None:
        out.dtype = inputs[0].dtype
    return out


def _at(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _numpy(value: ir.Value) -> np.dtype[np.generic]:
    return np.dtype((value.dtype or ir.DataType.FLOAT).numpy())


TABLE: dict[str, Callable[[Graft, ir.Node, Bools], None]] = {
    "ReduceMean": _mean,
    "GlobalAveragePool": _mean,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "SkipLayerNormalization": _skip_layer_norm,
    "EmbedLayerNormalization": _embed_layer_norm,
}
