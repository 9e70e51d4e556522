"""Whether models take the same inputs, and one set of inputs for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from graphprune.axes.assumed import declared
from graphprune.axes.caches import cache_pairs
from graphprune.errors import ArgumentError
from graphprune.ir.element import FLOATS
from graphprune.ir.names import quote
from graphprune.pipeline.onesample import one_sample
from graphprune.pipeline.settings import Running
from graphprune.runtime.dimensions import data_inputs

HINT = "give models that take the same inputs; --fix NAME=VALUE makes one a constant"


def require_alike(models: Sequence[ir.Model], names: Sequence[str]) -> None:
    """Refuse models that cannot run on what the first runs on; caches alone may have lost heads, or gone.

    Raises:
        ArgumentError: the message names the input.
    """
    first = {value.name: value for value in data_inputs(models[0])}
    caches = {value.name for value in cache_pairs(models[0].graph)}
    for model, name in zip(models[1:], names[1:], strict=True):
        own = {value.name: value for value in data_inputs(model)}
        where = f"{quote(name)} takes other inputs than {quote(names[0])}"
        for missing in first.keys() - own.keys() - caches:
            raise ArgumentError(f"{where}: it has no {quote(missing or '')}", HINT)
        for key, value in own.items():
            if key not in first:
                raise ArgumentError(f"{where}: {quote(key or '')} is one of its own", HINT)
            if key not in caches and not _alike(first[key], value):
                both = f"{quote(key or '')} is {_shown(value)}, not {_shown(first[key])}"
                raise ArgumentError(f"{where}: {both}", HINT)


def common_feeds(models: Sequence[ir.Model], settings: Running) -> list[dict[str, np.ndarray]]:
    """Generated inputs of one sample: the same arrays for all, but for caches that are narrower in some.

    The model with the fewest open sizes says how large they are.

    Raises:
        ModelError: no generated input runs.
    """
    base = min(models, key=_open)
    feed = one_sample(base, settings)
    return [fitting(feed, model, settings) for model in models]


def fitting(feed: Mapping[str, np.ndarray], model: ir.Model, settings: Running) -> dict[str, np.ndarray]:
    """The inputs of a model from those of another, in its types and sizes; new ones where it has others."""
    rest = typed(model, feed)
    needed = {value.name or "": value for value in data_inputs(model)}
    if fits(rest, model) and needed.keys() <= rest.keys():
        return rest
    shapes = {**settings.shape, **{name: array.shape for name, array in rest.items()}}
    own = {name: declared(value, shapes[name]) for name, value in needed.items() if name in shapes}
    return one_sample(model, replace(settings, shape=own), rest)


def typed(model: ir.Model, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those inputs of another model that this one has, in its own types."""
    inputs = {value.name or "": value for value in model.graph.inputs}
    return {name: _typed(array, inputs[name]) for name, array in feed.items() if name in inputs}


def fits(feed: Mapping[str, np.ndarray], model: ir.Model) -> bool:
    """Whether arrays have the fixed dims that the model declares for its inputs."""
    for value in model.graph.inputs:
        array = feed.get(value.name or "")
        if array is None or value.shape is None:
            continue
        dims = [dim if isinstance(dim, int) else None for dim in value.shape]
        if any(dim not in (None, size) for dim, size in zip(dims, array.shape, strict=False)):
            return False
    return True


def _typed(array: np.ndarray, value: ir.Value) -> np.ndarray:
    if value.dtype not in FLOATS or array.dtype == value.dtype.numpy():
        return array
    return array.astype(value.dtype.numpy())


def _alike(one: ir.Value, two: ir.Value) -> bool:
    if one.dtype != two.dtype and not {one.dtype, two.dtype} <= FLOATS:
        return False
    if one.shape is None or two.shape is None:
        return True
    if len(one.shape) != len(two.shape):
        return False
    return all(_same(a, b) for a, b in zip(one.shape, two.shape, strict=True))


def _same(one: int | ir.SymbolicDim, two: int | ir.SymbolicDim) -> bool:
    both = (one, two)
    return not all(isinstance(dim, int) and dim > 0 for dim in both) or one == two


def _open(model: ir.Model) -> int:
    shapes = [value.shape for value in data_inputs(model) if value.shape is not None]
    return sum(not isinstance(dim, int) for shape in shapes for dim in shape)


def _shown(value: ir.Value) -> str:
    kind = value.dtype.name.lower() if value.dtype is not None else "of unknown type"
    if value.shape is None:
        return kind
    dims = ", ".join(str(dim) if isinstance(dim, int) else dim.value or "?" for dim in value.shape)
    return f"{kind} ({dims})"
