"""What is left of every axis once some Units are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.ir.arrays import Bools, Ids
from graphprune.labels.algebra import Factor, Label

Cuts = Mapping[str, Sequence[int]]
"""Units that stay, by id of the Group; Groups that are not named keep all."""


class Kept:
    """Slots and counts that survive a choice of Units.

    Args:
        analysis: the analysed model.
        cuts: what stays.
    """

    def __init__(self, analysis: Analysis, cuts: Cuts) -> None:
        self.analysis = analysis
        atoms = analysis.state.atoms
        removed = np.zeros(len(atoms), bool)
        for group in analysis.groups:
            if group.id in cuts:
                keep = np.zeros(group.size, bool)
                keep[np.fromiter(cuts[group.id], np.int64)] = True
                removed[group.atoms[~keep]] = True
        self._atoms = atoms
        self._kept = atoms.kept(removed)
        self._counts: dict[int, tuple[Ids, int]] = {}

    def factor(self, factor: Factor) -> Bools:
        """One boolean per position of a factor."""
        if factor.atoms is None:
            return np.ones(factor.size[0], bool)
        return self._kept[self._atoms.find(factor.atoms)]

    def mask(self, label: Label) -> Bools:
        """One boolean per slot of an axis."""
        mask = np.ones(1, bool)
        for factor in label:
            mask = (mask[:, None] & self.factor(factor)[None, :]).ravel()
        return mask

    def count(self, label: Label) -> int:
        """Kept slots of an axis (of static size)."""
        return prod(self._count(factor) for factor in label)

    def _count(self, factor: Factor) -> int:
        if factor.atoms is None:
            return factor.size[0]
        key = id(factor.atoms)
        if key not in self._counts:
            # the array is kept alive, so that its id stays its own
            self._counts[key] = (factor.atoms, int(self.factor(factor).sum()))
        return self._counts[key][1]

    def counts(self, roots: Ids, starts: Ids) -> Ids:
        """Kept slots of many factors at once, whose classes stand one after another, each from its start."""
        found: Ids = np.add.reduceat(self._kept[roots], starts, dtype=np.int64)
        return found

    def touches(self, label: Label) -> bool:
        """Whether any slot of the axis is removed."""
        return any(factor.atoms is not None and self._count(factor) < factor.size[0] for factor in label)
