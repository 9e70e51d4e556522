"""Moments that a model implies without data: behind a BatchNormalization values are nearly Gaussian."""

from __future__ import annotations

import numpy as np

from graphprune.ir.arrays import Doubles
from graphprune.ops import has
from graphprune.ops.activations import Function, constant_of, function_of
from graphprune.ops.traits import Trait
from graphprune.statistics.measures import Gram
from graphprune.statistics.sites import Site

GRID = np.linspace(-8, 8, 2001)
WEIGHTS = np.exp(-0.5 * GRID**2) / np.exp(-0.5 * GRID**2).sum()
"""Standard normal density on a grid, for moments of any elementwise function."""


def assumed_gram(site: Site) -> Gram | None:
    """Second moments of what a Site reads, if that is a BatchNormalization behind elementwise functions.

    The normalised value of channel c is N(beta_c, gamma_c^2) on data like the training data; channels and
    positions count as independent: diag(variance) + mean mean' (docs/methods.md#moments-without-data).
    """
    chain: list[Function] = []
    value = site.edge
    while True:
        node = value.producer()
        if node is None:
            return None
        if has(node, Trait.BATCH_NORM):
            break
        function = function_of(node)
        if function is None or node.inputs[0] is None:
            return None
        chain.append(function)
        value = node.inputs[0]
    gamma, beta = constant_of(node, 1), constant_of(node, 2)
    if gamma is None or beta is None:
        return None
    mean, variance = moments(beta, gamma, chain[::-1])
    return _gram(site, mean, variance)


def moments(beta: Doubles, gamma: Doubles, chain: list[Function]) -> tuple[Doubles, Doubles]:
    """Mean and variance per channel of a chain of elementwise functions of N(beta, gamma^2)."""
    values = beta[:, None] + gamma[:, None] * GRID
    for function in chain:
        values = function(values)
    mean = values @ WEIGHTS
    return mean, np.maximum((values**2) @ WEIGHTS - mean**2, 0)


def _gram(site: Site, mean: Doubles, variance: Doubles) -> Gram | None:
    columns = site.blocks * site.columns
    if len(mean) * site.column_span != columns:
        return None
    means = np.repeat(mean, site.column_span).reshape(site.blocks, -1)
    spread = np.repeat(variance, site.column_span).reshape(site.blocks, -1)
    return Gram(1.0, means, np.stack([np.diag(block) for block in spread]))
