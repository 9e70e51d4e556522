"""What a model is timed on: one sample, at the sizes that multiply-adds are counted at."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.axes.assumed import concrete_sizes, input_shapes
from graphprune.errors import ModelError
from graphprune.ir.arrays import Array, Arrays
from graphprune.ir.fixed import NOTHING
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.settings import Running
from graphprune.runtime.dimensions import ELEMENT_CAP, Sizes, data_inputs, require_fits, resolve

if TYPE_CHECKING:
    from graphprune.runtime.session import Session

Shapes = Mapping[str, tuple[int, ...]]


def one_sample(
    model: ir.Model, settings: Running, given: Arrays = NOTHING, *, normal: bool = False
) -> dict[str, np.ndarray]:
    """Inputs of a model at the shapes that the user gave, where sizes stay open at those that are assumed.

    Values are those of a batch that is given, cut or repeated to these shapes if the model runs on that, else
    generated. Where it does not run at the sizes that are assumed, they are the first at which it does.

    Args:
        model: to run.
        settings: the shapes, the seed, the time limit.
        given: a batch.
        normal: whether the model is in normal form.

    Raises:
        ModelError: no generated input runs.
        ArgumentError: the shapes do not fit the model.
    """
    from graphprune.runtime.brief import rewriting_pays
    from graphprune.runtime.inputs import default_inputs, runnable_inputs
    from graphprune.runtime.session import RunTimeoutError, open_session

    shapes = _shapes(model, settings.shape, normal)
    if all(name in given and given[name].shape == shape for name, shape in shapes.items()):
        return dict(given)
    session = open_session(model, optimise=rewriting_pays(model), rearrange=False)
    if given:
        made = default_inputs(model, shapes, settings.seed)
        resized = {name: _resized(array, shapes.get(name)) for name, array in given.items()}
        if _runs(session, feed := made | resized, settings):
            return feed
    try:
        return runnable_inputs(model, shapes, batch=1, session=session, run=settings.run)
    except RunTimeoutError:
        raise
    except ModelError:
        return runnable_inputs(model, settings.shape, batch=1, session=session, run=settings.run)


def more_is_open(model: ir.Model, shapes: Shapes) -> bool:
    """Whether inputs without a given shape leave more open than how many samples there are."""
    dims = (list(value.shape or ())[1:] for value in data_inputs(model) if value.name not in shapes)
    return any(not isinstance(dim, int) for each in dims for dim in each)


def _shapes(model: ir.Model, given: Shapes, normal: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of all inputs, at sizes that are assumed unless what is computed at these is huge."""
    require_fits(model, given)
    inputs, one = data_inputs(model), Sizes(batch=1)
    if all(isinstance(dim, int) for value in inputs for dim in value.shape or ()):
        return resolve(model, given, one)
    look = model if normal else model.clone()
    if not normal:
        normalise(look, record_of)
    sizes = concrete_sizes(look, given)
    if any(shape and prod(abs(a) for a, _ in shape) > ELEMENT_CAP for shape in sizes.shapes.values()):
        return resolve(model, given, one)
    found, names = input_shapes(look, sizes), {value.name for value in inputs}
    return resolve(model, {**given, **{name: found[name] for name in found if name in names}}, one)


def _resized(array: Array, shape: tuple[int, ...] | None) -> Array:
    """Cut, and where it is too short repeated, along every axis."""
    if shape is None or array.ndim != len(shape) or not array.size:
        return array
    for axis, size in enumerate(shape):
        if size != array.shape[axis]:
            array = array.take(np.arange(size) % array.shape[axis], axis)
    return array


def _runs(session: Session, feed: Arrays, settings: Running) -> bool:
    from graphprune.runtime.session import RunTimeoutError

    try:
        session.run(feed, settings.timeout)
    except RunTimeoutError:
        raise
    except ModelError:
        return False
    return True
