"""Inputs that become constants, so that what depends on them alone is decided once."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.arrays import Array
from graphprune.ir.names import escape, quote

MOST = 1 << 26
"""Elements of an input that one number fills."""
MOST_SHOWN = 80
"""Characters of a content that a message repeats."""
Fixed: TypeAlias = Mapping[str, npt.ArrayLike]
NOTHING: Mapping[str, Array] = MappingProxyType({})


def fix_inputs(model: ir.Model, given: Fixed) -> dict[str, Array]:
    """Turns inputs into initializers of the same name, in place.

    Args:
        model: to change.
        given: contents by name of the input; one number fills an input of any fixed shape.

    Returns:
        The contents, in the type and shape of the inputs.

    Raises:
        ArgumentError: there is no such input, or the contents do not fit it.
    """
    graph = model.graph
    inputs = {value.name or "": value for value in graph.inputs}
    for name in given:
        if name not in inputs:
            raise ArgumentError(
                f"cannot fix {quote(name)}: the model has no such input", did_you_mean(name, inputs)
            )
    arrays = {name: _fitting(inputs[name], content) for name, content in given.items()}
    if arrays and arrays.keys() >= inputs.keys():
        raise ArgumentError("cannot fix every input of the model", "leave the one that carries the data")
    for name, array in arrays.items():
        value = inputs[name]
        graph.inputs.remove(value)
        value.const_value = ir.Tensor(array, name=name)
        value.shape = ir.Shape(array.shape)
        graph.initializers[name] = value
    return arrays


def as_lists(fixed: Fixed) -> dict[str, object]:
    """The same as numbers and nested lists, for files."""
    return {name: _array(name, content).tolist() for name, content in fixed.items()}


def same(one: Fixed, two: Fixed) -> bool:
    """Whether both fix the same inputs to the same contents; one number stands for an array of it."""
    if one.keys() != two.keys():
        return False
    pairs = ((_array(name, one[name]), _array(name, two[name])) for name in one)
    return all((not a.ndim or not b.ndim or a.shape == b.shape) and bool(np.all(a == b)) for a, b in pairs)


def _shown(content: npt.ArrayLike) -> str:
    text = escape(repr(content))
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _array(name: str, content: npt.ArrayLike) -> Array:
    try:
        return np.asarray(content)
    except (ValueError, TypeError):
        raise ArgumentError(f"cannot fix {quote(name)}: {_shown(content)} is no array") from None


def _fitting(value: ir.Value, content: npt.ArrayLike) -> Array:
    """The content in the type and the shape of an input."""
    where = f"cannot fix {quote(value.name or '')}"
    if value.dtype is None or value.dtype == ir.DataType.STRING or not isinstance(value.type, ir.TensorType):
        raise ArgumentError(f"{where}: it holds no numbers")
    array, wanted = _array(value.name or "", content), np.dtype(value.dtype.numpy())
    if array.dtype.kind not in "biuf" or not array.size or (array.dtype.kind == "b" and wanted.kind != "b"):
        raise ArgumentError(f"{where}: {_shown(content)} holds no numbers")
    with np.errstate(all="ignore"):
        converted = array.astype(wanted)
        exact = wanted.kind not in "biu" or np.array_equal(converted.astype(array.dtype), array)
    if not exact or not np.isfinite(array).all():
        raise ArgumentError(f"{where} to {_shown(content)}: it holds {value.dtype.name.lower()}")
    dims = None if value.shape is None else [d if isinstance(d, int) else None for d in value.shape]
    if array.ndim == 0 and dims is not None and None not in dims:
        if prod(d for d in dims if d is not None) > MOST:
            raise ArgumentError(f"{where}: it has more than {MOST} elements")
        return np.full(tuple(d for d in dims if d is not None), converted)
    fits = dims is None or (
        len(dims) == array.ndim and all(d in (None, n) for d, n in zip(dims, array.shape, strict=True))
    )
    if not fits:
        shown = ", ".join("?" if dim is None else str(dim) for dim in dims or ())
        raise ArgumentError(
            f"{where}: the input has shape ({shown}), what is given has {array.shape}",
            "write a list with all its elements, such as --fix name=[1,2]",
        )
    return converted
