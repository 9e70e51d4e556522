"""Which slots a Plan leaves, worked out from the leaves of the labels and from nothing else."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.sublayers import find_sublayers
from graphprune.ir.arrays import Array, Bools, Ids
from graphprune.labels.algebra import Label, size_of
from graphprune.labels.state import Axes, Use
from graphprune.prune.plan import Plan


class Survivors:
    """A slot goes as soon as one of the Units behind it goes (docs/theory.md#slots-and-units)."""

    def __init__(self, analysis: Analysis, plan: Plan) -> None:
        self.analysis, self.plan = analysis, plan
        self._atoms = analysis.state.atoms
        self._gone = np.zeros(len(self._atoms), bool)
        for group in analysis.groups:
            stay = np.array(sorted(set(plan.cuts.get(group.id, range(group.size)))), np.int64)
            stay = stay[(stay >= 0) & (stay < group.size)]
            self._gone[self._atoms.find(np.delete(group.atoms, stay))] = True
        self._known: dict[int, tuple[Ids, Bools]] = {}
        self.bypassed = find_sublayers(analysis).named(plan.bypassed) if plan.bypassed else ()

    def mask(self, label: Label, size: int | None = None) -> Bools | None:
        """One boolean per slot of an axis, None when every slot stays.

        Args:
            label: of the axis.
            size: slots that the axis really has, where a factor of the label is symbolic.
        """
        if all(f.atoms is None or self._factor(f.atoms).all() for f in label):
            return None
        mask = np.ones(1, bool)
        for factor, count in zip(label, _lengths(label, size), strict=True):
            one = np.ones(count, bool) if factor.atoms is None else self._factor(factor.atoms)
            mask = np.logical_and.outer(mask, one).ravel()
        return mask

    def _factor(self, atoms: Ids) -> Bools:
        if id(atoms) not in self._known:
            position, leaf, _ = self._atoms.base(atoms)
            stays = np.ones(len(atoms), bool)
            stays[position[self._gone[leaf]]] = False
            self._known[id(atoms)] = (atoms, stays)  # the array is kept alive, so that its id stays its own
        return self._known[id(atoms)][1]

    def counts(self, label: Label) -> tuple[int, int]:
        """(kept, dense) number of slots of an axis."""
        mask, dense = self.mask(label), size_of(label)[0]
        return dense if mask is None else int(mask.sum()), dense

    def touched(self, *labels: Label) -> bool:
        """Whether any slot of any of these axes goes."""
        return any(self.mask(label) is not None for label in labels)

    def ratio(self, *labels: Label) -> float:
        """Dense over kept number of slots of several axes together."""
        counts = [self.counts(label) for label in labels]
        return prod(dense for _, dense in counts) / prod(kept for kept, _ in counts)

    def edge(self, node: ir.Node, position: int) -> Axes:
        """The labels of one input of a node."""
        value = node.inputs[position]
        if value is None:
            return ()
        use = self.analysis.uses.get(Use(node, position))
        return use if use is not None else self.analysis.values.get(value, ())

    def restrict(self, array: Array, labels: Axes) -> Array:
        """The kept slots of a dense tensor on every axis that shrinks."""
        for axis, label in enumerate(labels):
            mask = self.mask(label, array.shape[axis])
            if mask is not None:
                array = np.compress(mask, array, axis=axis)
        return array


def _lengths(label: Label, size: int | None) -> list[int]:
    """Slots per factor; one symbolic factor takes what the others leave of `size`."""
    lengths = [factor.size[0] for factor in label]
    symbolic = [index for index, factor in enumerate(label) if factor.size[0] != factor.size[1]]
    if size is not None and len(symbolic) == 1:
        others = prod(lengths) // lengths[symbolic[0]]
        lengths[symbolic[0]] = size // others
    return lengths


def illegal(analysis: Analysis, plan: Plan) -> list[str]:
    """Why a Plan may not be carried out at all: it names no Group, cuts a pinned one, or empties one."""
    groups = {group.id: group for group in analysis.groups}
    found = _unknown_sublayers(analysis, plan)
    for name, kept in plan.cuts.items():
        group = groups.get(name)
        if group is None:
            found.append(f"the plan cuts group {name!r}, which the model does not have")
        elif sorted(set(kept)) != list(kept) or (kept and not 0 <= kept[0] <= kept[-1] < group.size):
            found.append(f"the plan keeps units of group {name!r} that do not exist, or in no order")
        elif len(kept) < group.size and group.pin is not None:
            found.append(f"the plan cuts group {name!r}, which is pinned: {group.pin.reason}")
        elif len(kept) < group.floor:
            found.append(f"the plan keeps {len(kept)} units of group {name!r}, which needs {group.floor}")
        elif group.block is not None and len(set(_per_block(group.block, kept))) > 1:
            found.append(f"the plan keeps unequal blocks of group {name!r}")
    return found


def _unknown_sublayers(analysis: Analysis, plan: Plan) -> list[str]:
    if not plan.bypassed:
        return []
    sublayers = find_sublayers(analysis)
    known = {item.name for item in sublayers.found}
    return [
        f"the plan removes sublayer {name!r}, which cannot go: {sublayers.reasons.get(name, 'there is none')}"
        for name in plan.bypassed
        if name not in known
    ]


def _per_block(block: Ids, kept: tuple[int, ...]) -> list[int]:
    counts: list[int] = np.bincount(block[list(kept)], minlength=int(block.max()) + 1).tolist()
    return counts
