"""What each operator demands of its inputs and attributes, where onnx's own checks are silent.

One row per operator. A rule sees known dims and small constants only; what is symbolic passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from graphprune.ir import check_moves as moves
from graphprune.ir import check_weights as weights
from graphprune.ir.check_view import Dims, Op, Rule, Scope
from graphprune.ir.domains import is_default
from graphprune.ir.preflight.structure import subgraphs

RULES: Mapping[str, Rule] = {
    "Conv": weights.conv,
    "ConvInteger": lambda op: weights.window(op, op.shape(1)),
    "QLinearConv": lambda op: weights.window(op, op.shape(3)),
    "ConvTranspose": weights.conv_transpose,
    "MaxPool": weights.pool,
    "AveragePool": weights.pool,
    "LpPool": weights.pool,
    "Gemm": weights.gemm,
    "MatMul": weights.matmul,
    "MatMulInteger": weights.matmul,
    "BatchNormalization": weights.per_channel((1, "scale"), (2, "bias"), (3, "mean"), (4, "variance")),
    "InstanceNormalization": weights.per_channel((1, "scale"), (2, "bias")),
    "GroupNormalization": weights.group_norm,
    "LayerNormalization": weights.axis_attribute(-1),
    "RMSNormalization": weights.axis_attribute(-1),
    "LSTM": weights.recurrent(4),
    "GRU": weights.recurrent(3),
    "RNN": weights.recurrent(1),
    "Concat": moves.concat,
    "Split": moves.split,
    "Slice": moves.slices,
    "Gather": moves.gather,
    "GatherElements": moves.gather,
    "GatherND": moves.gather_nd,
    "Reshape": moves.reshape,
    "Transpose": moves.transpose,
    "Pad": moves.pad,
    "Expand": moves.not_negative(1),
    "Tile": moves.not_negative(1),
    "ConstantOfShape": moves.not_negative(0),
    "Range": moves.arange,
    "DepthToSpace": moves.depth_to_space,
    "SpaceToDepth": moves.space_to_depth,
    "Softmax": weights.axis_attribute(-1),
    "Flatten": weights.axis_attribute(1, end=1),
}


def verify(model: onnx.ModelProto, check_size: Callable[[str, Dims], None]) -> dict[str, Dims]:
    """Apply the rules to every node and `check_size` to every tensor; the main graph's dims by name.

    Raises:
        ModelError: naming the node and the mismatch.
    """
    return _verify_graph(model.graph, None, check_size)


def _verify_graph(
    graph: onnx.GraphProto, outer: Scope | None, check_size: Callable[[str, Dims], None]
) -> dict[str, Dims]:
    scope = Scope.of(graph, outer)
    for name, dims in scope.dims.items():
        check_size(name, dims)
    for node in graph.node:
        rule = RULES.get(node.op_type)
        if rule is not None and is_default(node.domain):
            rule(Op(node, scope))
        if node.attribute:
            for inner in subgraphs(node):
                _verify_graph(inner, scope, check_size)
    return scope.dims
