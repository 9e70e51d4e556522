"""Scores per Unit from weights alone; higher = keep. One function per score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group, Slice
from graphprune.errors import ModelError
from graphprune.ir.arrays import Floats, Scores
from graphprune.ir.mapped import in_place
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.statistics.stored import grid_of


@dataclass
class Weights:
    """Reads tensors and keeps the per-slot sums that several Groups need (each tensor is read once)."""

    analysis: Analysis
    _sums: dict[tuple[ir.Value, int, int, int], Scores] = field(default_factory=dict)

    def tensor(self, touched: Slice) -> Floats:
        """The initializer of a slice as floating numbers, dequantised if that is how it is read.

        The array may lie in the file, unaligned, so that it is read once and not copied first.
        """
        constant = touched.use.value.const_value
        assert constant is not None
        array = cast("Floats", in_place(constant))
        grid = grid_of(touched.use)
        if grid is not None:
            return grid.values(array)
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)

    def slot_sums(self, touched: Slice, power: int) -> Scores:
        """Sum of |w|^power over everything but the slice's axis, per slot."""
        key = (touched.use.value, power, touched.axis, touched.blocks)
        if key not in self._sums:
            self._read(touched, power)
        return self._sums[key]

    def _read(self, touched: Slice, power: int) -> None:
        value, array, blocks = touched.use.value, self.tensor(touched), touched.blocks
        height = len(array) // blocks
        parts = [_both_sums(array[start : start + height], power) for start in range(0, len(array), height)]
        self._sums[(value, power, 0, 1)] = np.concatenate([rows for rows, _ in parts])
        if array.ndim > 1:
            columns = np.concatenate([found for _, found in parts])
            self._sums[(value, power, 1, blocks)] = columns.reshape(blocks * array.shape[1], -1).sum(axis=1)
        if touched.axis > 1:
            magnitude = _magnitude(array, power)
            others = tuple(axis for axis in range(array.ndim) if axis != touched.axis)
            self._sums[(value, power, touched.axis, blocks)] = magnitude.sum(axis=others, dtype=np.float64)


CHUNK = 1 << 19
"""Elements whose magnitudes are held at a time, so that they stay in the cache."""


def _both_sums(array: Floats, power: int) -> tuple[Scores, Scores]:
    """Sums of |w|^power of every row, and of every position within a row."""
    flat = array.reshape(len(array), -1)
    rows, columns = np.empty(len(flat)), np.zeros(flat.shape[1])
    step = max(1, CHUNK // max(1, flat.shape[1]))
    buffer = np.empty((min(step, len(flat)), flat.shape[1]), flat.dtype)
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        magnitude = _magnitude(part, power, buffer[: len(part)])
        rows[start : start + step] = magnitude.sum(axis=1)
        columns += magnitude.sum(axis=0)
    return rows, columns


def _magnitude(array: Floats, power: int, out: Floats | None = None) -> Floats:
    """|w|^power, in double precision where single precision overflows; `out` may hold the result."""
    if power == 1:
        return np.abs(array, out=out)
    with np.errstate(over="ignore"):
        squares = np.square(array, out=out)
    return squares if np.isfinite(squares).all() else np.square(array, dtype=np.float64)


def per_unit(group: Group, touched: Slice, slots: Scores) -> Scores:
    """Sums slot values over the slots that each Unit owns."""
    units, positions = touched.pairs
    return np.bincount(units, weights=slots[positions], minlength=group.size).astype(np.float64, copy=False)


def batch_norm_factor(touched: Slice) -> Scores | None:
    """|gamma| / sqrt(var + eps) of a BatchNormalization that directly follows a source, per output channel.

    Folding it into the norm makes folded and unfolded exports rank alike
    (docs/methods.md#folded-batchnormalization).

    Raises:
        ModelError: a variance is negative.
    """
    norm = _only_reader(touched.use.node)
    if touched.role != "source" or norm is None or not has(norm, Trait.BATCH_NORM):
        return None
    gamma, variance = norm.inputs[1], norm.inputs[4]
    if gamma is None or variance is None or gamma.const_value is None or variance.const_value is None:
        return None
    epsilon = norm.attributes.get_float("epsilon", 1e-5)
    scale = np.abs(np.asarray(gamma.const_value.numpy(), np.float64))
    spread = np.asarray(variance.const_value.numpy(), np.float64) + epsilon
    if (spread <= 0).any():
        raise ModelError(
            f"BatchNormalization '{norm.name or norm.outputs[0].name}' has a negative variance "
            f"('{variance.name}'), so the channels that it scales cannot be ranked",
            "repair the variance in the model, or exclude the group with ignore=[...]",
        )
    factor = scale / np.sqrt(spread)
    return factor if len(factor) == touched.length else None


def _only_reader(node: ir.Node) -> ir.Node | None:
    """The one node that reads a node's result, through Identity nodes; None when there are several."""
    users = list(node.outputs[0].uses())
    while len(users) == 1 and has(users[0][0], Trait.COPY):
        users = list(users[0][0].outputs[0].uses())
    return users[0][0] if len(users) == 1 else None


def scored_slices(group: Group) -> tuple[Slice, ...]:
    """Source slices of weights; whatever floating slices there are when a Group has no source."""
    floating = [s for s in group.slices if _is_float(s)]
    sources = [s for s in floating if s.role == "source" and _rank(s) > 1]
    return tuple(sources or [s for s in floating if s.role == "source"] or floating)


def _is_float(touched: Slice) -> bool:
    tensor = touched.use.value.const_value
    return tensor is not None and (tensor.dtype.is_floating_point() or grid_of(touched.use) is not None)


def _rank(touched: Slice) -> int:
    tensor = touched.use.value.const_value
    return 0 if tensor is None else len(tensor.shape)


def norm(power: int) -> Callable[[Group, Weights], Scores]:
    """The p-norm of all weights that make a Unit, relative to the Group's mean in every weight."""

    def score(group: Group, weights: Weights) -> Scores:
        parts = []
        for touched in once(scored_slices(group)):
            slots = weights.slot_sums(touched, power)
            factor = batch_norm_factor(touched)
            total = per_unit(group, touched, slots if factor is None else slots * factor**power)
            parts.append(total if power == 1 else np.sqrt(total))
        return relative(group, parts)

    return score


def once(slices: tuple[Slice, ...]) -> list[Slice]:
    """The same slots of an initializer once: magnitude does not grow with the number of uses."""
    seen: dict[tuple[ir.Value, int, bytes], Slice] = {}
    for touched in slices:
        seen.setdefault((touched.use.value, touched.axis, touched.positions.tobytes()), touched)
    return list(seen.values())


def relative(group: Group, parts: list[Scores]) -> Scores:
    """Every part divided by its mean over the Group; the average of the parts."""
    total = np.zeros(group.size)
    for part in parts:
        mean = part.mean()
        total += part / mean if 0 < mean < np.inf else part
    return total / max(1, len(parts))


def lamp(group: Group, weights: Weights) -> Scores:
    """w^2_(i) / sum_{j >= i} w^2_(j) in ascending order (LAMP, eq. 1, on Units)."""
    squares = np.zeros(group.size)
    for touched in once(scored_slices(group)):
        squares += per_unit(group, touched, weights.slot_sums(touched, 2))
    order = np.argsort(squares, kind="stable")
    tail = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty(group.size)
    scores[order] = np.divide(squares[order], tail, out=np.zeros(group.size), where=tail > 0)
    return scores


def fpgm(group: Group, weights: Weights) -> Scores:
    """Sum of distances to all other Units of a weight; the most replaceable scores least (FPGM, eq. 4)."""
    return relative(group, [_distances(group, touched, weights) for touched in once(scored_slices(group))])


def _distances(group: Group, touched: Slice, weights: Weights) -> Scores:
    units, slots = touched.pairs
    rows = np.moveaxis(weights.tensor(touched), touched.axis, 0)
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    if touched.blocks > 1 or len(units) % group.size:
        return per_unit(group, touched, weights.slot_sums(touched, 2))
    order = np.argsort(units, kind="stable")
    factor = batch_norm_factor(touched)
    if factor is not None:
        rows = rows * factor[:, None]
    flat = rows[slots[order]].reshape(group.size, -1)
    squares = (flat * flat).sum(axis=1)
    gram = flat @ flat.T
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * gram, 0)).sum(axis=1))


def batch_norm_slices(group: Group) -> list[Slice]:
    """The gammas of unfolded BatchNormalization nodes that a Group owns."""
    return [s for s in group.slices if s.use.position == 1 and has(s.use.node, Trait.BATCH_NORM)]
