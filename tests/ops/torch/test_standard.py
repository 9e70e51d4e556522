"""Every operator of ai.onnx on the onnx package's own cases, against ONNX Runtime where that runs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import ModelError
from graphprune.ops import BY_OP
from graphprune.runtime.session import open_session
from tests.ops.torch.running import matches
from tools.torch_zoo import RANDOM

pytestmark = pytest.mark.zoo

LATEST = 26
REFUSED = {
    "test_roialign_mode_max": "no maxima",
    "test_scan_sum": "Scan of opset 8 runs over a batch",
}
"""Forms of operators that torch does not run, with a part of the message that says so."""
TYPES = ("STRING", "FLOAT4E2M1", "FLOAT8E8M0")
"""Types that torch lacks."""
SMALL_INTEGERS = tuple(
    np.dtype(each) for each in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2)
)


@cache
def cases() -> dict[str, list[Any]]:
    """Cases by operator, those that are the body of one left out."""
    from onnx.backend.test.case.node import collect_testcases

    found = defaultdict(list)
    with np.errstate(all="ignore"):
        for case in collect_testcases(None):
            versions = {each.domain: each.version for each in case.model.opset_import}
            whole = not case.name.endswith("_expanded") and "training_dropout" not in case.name
            if versions.get("", 0) <= LATEST and whole and not _odd(case):
                found[case.model.graph.node[-1].op_type].append(case)
    return found


def _odd(case: Any) -> bool:
    """Whether torch lacks a type of it."""
    odd = {ir.DataType[name].value for name in TYPES}
    values = [*case.model.graph.input, *case.model.graph.output]
    return any(
        {v.type.tensor_type.elem_type, v.type.sequence_type.elem_type.tensor_type.elem_type} & odd
        for v in values
    )


def _array(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_array(each) for each in value]
    return value if value is None or isinstance(value, np.ndarray) else _stored(value)


def _stored(value: Any) -> np.ndarray:
    return np.asarray(value) if isinstance(value, np.generic) else ir.from_proto(value).numpy()


def _typed(value: Any, array: Any) -> Any:
    """An array in the type that the model declares, which numpy may have lacked."""
    kind = ir.DataType(value.type.tensor_type.elem_type)
    if not isinstance(array, np.ndarray) or kind in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return array
    same = array.dtype.itemsize == np.dtype(kind.numpy()).itemsize and array.dtype.kind in "iu"
    return array.view(kind.numpy()) if kind.is_floating_point() and same else array.astype(kind.numpy())


def _flat(outputs: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Elements of a sequence by themselves."""
    for name, value in outputs.items():
        if isinstance(value, list):
            yield from ((f"{name}[{at}]", each) for at, each in enumerate(value))
        elif value is not None:
            yield name, value


def feeds_of(case: Any) -> dict[str, Any]:
    """The inputs of a case by name."""
    inputs = case.data_sets[0][0]
    return {v.name: _typed(v, _array(a)) for v, a in zip(case.model.graph.input, inputs, strict=True)}


def _unbounded(array: Any) -> Any:
    """Infinite where ONNX Runtime writes the lowest number for a masked score, as the standard has it."""
    if array.dtype != np.float32 or not array.size or array.min() > np.finfo(np.float32).min:
        return array
    return np.where(array == np.finfo(np.float32).min, -np.inf, array)


def _representable(
    feeds: Mapping[str, Any], expected: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Without numbers that an integer type has no room for: the standard leaves open what becomes of them."""
    name, result = next(iter(expected.items()))
    if result.dtype not in SMALL_INTEGERS:
        return dict(feeds), dict(expected)
    kind = ml_dtypes.iinfo(result.dtype)
    source = feeds["input"].astype(np.float64)
    there = (source >= float(kind.min)) & (source <= float(kind.max))
    return {**feeds, "input": feeds["input"][there]}, {name: result[there]}


def _runs(case: Any) -> None:
    model, outputs, feeds = ir.from_proto(case.model), case.data_sets[0][1], feeds_of(case)
    expected = {v.name: _typed(v, _array(a)) for v, a in zip(case.model.graph.output, outputs, strict=True)}
    expected = dict(_flat(expected))
    plain = all(isinstance(array, np.ndarray) for array in feeds.values())
    tolerance = 1e-4
    try:
        if plain:
            expected = {
                name: _unbounded(array)
                for name, array in open_session(model, optimise=False).run(feeds).items()
            }
    except ModelError:
        tolerance = max(case.rtol, 1e-4)  # no kernel: the onnx package's own figures
        if case.model.graph.node[0].op_type == "CastLike":
            feeds, expected = _representable(feeds, expected)
    matches(model, feeds, expected, tolerance)


@pytest.mark.parametrize("operator", sorted(op for op in BY_OP if ":" not in op))
def test_it_computes_what_onnx_says(operator: str) -> None:
    from graphprune.ops.torch import TABLE
    from graphprune.ops.torch.call import UnsupportedError

    if operator not in TABLE or operator in RANDOM:
        pytest.skip("not here")
    wrong = []
    for case in cases()[operator]:
        try:
            _runs(case)
            assert case.name not in REFUSED, "it runs"
        except UnsupportedError as error:
            if REFUSED.get(case.name, "?") not in error.message:
                wrong.append(f"{case.name}: {error.message}")
        except AssertionError as error:
            wrong.append(f"{case.name}: {[*str(error).splitlines(), ''][0]}")
    assert not wrong, "\n".join(wrong)
