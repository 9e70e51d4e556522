"""Whether codes that were settled layer by layer bring the whole model closer to the dense one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.kept import Cuts
from graphprune.ir.arrays import Array, Arrays
from graphprune.prune.bias import with_biases
from graphprune.prune.zeroed import zeroed
from graphprune.runtime.session import open_session


def helps(
    analysis: Analysis, cuts: Cuts, replaced: Arrays, biases: Arrays, batches: Sequence[Arrays]
) -> bool:
    """Whether the repaired cut model is nearer to the dense one on this data than the bare one."""
    dense = _outputs(analysis.model, batches)
    bare = _apart(dense, _outputs(_twin(analysis, cuts, {}, {}), batches))
    return _apart(dense, _outputs(_twin(analysis, cuts, replaced, biases), batches)) < bare


def _twin(analysis: Analysis, cuts: Cuts, replaced: Arrays, biases: Arrays) -> ir.Model:
    model = analysis.model.clone()
    for name, array in zeroed(analysis, cuts, replaced).items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    return with_biases(model, biases)


def _outputs(model: ir.Model, batches: Sequence[Arrays]) -> list[list[Array]]:
    session = open_session(model, exact=True, rearrange=False)
    return [list(session.run({name: np.asarray(a) for name, a in feed.items()}).values()) for feed in batches]


def _apart(dense: list[list[Array]], other: list[list[Array]]) -> float:
    """Squared error over variance, summed over the floating outputs of the same shape."""
    total = 0.0
    for place, first in enumerate(dense[0]):
        if first.dtype.kind == "f" and first.shape == other[0][place].shape:
            wide = [
                (np.asarray(a[place], np.float64), np.asarray(b[place], np.float64))
                for a, b in zip(dense, other, strict=True)
            ]
            spread = max(sum(float(a.var()) for a, _ in wide), 1e-30)
            total += sum(float(((a - b) ** 2).mean()) for a, b in wide) / spread
    return total
