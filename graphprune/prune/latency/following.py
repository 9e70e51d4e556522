"""Which widths of the nodes that run follow which axes of the model.

Between a model and what runs stand rewrites of ours and fusions of the runtime, which rename, merge and
reorder. So widths are not traced through them but recognised: the model is built with all Groups cut by
random legal amounts, a few times over, and a width that was 64, 40 and 24 follows an axis that keeps 64, 40
and 24 of its slots.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from math import prod

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group
from graphprune.axes.kept import Kept
from graphprune.ir.arrays import Ids
from graphprune.labels.algebra import Label, is_fixed
from graphprune.prune.allocate import Cuts
from graphprune.prune.select import Ladder, cuts_of
from graphprune.runtime.patterns import block_width
from graphprune.runtime.pieces import Piece

PROBES = 8
"""Models that are built at most."""
Pieces = Callable[[Cuts], Sequence[Piece]]
"""The nodes that run after a cut."""
Signature = tuple[int, ...]
"""How long something is in the dense model and after each of the cuts."""


@dataclass(frozen=True)
class Length:
    """How long something is: so many times what an axis keeps; without an axis nothing changes it."""

    label: Label
    each: float = 1.0


@dataclass(frozen=True)
class Followed:
    """A node that runs, and what it follows.

    Attributes:
        piece: as it is in the dense model.
        widths: of the piece, where it has roles.
        others: sizes beside its widths that change, too; its cost is taken to be proportional to them.
        tensors: of a piece without roles, sizes that change, per input, and the share of its elements.
    """

    piece: Piece
    widths: tuple[Length | None, ...] = ()
    others: tuple[Length, ...] = ()
    tensors: tuple[tuple[float, tuple[Length, ...]], ...] = ()


def follow(
    analysis: Analysis, groups: Sequence[Group], ladders: Sequence[Ladder], run: Pieces, seed: int
) -> tuple[Followed, ...]:
    """The nodes of the dense model as it runs, and what they follow.

    Args:
        analysis: of the model.
        groups: those that may shrink, numbered as the ladders say.
        ladders: their legal steps.
        run: builds the model with a cut, and says which nodes run.
        seed: of the cuts.
    """
    rng = np.random.default_rng(seed)
    steps = {each.group: each for each in ladders if each.removed.size}
    tried: list[Cuts] = [{}]
    for _ in range(PROBES):
        gone = {number: int(rng.choice(_whole(groups[number], each))) for number, each in steps.items()}
        tried.append(cuts_of(gone, steps, groups))
    every = _labels(analysis, [Kept(analysis, cuts) for cuts in tried])
    count = 1 + next(n for n in range(1, PROBES + 1) if _told_apart(every, n) or n == PROBES)
    known: dict[Signature, Label] = {}
    for signature, label in every.items():
        known.setdefault(signature[:count], label)
    dense, *others = [run(cuts) for cuts in tried[:count]]
    found = _Axes(known)
    return tuple(_followed(row, found) for row in _aligned(dense, others))


def _whole(group: Group, steps: Ladder) -> Ids:
    """Steps to whole blocks, if there are some: at other widths the runtime may fuse otherwise."""
    whole = steps.removed[(group.size - steps.removed) % block_width() == 0]
    return whole if whole.size else steps.removed


def _labels(analysis: Analysis, kept: Sequence[Kept]) -> dict[Signature, Label]:
    """Every axis that may shrink, by how long it is after each cut."""
    found: dict[Signature, Label] = {}
    for labels in (*analysis.values.values(), *analysis.uses.values()):
        for label in labels:
            if not is_fixed(label) and all(factor.size[0] >= 0 for factor in label):
                found.setdefault(tuple(each.count(label) for each in kept), label)
    return found


def _told_apart(every: Mapping[Signature, Label], count: int) -> bool:
    """Whether so many cuts tell all axes apart, and wide ones filled up to whole blocks, too."""
    block = block_width()
    wide = {
        tuple(-(-size // block) for size in signature) for signature in every if signature[0] >= 2 * block
    }
    return all(len({each[: count + 1] for each in some}) == len(some) for some in (set(every), wide))


Row = tuple[Piece, tuple[Piece | None, ...]]
"""A node of the dense model, and the same node after each cut, where there is one."""


def _aligned(dense: Sequence[Piece], others: Sequence[Sequence[Piece]]) -> Iterator[Row]:
    places = [_places(dense, pieces) for pieces in others]
    for at, piece in enumerate(dense):
        yield piece, tuple(place.get(at) for place in places)


def _places(dense: Sequence[Piece], pieces: Sequence[Piece]) -> dict[int, Piece]:
    """The same nodes after a cut: those of one name, and between them those that run in the same order.

    A cut may be fused otherwise in some of many equal blocks, which the order alone then does not tell apart.
    """
    found: dict[int, Piece] = {}
    a = b = 0
    for at, other in (*_named_alike(dense, pieces), (len(dense), len(pieces))):
        before, after = ([each.node.op_type for each in part] for part in (dense[a:at], pieces[b:other]))
        for first, second, size in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
            found |= {a + first + step: pieces[b + second + step] for step in range(size)}
        if at < len(dense):
            found[at] = pieces[other]
        a, b = at + 1, other + 1
    return found


def _named_alike(dense: Sequence[Piece], pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Places of nodes that have a name of their own in both: as many as stand in one order.

    Names that the runtime numbers may come up again elsewhere; they are few among those that models bring.
    """
    places = _places_of_names(pieces)
    pairs = [(at, places[name]) for name, at in _places_of_names(dense).items() if name in places]
    ends: list[int] = []
    rows: list[tuple[int, int, int | None]] = []
    tips: list[int] = []
    for at, other in sorted(pairs):
        length = bisect_left(ends, other)
        rows.append((at, other, tips[length - 1] if length else None))
        ends[length:], tips[length:] = [other, *ends[length + 1 :]], [len(rows) - 1, *tips[length + 1 :]]
    found: list[tuple[int, int]] = []
    last = tips[-1] if tips else None
    while last is not None:
        at, other, last = rows[last]
        found.append((at, other))
    return found[::-1]


def _places_of_names(pieces: Sequence[Piece]) -> dict[tuple[str, str], int]:
    """Operators and names that one node alone has."""
    keys = [(each.node.op_type, each.node.name or "") for each in pieces]
    counts = Counter(keys)
    return {key: at for at, key in enumerate(keys) if key[1] and counts[key] == 1}


class _Axes:
    """Axes by how long they are."""

    def __init__(self, known: Mapping[Signature, Label]) -> None:
        self._known = known
        self._filled: dict[Signature, Label] = {}
        block = block_width()
        for signature, label in known.items():
            self._filled.setdefault(tuple(-(-size // block) * block for size in signature), label)

    def of(self, sizes: Sequence[int | None]) -> Length | None:
        """What has these sizes, with gaps where a node was not there; None where they do not change."""
        whole = tuple(size for size in sizes if size is not None)
        if len(whole) == 1:  # the node was there in the dense model alone
            return next((Length(label) for key, label in self._known.items() if key[0] == whole[0]), None)
        if len(set(whole)) == 1:
            return None
        for known in (self._known, self._filled):
            if len(whole) == len(sizes) and whole in known:
                return Length(known[whole])
        return self._nearest(sizes)

    def _nearest(self, sizes: Sequence[int | None]) -> Length:
        """The axis that it is most nearly proportional to; the smaller factor where several are."""
        there = [at for at, size in enumerate(sizes) if size is not None]
        logs = np.log([max(1, sizes[at] or 0) for at in there])
        keys = list(self._known)
        ratios = logs - np.log(np.maximum(np.array(keys)[:, there], 1))
        apart = np.ptp(ratios, axis=1)
        at = int(np.lexsort((np.abs(ratios[:, 0]), apart.round(9)))[0])
        return Length(self._known[keys[at]], float(np.exp(ratios[at, 0])))


def _followed(row: Row, axes: _Axes) -> Followed:
    piece, others = row
    there = [
        None
        if each is None or len(each.inputs) != len(piece.inputs) or len(each.roles) != len(piece.roles)
        else each
        for each in others
    ]
    if not piece.roles:
        tensors = [_sizes(piece, there, position, axes) for position in range(len(piece.inputs))]
        elements = [prod(given.shape) for given in piece.inputs]
        whole = max(1, sum(elements))
        shares = tuple((count / whole, sizes) for count, sizes in zip(elements, tensors, strict=True))
        return Followed(piece, tensors=shares)
    widths = tuple(
        axes.of([width, *(None if each is None else each.widths[at] for each in there)])
        for at, width in enumerate(piece.widths)
    )
    roles = {(place[0], place[1]) for role in piece.roles for place in role}
    largest = max(range(len(piece.inputs)), key=lambda at: prod(piece.inputs[at].shape))
    return Followed(piece, widths, _sizes(piece, there, largest, axes, roles))


def _sizes(
    piece: Piece,
    there: Sequence[Piece | None],
    position: int,
    axes: _Axes,
    without: Collection[tuple[int, int]] = (),
) -> tuple[Length, ...]:
    """The sizes of an input that change."""
    shape = piece.inputs[position].shape
    found = []
    for axis, size in enumerate(shape):
        if (position, axis) in without:
            continue
        shapes = [None if each is None else each.inputs[position].shape for each in there]
        sizes = [None if each is None or len(each) != len(shape) else each[axis] for each in shapes]
        length = axes.of([size, *sizes])
        if length is not None:
            found.append(length)
    return tuple(found)
