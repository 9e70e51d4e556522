"""Parameters and multiply-adds of a model, and of what would be left of it after a cut.

What a parameter is stands in `ir.weights`, what a node multiplies in the operator's row (`ops`). MACs
that are not known are None, for a node and so for the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis, walk
from graphprune.axes.assumed import concrete_sizes, input_shapes
from graphprune.axes.groups import Group
from graphprune.axes.kept import Kept
from graphprune.axes.products import Clones, Counted, Elements, Over, Product, Slots, Total
from graphprune.errors import ModelError
from graphprune.ir.arrays import Bools, Ids
from graphprune.ir.bodies import open_body, trips
from graphprune.ir.graphs import nodes_in
from graphprune.ir.shapes import Sizes
from graphprune.ir.weights import find_weights, parameters, stored, stored_bytes
from graphprune.labels.algebra import Factor, Label, is_fixed
from graphprune.labels.atoms import NOTHING
from graphprune.labels.edits import BranchRemoval
from graphprune.labels.state import Axes, Use
from graphprune.ops import has, multiplies, record_of
from graphprune.ops.counting import Place, Term, terms
from graphprune.ops.traits import Trait


@dataclass(frozen=True)
class Cost:
    """Size of a model.

    Attributes:
        params: elements of all weights.
        macs: multiply-adds of one run; None where those of a node are not known.
        bytes: of all stored tensors.
        per_node: multiply-adds by node name, of nodes that multiply.
        inputs: shapes of inputs that multiply-adds are counted at.
    """

    params: int
    macs: int | None
    bytes: int
    per_node: Mapping[str, int | None]
    inputs: Mapping[str, tuple[int, ...]]


def cost(model: ir.Model, shapes: Mapping[str, Sequence[int]], sizes: Sizes | None = None) -> Cost:
    """Counts a model in normal form as it is; `sizes` are its generic ones, if they are at hand."""
    concrete = concrete_sizes(model, shapes, sizes)
    per_node: dict[str, int | None] = {}
    for node in walk(model.graph):
        found = node_terms(node, concrete)
        macs = None if found is None else sum(term.macs for term in found)
        if macs != 0:
            name = node.name or node.op_type
            before = per_node.get(name, 0)
            per_node[name] = None if macs is None or before is None else before + macs
    known = [macs for macs in per_node.values() if macs is not None]
    total = sum(known) if len(known) == len(per_node) else None
    shapes = input_shapes(model, concrete)
    return Cost(parameters(model, record_of), total, stored_bytes(model), per_node, shapes)


def node_terms(node: ir.Node, sizes: Sizes) -> list[Term] | None:
    """The multiply-adds of a node, None where they are not known: a body runs who knows how often."""
    if has(node, Trait.BODY):
        return [] if has(node, Trait.BRANCHES) else _repeated(node, sizes)
    row = record_of(node)
    return [] if row is None else terms(row.macs, node, sizes)


def _repeated(node: ir.Node, sizes: Sizes) -> list[Term] | None:
    """The multiply-adds of all runs of a body; the branch of an If in it is not known to be taken."""
    inner = list(nodes_in(node))
    if not any(multiplies(each) for each in inner):
        return []
    body = open_body(node)
    count = None if body is None else trips(body, sizes.shapes, sizes.data)
    if body is None or count is None or any(has(each, Trait.BRANCHES) for each in inner):
        return None
    found = [node_terms(each, sizes) for each in body.graph]
    known = [sum(term.macs for term in terms) for terms in found if terms is not None]
    return [Term(count[0] * sum(known), ())] if len(known) == len(found) else None


@dataclass
class _Factors:
    """Every factor that something counts, numbered."""

    known: list[Factor] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)

    def number(self, factor: Factor) -> int:
        """The number of a factor; one set of atoms has one."""
        assert factor.atoms is not None
        key = id(factor.atoms)  # `known` keeps the array alive, so that its id stays its own
        if key not in self.numbers:
            self.numbers[key] = len(self.known)
            self.known.append(factor)
        return self.numbers[key]

    def split(self, label: Label) -> tuple[int, tuple[int, ...]]:
        """The fixed part of an axis, and the numbers of the factors that may shrink."""
        free = tuple(self.number(factor) for factor in label if factor.atoms is not None)
        return prod(factor.size[0] for factor in label if factor.atoms is None), free


class Clock(Protocol):
    """Counts the nanoseconds of a run: of the dense model, and of what a cut leaves."""

    @property
    def dense(self) -> int:
        """Of all of it."""

    def left(self, kept: Kept) -> int:
        """After a cut."""


class CostModel:
    """Parameters, MACs and bytes of what would be left after any cut, without making it.

    Args:
        analysis: the analysed model.
        shapes: concrete input shapes for counting MACs.
        clock: counts time, where that is asked for.

    Attributes:
        unknown: nodes whose MACs are not known; they are left out of all counts of MACs.
        inputs: shapes of inputs that MACs are counted at.
    """

    def __init__(
        self, analysis: Analysis, shapes: Mapping[str, Sequence[int]], clock: Clock | None = None
    ) -> None:
        self._analysis, self.clock = analysis, clock
        self._factors = _Factors()
        removals = [edit for edit in analysis.edits if isinstance(edit, BranchRemoval)]
        self._owners = {node: edit.label for edit in removals for node in edit.branch.nodes}
        self._uses = self._free_uses()
        self._fixed, self._params = self._count_params()
        self._rest, self._bytes = self._count_bytes()
        sizes = concrete_sizes(analysis.model, shapes, analysis.sizes)
        self.inputs = input_shapes(analysis.model, sizes)
        self.unknown, self._macs = self._count_macs(sizes)
        clones = (item.factors for item in (*self._params, *self._bytes) if isinstance(item, Clones))
        self._shared = frozenset(number for factors in clones for number in factors)
        self._dense = {number: Slots(factor.size[0]) for number, factor in enumerate(self._factors.known)}
        self.dense_params = self._fixed + sum(item.left(self._dense) for item in self._params)
        self.dense_bytes = self._rest + sum(item.left(self._dense) for item in self._bytes)
        self.dense_macs = sum(item.dense for item in self._macs)
        atoms = analysis.state.atoms
        self._leaves = [atoms.base(_ids(factor))[:2] for factor in self._factors.known]
        self._touched = self._by_group()
        self._readers = self._by_factor()

    def _free_uses(self) -> dict[ir.Value, list[Elements]]:
        """Uses of stored tensors that may shrink."""
        uses: dict[ir.Value, list[Elements]] = {}
        state = self._analysis.state
        for use, labels in self._analysis.uses.items():
            expert = self._owners.get(use.node)  # a node of an expert goes with it
            owned: Axes = labels if expert is None else (*labels, expert)
            if any(not is_fixed(label) for label in owned):
                every = (state.blocks.get((use, axis), 1) for axis in range(len(labels)))
                axes = tuple(self._factors.split(label) for label in owned)
                uses.setdefault(use.value, []).append(Elements(axes, max(every, default=1)))
        return uses

    def _count_params(self) -> tuple[int, list[Counted]]:
        uses = self._uses
        weights = find_weights(self._analysis.model, record_of)
        free: dict[int, list[Elements]] = {}
        for value, weight in weights.items():
            if value in uses:
                free.setdefault(id(weight.tensor), []).extend(uses[value])
        tensors = {id(weight.tensor): weight for weight in weights.values()}
        fixed = sum(weight.size for tensor, weight in tensors.items() if tensor not in free)
        return fixed, [self._tensor(tensors[tensor].packing, each) for tensor, each in free.items()]

    def _count_bytes(self) -> tuple[int, list[Counted]]:
        """Of tensors that nothing shrinks, and of the others."""
        tensors, free = dict[int, int](), dict[int, list[Elements]]()
        for value, tensor in stored(self._analysis.model):
            tensors[id(tensor)] = tensor.nbytes
            free.setdefault(id(tensor), []).extend(self._uses.get(value, ()))
        rest = sum(size for tensor, size in tensors.items() if not free[tensor])
        return rest, [self._stored(tensors[tensor], uses) for tensor, uses in free.items() if uses]

    def _stored(self, size: int, uses: Sequence[Elements]) -> Counted:
        """Bytes of a tensor that are left."""
        if len(uses) == 1:
            factors = tuple(number for _, each in uses[0].axes for number in each)
            return Product(size, factors, self._size(factors))
        elements = prod(fixed * self._size(factors) for fixed, factors in uses[0].axes) // uses[0].blocks
        return Clones(max(1, size // max(1, elements)), tuple(uses))

    def _tensor(self, packing: int, uses: Sequence[Elements]) -> Counted:
        """How many elements of a tensor are left."""
        if len(uses) > 1:
            return Clones(packing, tuple(uses))
        factors = tuple(number for _, each in uses[0].axes for number in each)
        dense = {number: Slots(self._factors.known[number].size[0]) for number in factors}
        return Product(packing * uses[0].elements(dense), factors, self._size(factors))

    def _size(self, factors: Iterable[int]) -> int:
        return prod(self._factors.known[number].size[0] for number in factors)

    def _count_macs(self, sizes: Sizes) -> tuple[tuple[str, ...], list[Product]]:
        analysis, unknown, found = self._analysis, [], []
        for node in walk(analysis.model.graph):
            counted = node_terms(node, sizes)
            if counted is None:
                unknown.append(node.name or node.op_type)
            for term in counted or ():
                labels = [
                    *(_label(analysis, node, place) for place in term.places),
                    self._owners.get(node, ()),
                ]
                factors = tuple(number for label in labels for number in self._factors.split(label)[1])
                found.append(Product(term.macs, factors, self._size(factors)))
        return tuple(unknown), found

    def _by_group(self) -> list[list[int]]:
        """Factors that the Units of each Group may shrink."""
        atoms, groups = self._analysis.state.atoms, self._analysis.groups
        owner = np.full(len(atoms), NOTHING, np.int64)
        for number, group in enumerate(groups):
            owner[group.atoms] = number
        touched: list[list[int]] = [[] for _ in groups]
        for number, (_, leaves) in enumerate(self._leaves):
            for group_number in np.unique(owner[leaves]):
                if group_number != NOTHING:
                    touched[group_number].append(number)
        return touched

    def _by_factor(self) -> list[tuple[list[Counted], list[Product]]]:
        """What each factor is counted in."""
        readers: list[tuple[list[Counted], list[Product]]] = [([], []) for _ in self._factors.known]
        for item in self._params:
            for number in set(item.factors):
                readers[number][0].append(item)
        for product in self._macs:
            for number in set(product.factors):
                readers[number][1].append(product)
        return readers

    @property
    def factors(self) -> list[Ids]:
        """The atoms of every factor that is counted, by its number."""
        return [_ids(factor) for factor in self._factors.known]

    def counted(self, what: str) -> tuple[int, Sequence[Counted]]:
        """What nothing shrinks, and all else that is counted: as `params`, `macs` and `bytes` add up."""
        items: dict[str, tuple[int, Sequence[Counted]]] = {
            "params": (self._fixed, self._params),
            "macs": (0, self._macs),
            "bytes": (self._rest, self._bytes),
        }
        return items[what]

    def params(self, kept: Kept) -> int:
        """Parameters left."""
        return self._fixed + self._left(self._all_params, kept)

    def macs(self, kept: Kept) -> int:
        """Multiply-adds left."""
        return self._left(self._all_macs, kept)

    def bytes(self, kept: Kept) -> int:
        """Bytes of all tensors left."""
        return self._rest + self._left(self._all_bytes, kept)

    @cached_property
    def _all_bytes(self) -> Total:
        return Total(self._bytes, len(self._dense))

    @cached_property
    def _all_params(self) -> Total:
        return Total(self._params, len(self._dense))

    @cached_property
    def _all_macs(self) -> Total:
        return Total(self._macs, len(self._dense))

    def require_macs(self) -> None:
        """Say that MACs are no measure of this model.

        Raises:
            ModelError: those of some node are not known.
        """
        require_known(self.unknown)

    def _left(self, total: Total, kept: Kept) -> int:
        counts = kept.counts(*self._classes) if self._dense else np.empty(0, np.int64)
        return total.left(counts, {number: self._slots(number, counts, kept) for number in total.needs})

    def _slots(self, number: int, counts: Ids, kept: Kept) -> Slots:
        """Which slots matter only where uses of a tensor may keep different ones."""
        count = int(counts[number])
        if number not in self._shared or count == self._dense[number].count:
            return Slots(count)
        return Slots(count, kept.factor(self._factors.known[number]).tobytes())

    @cached_property
    def _classes(self) -> tuple[Ids, Ids]:
        """The classes of all factors' atoms, one factor after another, and where each starts."""
        atoms = self._analysis.state.atoms
        each = [atoms.find(_ids(factor)) for factor in self._factors.known]
        return np.concatenate(each), np.cumsum([0, *(len(ids) for ids in each[:-1])])

    def saved(self, number: int, kept: Iterable[int]) -> tuple[int, int]:
        """Parameters and MACs that go where Group `number` of the analysis alone keeps these Units.

        It looks at nothing but what the Group touches, so that asking for all Groups is linear in the model.
        """
        removed = _without(self._analysis.groups[number], kept)
        counts = dict[int, Slots]()
        params, macs = dict[int, Counted](), dict[int, Product]()
        for each in self._touched[number]:
            position, leaf = self._leaves[each]
            stays = np.ones(self._dense[each].count, bool)
            stays[position[_among(leaf, removed)]] = False
            counts[each] = Slots(int(stays.sum()), b"" if stays.all() else stays.tobytes())
            params.update((id(item), item) for item in self._readers[each][0])
            macs.update((id(product), product) for product in self._readers[each][1])
        now = Over(self._dense, counts)
        return (
            sum(item.left(self._dense) - item.left(now) for item in params.values()),
            sum(product.dense - product.left(now) for product in macs.values()),
        )


def require_known(unknown: Sequence[str]) -> None:
    """Say that multiply-adds are no measure of a model, by the nodes whose own are not known.

    Raises:
        ModelError: there are some.
    """
    if unknown:
        some = ", ".join(f"'{name}'" for name in unknown[:3]) + (", ..." if unknown[3:] else "")
        raise ModelError(
            f"the multiply-adds of this model are not known: sizes at {some} are not",
            "--shape gives the inputs concrete shapes; where the data decide sizes (NonZero), use params=",
        )


def _without(group: Group, kept: Iterable[int]) -> Ids:
    """Atoms of the Units that go, sorted."""
    gone = np.ones(group.size, bool)
    gone[np.fromiter(kept, np.int64)] = False
    return np.sort(group.atoms[gone])


def _among(atoms: Ids, chosen: Ids) -> Bools:
    """Which atoms are among sorted ones; np.isin takes ten times as long for this few."""
    if not len(chosen):
        return np.zeros(len(atoms), bool)
    found: Bools = chosen[np.searchsorted(chosen[:-1], atoms)] == atoms
    return found


def _ids(factor: Factor) -> Ids:
    assert factor.atoms is not None
    return factor.atoms


def _label(analysis: Analysis, node: ir.Node, place: Place) -> Label:
    value = (node.inputs if place.side == "in" else node.outputs)[place.position]
    assert value is not None  # its size was counted
    labels = analysis.values.get(value) or analysis.uses.get(Use(node, place.position), ())  # of a weight
    label = labels[place.axis] if place.axis < len(labels) else ()
    if place.inner:
        return analysis.state.algebra.normal(label)[-1:]
    return label if place.stop is None else _part(label, place.start, place.stop)


def _part(label: Label, start: int, stop: int) -> Label:
    """Slots start to stop of an axis; of a product all of it, which shrinks alike."""
    if len(label) != 1 or label[0].atoms is None:
        return label
    atoms = label[0].atoms[start:stop]
    return (Factor((len(atoms), len(atoms)), atoms),)
