"""Normalisers over kept slots keep the type of what they stand for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphprune.ir.graft import Graft
from graphprune.proof.normalisers import over_kept

from .building import model

KEPT = np.array([True, True, False, True])


def test_a_mean_in_half_precision_over_kept_slots_is_of_half_precision() -> None:
    graph = model("(float16[n,4] x) => (float16[n,1] y) { m = ReduceMean <axes = [1]> (x)\n y = Relu(m) }")
    mean, relu = graph.graph
    mean.outputs[0].dtype = ir.DataType.FLOAT16
    over_kept(Graft(graph, "kept"), mean, KEPT)
    (read,) = relu.inputs
    assert read is not None and read.dtype == ir.DataType.FLOAT16


def test_a_norm_of_a_value_whose_type_is_not_known_is_of_single_precision() -> None:
    graph = model(
        "(float[n,4] x) => (float[n,4] y) { a = Relu(x)\n y = LayerNormalization(a, scale) }", scale=(4,)
    )
    relu, norm = graph.graph
    relu.outputs[0].type = None
    over_kept(Graft(graph, "kept"), norm, KEPT)
    types = {node.attributes["to"].as_int() for node in graph.graph if node.op_type == "Cast"}
    assert types == {ir.DataType.FLOAT.value}
