"""Experts that do alike become one: clusters of experts (STUN, UNCURL), and weights for each cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Slice
from graphprune.errors import PromiseError
from graphprune.experts.mixtures import Mixture
from graphprune.ir.arrays import Array, Doubles, Ids

RESTARTS = 20
CONSTANT = 1e-12
"""Share of a score that is rounding."""


# -- clusters


def stun_distances(router: Doubles, together: Doubles | None, rows: float, mates: float) -> Doubles:
    """STUN: rows * |r_i - r_j| - mates * a_ij, with a relative to its mean; rows of a router of norm 1."""
    unit = router / max(float(np.linalg.norm(router)), 1e-30)
    distances = rows * np.linalg.norm(unit[:, None] - unit[None], axis=2)
    if together is not None and mates:
        off = together - np.diag(np.diag(together))
        distances = distances - mates * off / max(float(off.mean()), 1e-30)
    return np.asarray(distances)


def _after(tree: Doubles, merges: int) -> Ids:
    """The clusters after the first merges of a tree."""
    size = len(tree) + 1
    label = np.arange(size)
    members = {at: [at] for at in range(size)}
    for number in range(merges):
        one, two = (members[int(each)] for each in tree[number, :2])
        members[size + number] = [*one, *two]
        label[members[size + number]] = size + number
    return _numbered(label)


def _tree(distances: Doubles) -> tuple[Doubles, float]:
    """The linkage of distances that were shifted to be positive, and the shift."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    off = distances[~np.eye(len(distances), dtype=bool)]
    shift = float(max(0.0, -off.min()))
    moved = distances + shift
    np.fill_diagonal(moved, 0.0)
    return np.asarray(linkage(squareform((moved + moved.T) / 2), method="complete")), shift


def _numbered(labels: Array) -> Ids:
    """Clusters in the order of their first members."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse], np.int64)


def thresholds(layers: Sequence[Doubles], floors: Sequence[int], total: int) -> list[Ids]:
    """Clusters of every layer at the one common threshold that leaves `total` of them.

    The merges of all layers are taken in the order of their distances (where several are equal, one by one);
    a layer that is left with its floor makes no more, which may leave more than `total`.
    """
    trees = [_tree(distances) for distances in layers]
    merges = sorted(
        (float(row[2] - shift), layer) for layer, (tree, shift) in enumerate(trees) for row in tree
    )
    taken, left = [0] * len(layers), sum(len(distances) for distances in layers)
    for _, layer in merges:
        if left > total and len(layers[layer]) - taken[layer] > floors[layer]:
            taken[layer] += 1
            left -= 1
    return [_after(tree, count) for (tree, _), count in zip(trees, taken, strict=True)]


def spectral(scores: Doubles, count: int, seed: int) -> Ids:
    """UNCURL: spectral clusters of experts whose scores rise and fall together.

    Scores that never vary go with no other's: their expert is a component of the graph by itself, as which
    its diagonal of the Laplacian is zero.

    Args:
        scores: [tokens, E] of the router.
        count: of clusters.
        seed: of k-means.
    """
    size = scores.shape[1]
    if count >= size:
        return np.arange(size)
    centred = scores - scores.mean(0)
    lengths = np.linalg.norm(centred, axis=0)
    varies = lengths > CONSTANT * np.linalg.norm(scores, axis=0)
    scaled = np.where(varies, centred / np.where(varies, lengths, 1), 0)
    affinity = np.maximum(scaled.T @ scaled, 0.0)
    roots = 1 / np.sqrt(np.where(varies, affinity.sum(1), 1))
    laplacian = np.diag(varies.astype(np.float64)) - roots[:, None] * affinity * roots[None]
    vectors = np.linalg.eigh((laplacian + laplacian.T) / 2)[1][:, :count]
    rows = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return _numbered(_k_means(rows, count, seed))


def _k_means(rows: Doubles, count: int, seed: int) -> Ids:
    """The best of several seeded runs that left no cluster empty; else a complete linkage of the rows."""
    import warnings

    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.cluster.vq import kmeans2

    best: tuple[float, Ids] | None = None
    for start in range(RESTARTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster; such a run is not used
            centres, labels = kmeans2(rows, count, minit="++", rng=np.random.default_rng([seed, start]))
        spread = float(((rows - centres[labels]) ** 2).sum())
        if len(np.unique(labels)) == count and (best is None or spread < best[0] - 1e-12):
            best = (spread, np.asarray(labels, np.int64))
    if best is not None:
        return best[1]
    return np.asarray(fcluster(linkage(rows, method="complete"), count, criterion="maxclust"), np.int64)


# -- weights


@dataclass(frozen=True, eq=False)
class _Place:
    """Where the weights of one expert lie in a tensor: all of it, or some slots of an axis."""

    value: ir.Value
    axis: int = 0
    slots: Ids | None = None


@dataclass(frozen=True, eq=False)
class _Neurons:
    """The slices of one inner width of one expert, and its number of Units."""

    size: int
    slices: tuple[tuple[int, Slice], ...]  # (number of the place, slice)


@dataclass(eq=False)
class Editor:
    """Reads and changes the weights of a layer's experts, in dense coordinates.

    Raises:
        PromiseError: the experts' weights are not floating tensors of one shape each.
    """

    analysis: Analysis
    mixture: Mixture
    replaced: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stacked = [self._stacked(touched) for touched in self.mixture.stacks]
        self._places = [
            [*(places[unit] for places in stacked), *(_Place(v) for v in self._own(unit))]
            for unit in range(self.mixture.group.size)
        ]
        shapes = {tuple(array.shape for array in self.read(unit)) for unit in range(self.mixture.group.size)}
        whole = any(not value.dtype.is_floating_point() for value in self._packed())
        if whole or len(shapes) > 1:
            why = "quantised" if whole else "not alike"
            raise PromiseError(
                f"the experts of '{self.mixture.group.id}' cannot be merged: their weights are {why}",
                "remove experts without merging: criterion=easy-ep or reap",
            )
        self._router = [self._stacked(touched) for touched in self.mixture.router if touched.role == "source"]
        self._neurons = [self._widths(unit) for unit in range(self.mixture.group.size)]

    def _stacked(self, touched: Slice) -> list[_Place]:
        units, slots = touched.pairs
        each = (np.sort(slots[units == unit]) for unit in range(self.mixture.group.size))
        return [_Place(touched.use.value, touched.axis, mine) for mine in each]

    def _own(self, unit: int) -> tuple[ir.Value, ...]:
        return self.mixture.owned[unit] if self.mixture.owned else ()

    def _packed(self) -> list[ir.TensorProtocol]:
        """Tensors that hold something for every expert behind the choice, rows of counters left out."""
        router = {touched.use for touched in self.mixture.router}
        tensors = [s.use.value.const_value for s in self.mixture.group.slices if s.use not in router]
        return [tensor for tensor in tensors if tensor is not None and len(tensor.shape) > 1]

    def array(self, value: ir.Value) -> Array:
        """The present value of a tensor."""
        name = value.name or ""
        if name in self.replaced:
            return self.replaced[name]
        assert value.const_value is not None
        return np.asarray(value.const_value.numpy())

    def _get(self, place: _Place) -> Array:
        array = self.array(place.value)
        return array if place.slots is None else np.take(array, place.slots, axis=place.axis)

    def _set(self, place: _Place, new: Array) -> None:
        name = place.value.name or ""
        array = np.array(self.array(place.value))
        if place.slots is None:
            array[...] = new
        else:
            np.moveaxis(array, place.axis, 0)[place.slots] = np.moveaxis(new, place.axis, 0)
        self.replaced[name] = array

    def read(self, unit: int) -> list[Array]:
        """The tensors of one expert."""
        return [self._get(place) for place in self._places[unit]]

    def flat(self, unit: int) -> Doubles:
        """The weights of one expert as one vector."""
        return np.concatenate([array.ravel().astype(np.float64) for array in self.read(unit)])

    def router(self) -> Doubles:
        """[E, width] the router's weights of each expert."""
        rows = [
            [self._get(place[unit]).ravel() for place in self._router] for unit in range(len(self._places))
        ]
        return np.array([np.concatenate(row) for row in rows], np.float64)

    def aligned(self, unit: int, like: int) -> list[Array]:
        """The tensors of an expert with its hidden neurons in the order of another one's they resemble."""
        from scipy.optimize import linear_sum_assignment

        arrays, target = self.read(unit), self.read(like)
        for mine, other in zip(self._neurons[unit], self._neurons[like], strict=True):
            likeness = _features(target, other) @ _features(arrays, mine).T
            order = linear_sum_assignment(likeness, maximize=True)[1]
            arrays = _permuted(arrays, mine, order)
        return arrays

    def _widths(self, unit: int) -> list[_Neurons]:
        """Groups between the tensors of one expert (or of the stacks of all), and in no other tensor."""
        number = {place.value: at for at, place in enumerate(self._places[unit])}
        found = []
        for group in self.analysis.groups:
            mine = [s for s in group.slices if s.use.value in number and s.blocks == 1]
            inner = group.pin is None and len({s.use.value for s in mine}) > 1
            if group is self.mixture.group or not inner or len(mine) != len(group.slices):
                continue
            placed = sorted(
                ((number[s.use.value], s) for s in mine), key=lambda item: (item[0], item[1].axis)
            )
            found.append(_Neurons(group.size, tuple(placed)))
        return sorted(found, key=lambda each: [(at, s.axis, s.role) for at, s in each.slices])

    def merge(self, into: int, members: Sequence[int], weights: Sequence[float], align: bool) -> None:
        """Gives one expert the weighted mean of several, and the mean of their rows of the router."""
        shares = np.asarray(weights, np.float64)
        shares = shares / shares.sum() if shares.sum() > 0 else np.full(len(members), 1 / len(members))
        tensors = [self.aligned(m, into) if align and m != into else self.read(m) for m in members]
        means = [
            sum(share * array[at].astype(np.float64) for share, array in zip(shares, tensors, strict=True))
            for at in range(len(tensors[0]))
        ]
        rows = [
            sum(s * self._get(place[m]).astype(np.float64) for s, m in zip(shares, members, strict=True))
            for place in self._router
        ]
        for place, mean in zip(self._places[into], means, strict=True):
            self._set(place, np.asarray(mean).astype(self.array(place.value).dtype))
        for each, row in zip(self._router, rows, strict=True):
            self._set(each[into], np.asarray(row).astype(self.array(each[into].value).dtype))


def _features(arrays: Sequence[Array], neurons: _Neurons) -> Doubles:
    """[Units, everything that a Unit owns]."""
    columns = []
    for at, touched in neurons.slices:
        units, slots = touched.pairs
        order = np.lexsort((slots, units))
        rows = np.moveaxis(arrays[at], touched.axis, 0)[slots[order]]
        columns.append(rows.reshape(neurons.size, -1).astype(np.float64))
    return np.concatenate(columns, axis=1)


def _permuted(arrays: Sequence[Array], neurons: _Neurons, order: Ids) -> list[Array]:
    """The arrays with Unit order[i] in the place of Unit i."""
    done = [np.array(array) for array in arrays]
    for at, touched in neurons.slices:
        units, slots = touched.pairs
        grid = slots[np.lexsort((slots, units))].reshape(neurons.size, -1)
        source = np.moveaxis(np.array(done[at]), touched.axis, 0)
        np.moveaxis(done[at], touched.axis, 0)[grid.ravel()] = source[grid[order].ravel()]
    return done


def representative(editor: Editor, members: Sequence[int]) -> int:
    """The expert nearest to the mean of its cluster."""
    vectors = [editor.flat(member) for member in members]
    mean = sum(vectors) / len(vectors)
    distances = [float(np.linalg.norm(vector - mean)) for vector in vectors]
    return members[int(np.argmin(distances))]


def members_of(clusters: Ids) -> list[list[int]]:
    """The experts of each cluster."""
    return [np.flatnonzero(clusters == number).tolist() for number in range(int(clusters.max()) + 1)]
