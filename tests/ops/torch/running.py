"""Runs a model in torch and in ONNX Runtime, and compares as the proof does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from graphprune.runtime.compare import agreement
from graphprune.runtime.exact import unsaturated
from graphprune.runtime.session import open_session


def agrees(model: ir.Model, feeds: Mapping[str, np.ndarray], tolerance: float = 1e-4) -> None:
    """Asserts that torch computes what ONNX Runtime computes where no product of bytes saturates."""
    expected = open_session(unsaturated(model), optimise=False).run(dict(feeds))
    for value in model.graph.outputs:
        array = expected.get(value.name or "")
        if value.type is None and array is not None:
            value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    matches(model, feeds, expected, tolerance)


def matches(
    model: ir.Model, feeds: Mapping[str, object], expected: Mapping[str, np.ndarray], tolerance: float = 1e-4
) -> None:
    """Asserts that torch computes these outputs; NaN stands where NaN is expected."""
    from graphprune.autograd import Differentiable

    net = Differentiable(model)
    found = {name: array for name, array in net.arrays(feeds).items() if name in expected}  # type: ignore[arg-type]
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        if array.shape == found[name].shape:
            assert np.array_equal(_none(array), _none(found[name])), f"{name}: NaN elsewhere"
    agreed = agreement(_without(expected), _without(found), tolerance)
    assert agreed.ok, [(each.name, each.note) for each in agreed.outputs if not each.ok]


def _none(array: np.ndarray) -> np.ndarray:
    """Where there is no number."""
    return array != array


def _without(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.where(_none(array), np.zeros_like(array), array) for name, array in arrays.items()}
