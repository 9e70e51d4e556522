"""Carries a choice of weights out on one Layer: score, select, sweep, refit, block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graphprune.errors import PromiseError
from graphprune.ir.arrays import Array, Doubles, Singles
from graphprune.ir.names import quote
from graphprune.prune.masks.layers import Layer
from graphprune.prune.masks.patterns import Keep, Scores
from graphprune.prune.masks.refit import refit

_NOTHING: Doubles = np.empty((0, 0, 0))
Field = Callable[[Singles, Doubles], Scores]
"""Scores of a matrix [rows, columns] whose columns were fed these sums of squares."""


@dataclass(frozen=True)
class Moments:
    """What is known of the input of a Layer, summed over its Sites.

    Attributes:
        squares: [blocks, columns], sums of x^2, for a convolution those of the whole channel at every
            position of its kernel; ones where nothing was measured.
        gram: [blocks, columns, columns], sums of x x^T; empty where only squares were measured.
        fields: [blocks, rows, columns] of what else is known of every weight, by what it is.
    """

    squares: Doubles
    gram: Doubles
    fields: Mapping[str, Singles] = field(default_factory=dict)


@dataclass(frozen=True)
class Masked:
    """A Layer's mask, and its new weights where they are not the old ones; in the stored layout."""

    keep: Keep
    weights: Array | None = None

    def applied(self, layer: Layer) -> Array:
        """The weights under the mask."""
        assert layer.weight.const_value is not None
        dense = np.asarray(layer.weight.const_value.numpy()) if self.weights is None else self.weights
        return np.where(self.keep, dense, np.zeros((), dense.dtype))


def no_moments(layer: Layer) -> Moments:
    """Every input counts the same."""
    site = layer.sites[0]
    return Moments(np.ones((site.blocks, site.columns)), np.empty((0, 0, 0)))


def alike(known: Moments) -> Moments:
    """Moments of the same shapes under which every input counts the same."""
    blocks, columns = known.squares.shape
    gram = np.stack([np.eye(columns)] * blocks) if known.gram.size else known.gram
    return replace(known, squares=np.ones((blocks, columns)), gram=gram)


def moments(layer: Layer, squares: Sequence[Doubles], grams: Sequence[Doubles]) -> Moments:
    """The moments of a Layer from what was measured at each of its Sites, one of the two or both.

    Args:
        layer: the Layer.
        squares: per Site, sums of squares per input channel; where there are none the Grams have them.
        grams: per Site, sums of x x^T, [blocks, columns, columns].

    Raises:
        PromiseError: the calibration data lead to values that are not finite.
    """
    total, products = (
        (each[0] if len(each) == 1 else np.sum(each, axis=0)) if each else _NOTHING
        for each in (squares, grams)
    )
    if not (np.isfinite(total).all() and np.isfinite(products).all()):
        raise PromiseError(
            f"the input of {quote(layer.name)} is not finite on the calibration data",
            "leave the layer out with ignore=, or repair the model or the data",
        )
    gram = layer.gram(products) if grams else products
    return Moments(layer.columns(total) if squares else np.einsum("bii->bi", gram), gram)


def by_block(matrix: Singles, squares: Doubles, score: Field) -> Scores:
    """Scores of all blocks as one matrix."""
    return np.concatenate([score(block, own) for block, own in zip(matrix, squares, strict=True)])


def zeros_first(scores: Scores, matrix: Singles) -> Scores:
    """Scores, in place, by which what is zero already goes before all else."""
    scores[(matrix == 0).reshape(scores.shape)] = -1
    return scores


def refitted(matrix: Singles, start: Singles, keep: Keep, gram: Doubles, damping: float) -> Singles:
    """The masked refit of every block of columns."""
    blocks = [
        refit(block, own, kept, start=begin, damping=damping)
        for block, own, kept, begin in zip(matrix, gram, keep, start, strict=True)
    ]
    result: Singles = np.stack(blocks)
    return result
