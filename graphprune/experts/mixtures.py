"""Mixtures of experts: which Groups are experts, and where a layer chooses, computes and joins them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group, Slice
from graphprune.axes.tried import parted
from graphprune.ir.arrays import Ids
from graphprune.labels.algebra import Label
from graphprune.labels.edits import BranchRemoval
from graphprune.labels.state import Contraction
from graphprune.ops import has
from graphprune.ops.traits import Trait

LOSING = frozenset({"-inf", "lowest"})
"""What a removed expert's score reads as, so that it is never chosen."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """One layer of experts.

    Attributes:
        group: the experts.
        chooser: the first node that compares their scores, at input `position` along `axis`.
        slots: place of each expert on that axis.
        selector: the TopK or ArgMax that picks experts; None where all of them are used, or it is inside a
            fused node.
        router: slices of the weights that make the scores.
        stacks: slices of weights that hold all experts along one axis.
        owned: per expert the weights that are its alone, in corresponding order.
        result: the first value that all of them contributed to, and through which alone they act.
        region: the nodes between the experts' weights and the result.
    """

    group: Group
    chooser: ir.Node
    position: int
    axis: int
    slots: Ids
    selector: ir.Node | None
    router: tuple[Slice, ...]
    stacks: tuple[Slice, ...]
    owned: tuple[tuple[ir.Value, ...], ...]
    result: ir.Value
    region: frozenset[ir.Node]

    @property
    def scores(self) -> ir.Value:
        """What experts are chosen by."""
        value = self.chooser.inputs[self.position]
        assert value is not None
        return value


@dataclass(frozen=True)
class Mixtures:
    """All layers of experts in graph order, and why others cannot be read, by id of the Group."""

    found: tuple[Mixture, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


def find_mixtures(analysis: Analysis) -> Mixtures:
    """Finds every Group whose Units compete for tokens and own weights."""
    search = _Search(analysis)
    candidates = search.candidates()
    found, reasons = parted((group.id, search.mixture(group, chosen)) for group, chosen in candidates)
    found.sort(key=lambda item: search.order[item.chooser])
    return Mixtures(tuple(found), reasons)


@dataclass(eq=False)
class _Search:
    analysis: Analysis
    order: dict[ir.Node, int] = field(init=False)

    def __post_init__(self) -> None:
        self.order = {node: number for number, node in enumerate(self.analysis.model.graph)}
        atoms = self.analysis.state.atoms
        self._units: dict[int, tuple[Group, int]] = {}
        for group in self.analysis.groups:
            for unit, leaf in enumerate(atoms.find(group.atoms).tolist()):
                self._units[leaf] = (group, unit)
        self._branches: dict[Group, dict[int, frozenset[ir.Node]]] = {}
        for edit in self.analysis.edits:
            if isinstance(edit, BranchRemoval):
                for group, unit in self._owners(edit.label).values():
                    self._branches.setdefault(group, {})[unit] = edit.branch.nodes

    def _owners(self, label: Label) -> dict[int, tuple[Group, int]]:
        """Group and Unit by slot of an axis; slots without a Unit are left out."""
        if sum(factor.atoms is not None for factor in label) != 1:
            return {}
        factor = next(factor for factor in label if factor.atoms is not None)
        assert factor.atoms is not None
        position, leaf, _ = self.analysis.state.atoms.base(factor.atoms)
        pairs = zip(position.tolist(), leaf.tolist(), strict=True)
        return {slot: self._units[atom] for slot, atom in pairs if atom in self._units}

    def candidates(self) -> list[tuple[Group, Contraction]]:
        """Groups whose Units are compared, each with the first comparison."""
        first: dict[Group, Contraction] = {}
        self.selectors: dict[Group, ir.Node] = {}
        for contraction in self.analysis.contractions:
            node = contraction.node
            chooses = has(node, Trait.SELECT, Trait.PROBABILITIES, Trait.MIXTURE)
            if not chooses or contraction.fill not in LOSING or node not in self.order:
                continue
            for group in {owner[0] for owner in self._scored(contraction).values()}:
                if group not in first or self.order[node] < self.order[first[group].node]:
                    first[group] = contraction
                last = self.order.get(self.selectors.get(group, node), -1)
                if has(node, Trait.SELECT) and last <= self.order[node]:
                    self.selectors[group] = node
        return [(group, first[group]) for group in self.analysis.groups if group in first]

    def _scored(self, contraction: Contraction) -> dict[int, tuple[Group, int]]:
        value = contraction.node.inputs[contraction.position]
        labels = self.analysis.values.get(value, ()) if value is not None else ()
        return self._owners(labels[contraction.axis]) if contraction.axis < len(labels) else {}

    def mixture(self, group: Group, chosen: Contraction) -> Mixture | str:
        """The layer, why it cannot be read, or "" where the Units own nothing."""
        owners = self._scored(chosen)
        slots = np.full(group.size, -1, np.int64)
        for slot, (owner, unit) in owners.items():
            if owner is group:
                slots[unit] = slot
        before = _ancestors(chosen.node, self.order)
        router = tuple(s for s in group.slices if s.use.node in before)
        stacks = tuple(s for s in group.slices if s.use.node not in before and _stacks(s))
        owned = self._owned(group)
        if not stacks and not owned:
            return ""
        if (slots < 0).any():
            return "its experts are not compared one by one"
        joined = self._joined(chosen, stacks, owned)
        if joined is None:
            return "what its experts compute does not come together in one value"
        result, region = joined
        place = (chosen.node, chosen.position, chosen.axis)
        selector = self.selectors.get(group)
        return Mixture(group, *place, slots, selector, router, stacks, owned, result, region)

    def _owned(self, group: Group) -> tuple[tuple[ir.Value, ...], ...]:
        """Per expert the float weights that only its branch reads, in the order of its nodes."""
        branches = self._branches.get(group, {})
        if len(branches) != group.size:
            return ()
        found = []
        for unit in range(group.size):
            mine: list[ir.Value] = []
            for node in sorted(branches[unit], key=lambda n: self.order[n]):
                values = [v for v in node.inputs if v is not None and _is_weight(v, branches[unit])]
                mine += [value for value in values if value not in mine]
            found.append(tuple(mine))
        return tuple(found) if any(found) else ()

    def _joined(
        self, chosen: Contraction, stacks: Sequence[Slice], owned: Sequence[Sequence[ir.Value]]
    ) -> tuple[ir.Value, frozenset[ir.Node]] | None:
        """The first bottleneck with a row per token through which every weight of every expert acts."""
        chooser, tokens = chosen.node, self._tokens(chosen)
        weights = list(dict.fromkeys([*(s.use.value for s in stacks), *(v for each in owned for v in each)]))
        bit = {value: 1 << number for number, value in enumerate(weights)}
        everything = (1 << len(weights)) - 1
        seen: dict[ir.Value, int] = {}
        behind: set[ir.Value] = set()
        last: dict[ir.Value, int] = {}
        region: list[ir.Node] = []
        for node, number in self.order.items():
            mask = 0
            for value in node.inputs:
                if value is not None:
                    mask |= seen.get(value, 0) | bit.get(value, 0)
            follows = node is chooser or any(value in behind for value in node.inputs)
            if mask:
                region.append(node)
                seen.update(dict.fromkeys(node.outputs, mask))
            if not follows:
                continue
            behind.update(node.outputs)
            last.update({out: self._last_use(out) for out in node.outputs})
            out = node.outputs[0]
            through = mask == everything and all(last[v] <= number for v in behind if v is not out)
            if through and self._rows(out, -1) == tokens:
                return out, frozenset(region) & _ancestors(node, self.order)
        return None

    def _tokens(self, chosen: Contraction) -> tuple[int, int] | None:
        value = chosen.node.inputs[chosen.position]
        return None if value is None else self._rows(value, chosen.axis)

    def _rows(self, value: ir.Value, without: int) -> tuple[int, int] | None:
        """Elements along all axes but one, at both points of the symbolic sizes."""
        shape = self.analysis.sizes.shapes.get(value)
        if not shape:
            return None
        rest = [size for axis, size in enumerate(shape) if axis != without % len(shape)]
        return prod(size[0] for size in rest), prod(size[1] for size in rest)

    def _last_use(self, value: ir.Value) -> int:
        if value.is_graph_output():
            return len(self.order)
        users = [user for user, _ in value.uses() if not has(user, Trait.SIZES)]
        return max((self.order.get(user, len(self.order)) for user in users), default=-1)


def _ancestors(node: ir.Node, order: Mapping[ir.Node, int]) -> set[ir.Node]:
    """The node and everything it is computed from."""
    found, work = {node}, [node]
    while work:
        for value in work.pop().inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and producer in order and producer not in found:
                found.add(producer)
                work.append(producer)
    return found


def _stacks(touched: Slice) -> bool:
    """Whether a slice is a weight of all experts; a row of counters is not."""
    tensor = touched.use.value.const_value
    weight = tensor is not None and (len(tensor.shape) > 1 or touched.role == "scale")
    return weight and tensor is not None and tensor.dtype.is_floating_point()


def _is_weight(value: ir.Value, readers: Iterable[ir.Node]) -> bool:
    if value.producer() is not None or value.const_value is None:
        return False
    tensor, mine = value.const_value, set(readers)
    whole = tensor.dtype.is_floating_point() and tensor.size > 1
    return whole and all(user in mine for user, _ in value.uses())
