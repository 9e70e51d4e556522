"""Which inputs of a model may be changed a little without knowing what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.axes.caches import cache_pairs
from graphprune.ir.arrays import Array
from graphprune.ops import has
from graphprune.ops.traits import Trait

Feed = Mapping[str, Array]
MARKS = 2
"""An input with no more different values is a mask."""
MOVED = (Trait.COPY, Trait.CAST, Trait.RESHAPE, Trait.TRANSPOSE)
"""What may be between ids that come as floats and whole numbers."""


def free_inputs(model: ir.Model, samples: Sequence[Feed]) -> tuple[dict[str, float], bool]:
    """Floating inputs that differ over samples, but for ids, masks, lengths and states.

    Args:
        model: that takes them.
        samples: feeds, one sample each.

    Returns:
        Their standard deviation over all samples, by name; and whether no other input differs over samples,
        so that two samples have a mean.
    """
    kept = {value.name for value in cache_pairs(model.graph)}
    kept |= {value.name for value in model.graph.inputs if _is_counted(value)}
    varying = [name for name in samples[0] if _varies([feed[name] for feed in samples])]
    free = {
        name: spread
        for name in varying
        if name not in kept and (spread := _spread([feed[name] for feed in samples])) > 0
    }
    return free, set(varying) == set(free)


def _is_counted(value: ir.Value) -> bool:
    """Whether a graph reads whole numbers from a value, such as ids that come as floats."""
    for node, position in value.uses():
        if position or not has(node, *MOVED):
            continue
        found = node.outputs[0]
        if found.dtype is not None and found.dtype.is_integer():
            return True
        if _is_counted(found):
            return True
    return False


def _varies(arrays: Sequence[Array]) -> bool:
    return any(one.shape != arrays[0].shape or not np.array_equal(one, arrays[0]) for one in arrays[1:])


def _spread(arrays: Sequence[Array]) -> float:
    """The standard deviation of what may change a little; 0 where it may not."""
    if arrays[0].dtype.kind != "f" or not arrays[0].ndim:
        return 0.0
    seen: set[float] = set()
    for array in arrays:
        if not np.isfinite(array).all():
            return 0.0
        seen |= set(np.unique(array)[: MARKS + 1].tolist())
    if len(seen) <= MARKS:
        return 0.0
    return float(np.sqrt(np.mean([np.asarray(array, np.float64).var() for array in arrays])))
