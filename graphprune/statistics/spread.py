"""Spread of source outputs over calibration data: what a folded BatchNormalization scaled by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group, Slice
from graphprune.axes.labels import Label, is_fixed
from graphprune.runtime.session import open_session

Scores = npt.NDArray[np.float64]
Feed = Mapping[str, npt.NDArray[np.generic]]


def output_spread(
    analysis: Analysis,
    groups: tuple[Group, ...],
    calibration: Sequence[Feed],
    threads: int,
    progress: Callable[[int, int, str], None],
    timeout_s: float | None = None,
) -> dict[str, Scores]:
    """Standard deviation of every source's output per Unit, averaged over the Group's sources.

    On data like the training data this is |gamma| of the BatchNormalization that an exporter folded away
    (methods-general B10.2).
    """
    taps = {group.id: [s for s in group.slices if _tap(s)] for group in groups}
    outputs = sorted({_output(s).name or "" for slices in taps.values() for s in slices})
    sums: dict[str, npt.NDArray[np.float64]] = {}
    session = open_session(analysis.model, threads=threads, extra_outputs=outputs)
    for done, feed in enumerate(calibration):
        found = session.run(dict(feed), timeout_s)
        for slices in taps.values():
            for touched in slices:
                _accumulate(sums, analysis, touched, found[_output(touched).name or ""])
        progress(done + 1, len(calibration), "activation spread")
    return {group.id: _per_unit(group, taps[group.id], sums) for group in groups}


def _tap(touched: Slice) -> bool:
    return touched.role == "source" and bool(touched.use.node.outputs)


def _output(touched: Slice) -> ir.Value:
    return touched.use.node.outputs[0]


def _accumulate(
    sums: dict[str, Scores], analysis: Analysis, touched: Slice, array: npt.NDArray[np.generic]
) -> None:
    axis = _axis(analysis.values.get(_output(touched), ()), touched.length)
    if axis is None:
        return
    rows = np.moveaxis(array.astype(np.float64), axis, 0).reshape(touched.length, -1)
    new = np.stack([np.full(len(rows), rows.shape[1]), rows.sum(axis=1), (rows * rows).sum(axis=1)])
    name = f"{_output(touched).name}"
    sums[name] = sums[name] + new if name in sums else new


def _axis(labels: tuple[Label, ...], length: int) -> int | None:
    fitting = [axis for axis, label in enumerate(labels) if not is_fixed(label) and _length(label) == length]
    return fitting[0] if fitting else None


def _length(label: Label) -> int:
    return int(np.prod([factor.size[0] for factor in label]))


def _per_unit(group: Group, slices: list[Slice], sums: dict[str, Scores]) -> Scores:
    parts = []
    for touched in slices:
        found = sums.get(_output(touched).name or "")
        if found is None:
            continue
        count, total, squares = found
        spread = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
        units, slots = touched.pairs
        mine = np.bincount(units, weights=spread[slots], minlength=group.size)
        parts.append(mine / np.bincount(units, minlength=group.size))
    return np.asarray(np.mean(parts, axis=0)) if parts else np.zeros(group.size)
