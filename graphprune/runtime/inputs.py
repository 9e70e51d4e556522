"""Inputs that a model accepts when the user has none at hand: seeded, legal, and not degenerate."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.run import Run
from graphprune.runtime.brief import rewriting_pays
from graphprune.runtime.dimensions import SHAPE_HINT, Sizes, candidates, data_inputs, is_rate, resolve
from graphprune.runtime.indices import index_bound
from graphprune.runtime.session import Outputs, RunTimeoutError, Session, open_session

MAX_TRIES = 100
PATIENT = Run(timeout=120.0)
Noise = Callable[[np.ndarray], np.ndarray]
# What becomes of N(0, 1). A logarithm or root wants positive numbers, huge weights want small ones.
NOISES: tuple[Noise, ...] = (
    lambda x: x,
    np.abs,
    lambda x: 1e-3 * np.abs(x),
    lambda x: 1e-9 * np.abs(x),
)


def default_inputs(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    batch: int = 2,
    sizes: Sizes | None = None,
    noise: Noise = NOISES[0],
) -> dict[str, np.ndarray]:
    """Feeds for every input of a model that has no initializer.

    Whatever reaches a lookup is drawn from its rows. Other floats are N(0, 1); masks are 1, booleans
    true, positions count up, 8- and 16-bit integers (images, samples) cover their range, any other
    integer is 1. Open dimensions: the batch, multiples of 32 for images, 16 for the rest.

    Args:
        model: the model; its inputs need a type and a rank.
        shapes: shapes by input name that override the guess.
        seed: of the random numbers; input i uses stream (seed, i).
        batch: the size of batch dimensions.
        sizes: another guess at the open dimensions (see `runnable_inputs`).
        noise: what becomes of numbers drawn from N(0, 1).

    Raises:
        ArgumentError: `shapes` does not fit the model.
        ModelError: an input has no rank, is no tensor, or would be too big.
    """
    sizes = sizes or Sizes(batch=batch)
    concrete = resolve(model, shapes or {}, sizes)
    return {
        name: _values(value, concrete[name], np.random.default_rng([seed, index]), sizes, noise)
        for index, value in enumerate(data_inputs(model))
        if (name := value.name or "")
    }


def runnable_inputs(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int = 2,
    *,
    session: Session | None = None,
    run: Run = PATIENT,
) -> dict[str, np.ndarray]:
    """The first default inputs, over growing sizes, on which the model really runs.

    Where its outputs are not finite there, positive and small inputs are tried at the same sizes.

    Args:
        model: the model.
        shapes: shapes by input name, as for `default_inputs`; these are not varied.
        batch: the batch to prefer; 1 is tried too.
        session: an open session of this model; one is opened otherwise.
        run: the seed, as for `default_inputs`, and the time that all tries may take together.

    Raises:
        ModelError: no guess runs; the first reason is in the message.
    """
    session = session or open_session(model, optimise=rewriting_pays(model), rearrange=False)
    deadline = time.monotonic() + (math.inf if run.timeout is None else run.timeout)
    first = None
    for sizes in itertools.islice(candidates(model, shapes or {}, batch), MAX_TRIES):
        feeds = default_inputs(model, shapes, run.seed, batch, sizes)
        try:
            if _finite(session.run(feeds, _left(deadline))):
                return feeds
        except RunTimeoutError:
            raise
        except ModelError as error:
            first = first or error
            continue
        gentle = (default_inputs(model, shapes, run.seed, batch, sizes, noise) for noise in NOISES[1:])
        return next((other for other in gentle if _runs_finite(session, other, deadline)), feeds)
    reason = first.message if first else "no sizes to try"
    raise ModelError(f"no synthetic input runs: {reason}", SHAPE_HINT)


def _left(deadline: float) -> float | None:
    """Seconds until then, a few at least; None where there is no end."""
    return None if deadline == math.inf else max(deadline - time.monotonic(), 0.01)


def _runs_finite(session: Session, feeds: dict[str, np.ndarray], deadline: float) -> bool:
    try:
        return _finite(session.run(feeds, _left(deadline)))
    except RunTimeoutError:
        raise
    except ModelError:
        return False


def _finite(outputs: Outputs) -> bool:
    """No NaN in any output, and some finite number in each: what a comparison can use."""
    floats = [array for array in outputs.values() if array.size and array.dtype.kind in "fc"]
    return all(not np.isnan(array).any() and np.isfinite(array).any() for array in floats)


def _values(
    value: ir.Value, shape: tuple[int, ...], rng: np.random.Generator, sizes: Sizes, noise: Noise
) -> np.ndarray:
    dtype = value.dtype
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        raise ModelError(f"the input {value.name!r} has no element type")
    if dtype == ir.DataType.STRING:
        return np.full(shape, "a", dtype=object)
    native = np.dtype(dtype.numpy())
    name = (value.name or "").lower()
    if dtype == ir.DataType.BOOL or "mask" in name:
        return np.ones(shape, native)
    bound = index_bound(value)  # some exporters feed indices as floats and cast them
    if bound is not None:
        return rng.integers(0, bound, shape).astype(native)
    if not dtype.is_integer():
        return noise(rng.standard_normal(shape)).astype(native)
    return _integers(value, shape, rng, sizes).astype(native)


def _integers(value: ir.Value, shape: tuple[int, ...], rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    if is_rate(value):
        return np.full(shape, sizes.rate)
    if value.dtype is not None and value.dtype.bitwidth < 32:
        limits = np.iinfo(value.dtype.numpy())
        return rng.integers(limits.min, limits.max, shape, endpoint=True)
    if "position" in (value.name or "").lower() and shape:
        return np.broadcast_to(np.arange(shape[-1]), shape)
    return np.ones(shape, np.int64)
