"""From solved labels to Groups: interchangeable Units with every slice of every initializer they touch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.ir.arrays import Array, Ids, Scores
from graphprune.ir.graphs import graphs_of
from graphprune.labels.algebra import Label, is_fixed
from graphprune.labels.atoms import NOTHING
from graphprune.labels.state import Event, State, Use
from graphprune.ops import has
from graphprune.ops.traits import Trait


@dataclass(frozen=True)
class Pin:
    """Why a Group may not shrink: the reason, the node where it was found, and what would unblock it."""

    reason: str
    node: str
    unblock: str = ""


@dataclass(frozen=True, eq=False)
class Slice:
    """What the Units of a Group own along one axis of one use of an initializer.

    Attributes:
        use: the node and input position.
        axis: axis of the initializer.
        role: what that axis is to its node.
        blocks: for the inner axis of a grouped convolution's weight, its number of blocks; else 1.
        length: slots of the axis (over all blocks).
        units, positions: parallel arrays; unit units[k] owns factor position positions[k].
        inner: slots per factor position; `span` factor positions repeat every span*inner slots.
    """

    use: Use
    axis: int
    role: str
    blocks: int
    length: int
    units: Ids
    positions: Ids
    span: int
    inner: int

    def __repr__(self) -> str:
        return f"<Slice {self.initializer}:{self.axis}, {self.role} at {self.node}>"

    @property
    def initializer(self) -> str:
        """Name of the tensor."""
        return self.use.value.name or ""

    @property
    def node(self) -> str:
        """Name of the node that uses it."""
        return self.use.node.name or self.use.node.op_type

    @property
    def count(self) -> int:
        """Slots of the axis that the Group's Units own, counted once per owner."""
        return len(self.units) * self.length // self.span

    @cached_property
    def pairs(self) -> tuple[Ids, Ids]:
        """(unit, slot) pairs: every slot of the axis that a Unit owns."""
        outer = self.length // (self.span * self.inner)
        grid = np.arange(outer)[:, None] * (self.span * self.inner) + np.arange(self.inner)
        slots = self.positions[:, None] * self.inner + grid.ravel()
        return np.repeat(self.units, grid.size), slots.ravel()


@dataclass(frozen=True, eq=False)
class Group:
    """The interchangeable Units of one width of the network.

    Attributes:
        id: first source initializer in the file and its axis; unique in the model.
        atoms: one leaf per Unit, in the order of their first slots.
        slices: everything the Units own.
        pin: why the Group may not shrink, None if it may.
        block: for balanced Groups the block of each Unit; every block keeps the same number.
        floor: Units that must stay at least.
        convolutional: whether a convolution reads or writes this width.
        span: slots that one Unit owns in its first slice.
    """

    id: str
    atoms: Ids
    slices: tuple[Slice, ...]
    pin: Pin | None
    block: Ids | None = None
    floor: int = 1
    convolutional: bool = False
    span: int = 1

    def __repr__(self) -> str:
        state = f", pinned: {self.pin.reason}" if self.pin else ""
        return f"<Group {self.id}: {self.size} units{state}>"

    @property
    def size(self) -> int:
        """Number of Units."""
        return len(self.atoms)

    @property
    def sources(self) -> tuple[Slice, ...]:
        """The slices whose weights make the Units."""
        return tuple(s for s in self.slices if s.role == "source")

    def removals(self, scores: Scores) -> Ids:
        """Units in the order in which they go, least first, [steps, Units at a time].

        With blocks, row j holds the j-th least of every block.
        """
        order = np.argsort(scores, kind="stable")
        if self.block is None:
            return order[:, None]
        blocks = self.block[order]
        columns = np.stack([order[blocks == block] for block in np.unique(blocks)], axis=1)
        return columns[np.argsort(scores[columns].mean(axis=1), kind="stable")]


@dataclass(frozen=True, eq=False)
class _Touch:
    """One factor of one axis of one use, resolved to leaves."""

    use: Use
    axis: int
    part: int
    path: int
    blocks: int
    length: int
    leaves: Ids
    positions: Ids
    span: int
    inner: int


def form_groups(model: ir.Model, state: State) -> tuple[tuple[Group, ...], set[tuple[ir.Node, int]]]:
    """Returns the Groups, and the grouped convolutions whose balance no single selection can keep."""
    touches = list(_touches(state))
    if not touches:
        return (), set()
    order = _file_order(model)
    touches.sort(
        key=lambda t: (
            order.get(t.use.value, len(order)),
            state.roles.get((t.use, t.axis)) == "sink",
            t.axis,
            t.part,
            t.path,
        )
    )
    groups = _build(state, touches, _signatures(state, touches))
    return _balance(state, groups)


def _file_order(model: ir.Model) -> dict[ir.Value, int]:
    values = [v for graph in graphs_of(model) for v in graph.initializers.values()]
    return {value: index for index, value in enumerate(values)}


def _touches(state: State) -> Iterator[_Touch]:
    for use, labels in state.uses.items():
        if use.node.graph is None:
            continue
        for axis, label in enumerate(labels):
            if not is_fixed(label):
                yield from _label_touches(state, use, axis, label)


def _label_touches(state: State, use: Use, axis: int, label: Label) -> Iterator[_Touch]:
    label = state.algebra.normal(label)
    length = prod([factor.size[0] for factor in label])
    blocks = state.blocks.get((use, axis), 1)
    inner = length
    for part, factor in enumerate(label):
        inner //= factor.size[0]
        if factor.atoms is None:
            continue
        for step, leaves, positions in _by_path(*state.atoms.base(factor.atoms)):
            yield _Touch(use, axis, part, step, blocks, length, leaves, positions, factor.size[0], inner)


def _by_path(position: Ids, leaf: Ids, path: Ids) -> Iterator[tuple[int, Ids, Ids]]:
    """Leaves and positions of each path to them; most often there is one."""
    if len(path) and path[-1] == 1:  # they come in order of depth, so that the others are 1 too
        yield 1, leaf, position
        return
    for step in np.unique(path):
        chosen = path == step
        yield int(step), leaf[chosen], position[chosen]


def _signatures(state: State, touches: list[_Touch]) -> npt.NDArray[np.uint64]:
    """Signature of every leaf: the set of (use, axis, factor, path) it appears in, with multiplicity."""
    signature = np.zeros(len(state.atoms), np.uint64)
    generator = np.random.default_rng(20240319)
    keys = generator.integers(1, 2**63, len(touches), dtype=np.uint64)
    for touch, key in zip(touches, keys, strict=True):
        np.add.at(signature, touch.leaves, key)
    return signature


def _build(state: State, touches: list[_Touch], signature: npt.NDArray[np.uint64]) -> list[Group]:
    touched = np.zeros(len(state.atoms), bool)
    for touch in touches:
        touched[touch.leaves] = True
    leaves = np.flatnonzero(touched)
    alike = _numbered(signature[leaves])
    group_of = np.full(len(state.atoms), NOTHING, np.int64)
    group_of[leaves] = _numbered(alike * (len(state.events) + 1) + state.atoms.pins(leaves))
    parts: dict[int, list[_Touch]] = {}
    for touch in touches:
        numbers = group_of[touch.leaves]
        for first in _firsts(numbers):  # in the order of their slots
            parts.setdefault(int(numbers[first]), []).append(touch)
    taken: dict[str, int] = {}
    unit_of = np.full(len(group_of), NOTHING, np.int64)
    floors = _floors(state)
    return [_group(state, number, mine, group_of, unit_of, floors, taken) for number, mine in parts.items()]


def _numbered(keys: Array) -> Ids:
    """Numbers from 0 for different keys; equal ones mostly stand together, so one of each run is sorted."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    numbers = np.unique(keys[starts], return_inverse=True)[1]
    return np.repeat(numbers, np.diff(starts, append=len(keys)))


def _firsts(numbers: Ids) -> Ids:
    """Where each number stands first."""
    if len(numbers) and bool((numbers == numbers[0]).all()):
        return np.zeros(1, np.int64)
    return np.sort(np.unique(numbers, return_index=True)[1])


def _group(
    state: State,
    number: int,
    touches: list[_Touch],
    group_of: Ids,
    unit_of: Ids,
    floors: Ids,
    taken: dict[str, int],
) -> Group:
    """One Group; `unit_of` is scratch space, all NOTHING before and after."""
    first = touches[0]
    mine = group_of[first.leaves] == number
    leaves, starts = first.leaves[mine], first.positions[mine]
    unique, where = np.unique(leaves, return_index=True)
    atoms = unique[np.argsort(starts[where], kind="stable")]
    unit_of[atoms] = np.arange(len(atoms))
    slices = tuple(_slice(state, touch, unit_of) for touch in touches)
    unit_of[atoms] = NOTHING
    event = int(state.atoms.pins(atoms[:1])[0])
    return Group(
        id=_identity(slices, taken),
        atoms=atoms,
        slices=slices,
        pin=None if event == NOTHING else _pin(state.events[event]),
        convolutional=any(_is_conv(s) for s in slices),
        span=slices[0].length // slices[0].span if slices[0].span else 1,
        floor=int(floors[atoms].max()),
    )


def _slice(state: State, touch: _Touch, unit_of: Ids) -> Slice:
    units, positions = unit_of[touch.leaves], touch.positions
    mine = units != NOTHING
    if not mine.all():
        units, positions = units[mine], positions[mine]
    role = state.roles.get((touch.use, touch.axis), "source")
    return Slice(
        touch.use, touch.axis, role, touch.blocks, touch.length, units, positions, touch.span, touch.inner
    )


def _identity(slices: tuple[Slice, ...], taken: dict[str, int]) -> str:
    named = next((s for s in slices if s.role == "source"), slices[0])
    name = f"{named.initializer}:{named.axis}"
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}#{taken[name]}"


def _pin(event: Event) -> Pin:
    return Pin(event.reason, event.node, event.unblock)


BETWEEN = (Trait.LAYOUT, Trait.CAST, Trait.DEQUANTISE)
"""Operators behind which a stored weight is the weight of the next one."""


def _is_conv(touched: Slice) -> bool:
    return any(has(use.node, Trait.CONVOLUTION) and use.position in (1, 3) for use in _readers(touched.use))


def _readers(use: Use) -> Iterator[Use]:
    """What reads a weight in the end."""
    if use.position or not has(use.node, *BETWEEN):
        yield use
        return
    for node, position in use.node.outputs[0].uses():
        yield from _readers(Use(node, position))


def _floors(state: State) -> Ids:
    """How many Units have to stay, by the atoms of any of them."""
    floors = np.ones(len(state.atoms), np.int64)
    for label, count in state.facts.floors:
        for factor in label:
            if factor.atoms is not None:
                np.maximum.at(floors, state.atoms.find(factor.atoms), count)
    return floors


def _balance(state: State, groups: list[Group]) -> tuple[tuple[Group, ...], set[tuple[ir.Node, int]]]:
    if not state.facts.balances:
        return tuple(groups), set()
    owner = np.full(len(state.atoms), NOTHING, np.int64)
    for number, group in enumerate(groups):
        owner[group.atoms] = number
    blocks: dict[int, Ids] = {}
    failed: set[tuple[ir.Node, int]] = set()
    for balance in state.facts.balances:
        atoms = state.algebra.flat(balance.label, (balance.node, "balance"))
        if atoms is None:
            continue
        if not _assign(state, groups, owner, blocks, atoms, balance.blocks):
            failed.add((balance.node, 0))
    done = tuple(_with_block(group, blocks.get(number)) for number, group in enumerate(groups))
    return done, failed


def _assign(
    state: State, groups: list[Group], owner: Ids, blocks: dict[int, Ids], atoms: Ids, count: int
) -> bool:
    position, leaf, _ = state.atoms.base(atoms)
    if len(position) != len(atoms):
        return False
    in_blocks = np.sort(leaf[np.argsort(position)].reshape(count, -1), axis=1)
    if (in_blocks == in_blocks[0]).all():
        return True  # every block has the same Units, as where a reshape made the blocks
    number = int(owner[leaf[0]])
    if number == NOTHING:
        return True
    if groups[number].pin is not None:
        return bool((state.atoms.pins(leaf) != NOTHING).all())
    group = groups[number]
    if (owner[leaf] != number).any() or len(np.unique(leaf)) != group.size or len(leaf) != group.size:
        return False
    mine = np.empty(group.size, np.int64)
    mine[_units(group, leaf)] = position // (len(atoms) // count)
    if number in blocks:
        _, joint = np.unique(np.stack([blocks[number], mine], 1), axis=0, return_inverse=True)
        mine = joint.ravel()
        if len(set(np.bincount(mine))) != 1:
            return False
    blocks[number] = mine
    return True


def _units(group: Group, leaves: Ids) -> Ids:
    order = np.argsort(group.atoms)
    return order[np.searchsorted(group.atoms[order], leaves)]


def _with_block(group: Group, block: Ids | None) -> Group:
    if block is None or len(np.unique(block)) == 1:
        return group
    return replace(group, block=block)
