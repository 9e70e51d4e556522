"""bn-scale on folded models: the spread of a source's output stands for the scale that was folded away."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.axes import analyse
from graphprune.ir.normalise import normalise
from graphprune.statistics.spread import output_spread

SCALES = np.array([4.0, 0.5, 3.0, 0.25], np.float32)


def _model() -> ir.Model:
    """A 1x1 convolution whose rows differ only in their scale, and a reader."""
    model = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        agraph (float[N,1,8,8] x) => (float[N,2,8,8] y) {
            a = Conv<kernel_shape=[1,1]>(x, w)
            b = Relu(a)
            y = Conv<kernel_shape=[1,1]>(b, v)
        }"""
    )
    for name, array in (("w", SCALES.reshape(4, 1, 1, 1)), ("v", np.ones((2, 4, 1, 1), np.float32))):
        value = next(v for node in model.graph for v in node.inputs if v is not None and v.name == name)
        value.const_value = ir.Tensor(array, name=name)
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.FLOAT)
        model.graph.register_initializer(value)
    return model


def _samples() -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [{"x": draw.standard_normal((4, 1, 8, 8)).astype(np.float32)} for _ in range(3)]


def test_spread_is_the_standard_deviation_over_all_batches() -> None:
    model = _model()
    analysis = analyse(model, sizes=normalise(model))
    samples = _samples()
    found = output_spread(analysis, analysis.prunable, samples, 1, lambda done, total, what: None)
    spread = np.std(np.concatenate([feed["x"] for feed in samples]).astype(np.float64))
    np.testing.assert_allclose(found["w:0"], SCALES * spread, rtol=1e-5)


def test_bn_scale_with_calibration_removes_the_channels_of_least_spread() -> None:
    result = graphprune.compile(
        _model(),
        "prune(criterion=bn-scale,ratio=0.5,align=1)",
        calibration={"x": np.concatenate([feed["x"] for feed in _samples()])},
    )
    weight = result.model.graph.initializers["w"].const_value
    assert weight is not None
    assert np.ravel(weight.numpy()).tolist() == [4.0, 3.0]
