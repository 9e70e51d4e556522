"""Repairs Site after Site on what the repaired prefix really gives them; the dense model is the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.ir.arrays import Array, Floats
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.prune.repair.codes import missed, on_grid
from graphprune.prune.repair.fit import Fit, Known, all_finite, fit
from graphprune.prune.repair.grid import Lattice
from graphprune.prune.repair.norms import refreshed, statistics_of
from graphprune.prune.repair.observe import Part, observe, together
from graphprune.prune.repair.remains import Change, Remains, changed_nodes, remains
from graphprune.prune.repair.room import Room, moved, roomy
from graphprune.prune.repair.samples import pooled
from graphprune.prune.repair.shared import beside, undisturbed
from graphprune.prune.repair.solve import Seen
from graphprune.prune.repair.stage import Stage, staged
from graphprune.run import USUAL, Run, silent
from graphprune.runtime.session import Feeds
from graphprune.statistics.calibration import sufficient
from graphprune.statistics.collect import collect
from graphprune.statistics.measures import Vector, Wanted, added
from graphprune.statistics.piece import Altered
from graphprune.statistics.rows import REPAIRED
from graphprune.statistics.segments import Layout, Segment, reads
from graphprune.statistics.sites import Site, find_sites
from graphprune.statistics.stream import Stream

FOLDS = 4
FOLDED_SAMPLES = 32
"""With fewer samples, a quarter of them says too little about the others to choose a ridge by."""
OVERFLOW = "numbers too large for its type"
PIECE = 256
"""Rows of a weight that are looked at together."""
FAINT = 1e-30
"""Below this a repaired number is zero: its products are denormal, and a Conv takes ten times as long."""


@dataclass(frozen=True)
class Running:
    """How calibration data is run."""

    batches: Sequence[Feeds]
    run: Run = USUAL

    @property
    def samples(self) -> int:
        """Samples over all batches: the longest first axis of each."""
        return sum(max((len(a) for a in feed.values() if np.ndim(a)), default=1) for feed in self.batches)


@dataclass(eq=False)
class Work:
    """Weights and biases on their way.

    Attributes:
        twin: contents of initializers that make the dense model compute what the cut one computes.
        replaced: those among them that repair changed.
        biases: added to results of Sites.
        notes: what could not be done.
        still: Sites whose inputs never vary, so that at most their bias could be repaired.
        fitted: rows and columns that a Site was fitted by, by its name.
    """

    twin: dict[str, Array]
    replaced: dict[str, Array] = field(default_factory=dict)
    biases: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    still: list[str] = field(default_factory=list)
    fitted: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def altered(self) -> Altered:
        """What makes the cut model of the dense one, as far as it is repaired."""
        return Altered(self.twin, self.biases)

    def replace(self, name: str, array: Array) -> None:
        """Change an initializer."""
        self.replaced[name] = self.twin[name] = array


def run_sequential(
    analysis: Analysis,
    change: Change,
    how: frozenset[str],
    running: Running,
    refresh: bool,
    base: Work | None = None,
) -> Work:
    """Carries out `how` (of refit, bias, match; nothing for norms alone) in the order of the graph."""
    stage = staged(analysis, change)
    sites = find_sites(analysis.model, analysis.sizes)
    left = remains(analysis, change, sites, fresh=not stage.gates) if how else {}
    if how:
        needs = [(each.site, len(Part.of(each).columns)) for each in left.values()]
        running = replace(running, batches=sufficient(analysis.model, running.batches, needs, REPAIRED))
    norms: set[ir.Node] = set()
    if refresh:
        changed = changed_nodes(analysis, change)
        norms = {n for n in analysis.model.graph if n in changed and has(n, Trait.BATCH_NORM)}
    there = {node.outputs[0].name: node for node in stage.model.graph}
    bundles = [[there[node.outputs[0].name] for node in nodes] for nodes in _bundles(left, norms)]
    stage = beside(stage, bundles)
    if stage.model is not analysis.model:
        sites = find_sites(stage.model, stage.sizes)
        left, norms = _moved(left, norms, sites, stage.model.graph)
    dense, pruned = (_stream(stage, sites, running) for _ in range(2))
    work = base or Work({})
    work.twin = {**stage.twin, **work.twin}
    far = _far(stage, left, how, running)
    return _Sequence(dense, pruned, left, norms, how, running, work, far).run()


def _bundles(left: Mapping[ir.Node, Remains], norms: Iterable[ir.Node]) -> list[list[ir.Node]]:
    """Nodes of the dense model that are repaired together."""
    found = [[site.node for site in each.readers] for each in left.values() if each.site is each.readers[0]]
    alike: dict[object, list[ir.Node]] = {}
    for node in norms:
        alike.setdefault(statistics_of(node), []).append(node)
    return [nodes for nodes in (*found, *alike.values()) if len(nodes) > 1]


def _far(
    stage: Stage, left: Mapping[ir.Node, Remains], how: frozenset[str], running: Running
) -> dict[str, Seen]:
    """What is known of readers of a weight that come when it is repaired already, from the dense model."""
    near = {name for names in stage.whole for name in names}
    late = [
        each
        for each in left.values()
        if len(each.readers) > 1
        and each.site is not each.readers[0]
        and each.site.output.name not in near
        and each.solvable(how)
    ]
    if not late:
        return {}
    wanted = Wanted(grams=frozenset(each.site.name for each in late))
    found = collect(
        stage.model,
        running.batches,
        wanted,
        sizes=stage.sizes,
        run=replace(running.run, progress=silent),
    )
    return {each.site.name: undisturbed(each, found.gram(each.site.name)) for each in late}


def _moved(
    left: Mapping[ir.Node, Remains], norms: Iterable[ir.Node], sites: Sequence[Site], graph: ir.Graph
) -> tuple[dict[ir.Node, Remains], set[ir.Node]]:
    """The same Sites and norms in a copy of the model, where values have the same names."""
    there = {site.output.name: site for site in sites}
    moved = {there[node.outputs[0].name]: each for node, each in left.items()}
    names = {node.outputs[0].name for node in norms}
    found = {node for node in graph if node.outputs[0].name in names}

    def readers(each: Remains) -> tuple[Site, ...]:
        return tuple(there[site.output.name] for site in each.readers)

    return {s.node: replace(each, site=s, readers=readers(each)) for s, each in moved.items()}, found


def _stream(stage: Stage, sites: Sequence[Site], running: Running) -> Stream:
    cuts = None
    if stage.whole:
        layout = Layout(stage.model, stage.sizes)
        at = {node.outputs[0].name: position for node, position in layout.position.items()}
        spans = [(at[names[0]], at[names[-1]]) for names in stage.whole]
        cuts = [cut for cut in layout.cuts(sites) if not any(start < cut <= end for start, end in spans)]
    return Stream(
        stage.model,
        running.batches,
        sites,
        sizes=stage.sizes,
        run=running.run,
        cuts=cuts,
    )


@dataclass(eq=False)
class _Sequence:
    """Two models on their way, side by side, and what is left to repair."""

    dense: Stream
    pruned: Stream
    left: dict[ir.Node, Remains]
    norms: set[ir.Node]
    how: frozenset[str]
    running: Running
    work: Work
    far: Mapping[str, Seen]
    parted: bool = False

    def run(self) -> Work:
        """Segment after segment, up to the last one with something to repair."""
        total = len(self.left) + len(self.norms)
        for segment in self.dense.segments:
            rest = len(self.left) + len(self.norms)
            self.running.run.progress(total - rest, total, "repair")
            if not rest:
                break
            if not self.parted and self._parts(segment):
                self.parted = True
                self.pruned.follow(self.dense)
            for node in segment.nodes:
                self._step(segment, node)
            self.dense.advance(segment)
            if self.parted:
                self.pruned.advance(segment, self.work.altered)
        return self.work

    def _parts(self, segment: Segment) -> bool:
        """Whether the cut model computes something else here; before that it need not run."""
        if any(node in self.left or node in self.norms for node in segment.nodes):
            return True
        read = {value.name or "" for node in segment.nodes for value in reads(node)}
        return not read.isdisjoint(self.work.twin) or not segment.made.keys().isdisjoint(self.work.biases)

    def _step(self, segment: Segment, node: ir.Node) -> None:
        if node in self.norms:
            alike = [n for n in segment.nodes if n in self.norms and statistics_of(n) == statistics_of(node)]
            self.norms.difference_update(alike)
            self._norm(segment, alike)
        if node not in self.left:
            return
        first = self.left[node]
        group = self._group(segment, first)
        every = [self.left[site.node] for site in first.readers]
        for each in (*group, *every):
            self.left.pop(each.site.node, None)
        if not first.solvable(self.how):
            self._shift(segment, every)
        elif len(every) > 1:
            self._tied(segment, every)
        else:
            self._solve(segment, group)

    def _group(self, segment: Segment, first: Remains) -> list[Remains]:
        """Sites of the segment that are solved for together with this one."""
        if not first.solvable(self.how) or len(first.readers) > 1:
            return [first]
        mine = [self.left[n] for n in segment.nodes if n in self.left]
        mine = [each for each in mine if len(each.readers) == 1]
        able = [each for each in mine if each.solvable(self.how)]
        return next(group for group in together(able) if first in group)

    def _solve(self, segment: Segment, group: list[Remains]) -> None:
        """New weights, and biases where there may be some."""
        for each, folds in zip(group, self._observed(segment, group), strict=True):
            install([each], folds, self.how, self.work)

    def _tied(self, segment: Segment, every: list[Remains]) -> None:
        """One new weight, and one bias, for all readers, from the rows of all."""
        late = [self.far[each.site.name] for each in every if each.site.name in self.far]
        near = [each for each in every if each.site.name not in self.far]
        parts = [self._observed(segment, [each])[0] for each in near]
        if late or len({len(folds) for folds in parts}) > 1:
            install(every, [pooled([*late, *chain(*parts)])], self.how, self.work)
        else:
            install(every, [pooled(each) for each in zip(*parts, strict=True)], self.how, self.work)

    def _observed(self, segment: Segment, group: list[Remains]) -> list[Sequence[Seen]]:
        altered, seed = self.work.altered, self.running.run.seed
        enough = self.running.samples >= FOLDED_SAMPLES
        folds = FOLDS if "refit" in self.how and enough else 1
        return observe(self.dense, self.pruned, segment, group, altered, folds, seed)

    def _shift(self, segment: Segment, every: list[Remains]) -> None:
        """A bias that restores the mean of the dense results, the same for all readers of a weight."""
        left = every[0]
        if left.why:
            what = "only its bias is repaired" if left.biased else "not repaired"
            self.work.notes.append(f"{left.site.name}: {what}, because {left.why}")
        if not left.biased:
            return
        if left.site.hidden:
            why = "what its weight gives is no value of the graph, and needs refit or match"
            self.work.notes.append(f"{left.site.name}: not repaired, because {left.why or why}")
            return
        names = [each.site.output.name or "" for each in every]
        dense, pruned = self._both(segment, [name for name in names if name in segment.made])
        live = left.rows.reshape(left.site.outputs, -1).any(axis=1)
        shift = audible(np.where(live, dense.mean - pruned.mean, 0.0))
        with np.errstate(over="ignore"):
            finite = np.isfinite(shift.astype(_type_of(left.site))).all()
        if finite:
            _move(every, shift, self.work)
        else:
            self.work.notes.append(f"{left.site.name}: left as it is, because its repair has {OVERFLOW}")

    def _norm(self, segment: Segment, alike: list[ir.Node]) -> None:
        names = [value.name or "" for node in alike if (value := node.inputs[0]) is not None]
        dense, pruned = self._both(segment, names)
        for initializer, array in refreshed(alike, dense, pruned).items():
            self.work.replace(initializer, array)

    def _both(self, segment: Segment, names: list[str]) -> tuple[Vector, Vector]:
        """Sums of values, all together, in the dense and in the cut model."""
        dense = self.dense.vectors(segment, names)
        pruned = self.pruned.vectors(segment, names, self.work.altered)
        return reduce(added, [dense[name] for name in names]), reduce(added, [pruned[n] for n in names])


def audible(array: Floats) -> Floats:
    """The array with numbers that are as good as zero set to zero, in place."""
    for block in np.atleast_2d(array):
        for start in range(0, len(block), PIECE):
            part = block[start : start + PIECE]
            part[np.abs(part) < FAINT] = 0
    return array


def install(every: Sequence[Remains], folds: Sequence[Known], how: frozenset[str], work: Work) -> None:
    """Solves for the weight of Sites and puts the result into the model, if every number is one."""
    left = every[0]
    site, part = left.site, Part.of(left)
    if not all(fold.finite for fold in folds):
        work.notes.append(f"{site.name}: not repaired, because what it reads or gives is not finite")
        return
    if not any(fold.varies for fold in folds):
        work.still.append(site.name)
    if "refit" in how:
        work.fitted[site.name] = int(sum(fold.count for fold in folds)), int(part.keep.sum(axis=1).max())
    dense = part.take(left.weight)
    found, dtype = fit(dense, folds, part.keep, part.live, how, left.biased), dense.dtype
    del dense  # as large as what was found
    lattice, growth, scales = Lattice.of(site), np.ones(site.outputs), dict[str, Array]()
    if lattice is not None and found.finite and how != {"bias"}:
        found, room = _rounded(every, found, lattice, folds)
        lattice, growth, scales = room.lattice, room.growth, room.scales
    with np.errstate(over="ignore"):
        weight = put_back(left, found.weight, lattice, dtype)
        bias = np.zeros(left.rows.shape)
        bias[:, part.rows] = audible(found.bias * part.live)
        finite = all_finite(weight.astype(np.float32, copy=False), bias.astype(_type_of(site)))
    if not found.finite or not finite:
        work.notes.append(f"{site.name}: left as it is, because its repair has {OVERFLOW}")
        return
    if how != {"bias"}:
        work.replace(site.weight.name or "", weight)
    for name, array in scales.items():
        work.replace(name, array)
    if left.biased:
        _move(every, bias.ravel(), work, growth)
    elif site.held is not None and site.held.grid is not None and scales:
        work.replace(site.held.value.name or "", moved(site, np.zeros(site.outputs), growth))


def _rounded(
    every: Sequence[Remains], wanted: Fit, lattice: Lattice, folds: Sequence[Known]
) -> tuple[Fit, Room]:
    """What was found, on the grid of its weight, or on a wider one where that loses less."""
    left = every[0]
    site, part = left.site, Part.of(left)
    found = on_grid(wanted, lattice.at(part.rows, part.columns), folds, left.biased)
    room = None if len(every) > 1 else roomy(site, lattice, np.asarray(wanted.weight, np.float64), part)
    if room is not None:
        wide = on_grid(wanted, room.lattice.at(part.rows, part.columns), folds, left.biased)
        if missed(wide, folds, part.live) < missed(found, folds, part.live):
            return wide, room
    return found, Room(lattice, np.ones(site.outputs), {})


def put_back(left: Remains, part: Floats, lattice: Lattice | None, dtype: np.dtype) -> Array:
    """The contents of the initializer for the part of W that was solved for; zero where Units are gone."""
    whole = Part.of(left).put(audible(part), (*left.rows.shape, left.keep.shape[1]), dtype)
    if lattice is None:
        return left.site.restore(whole)
    return left.site.stored.write(left.site.shaped(lattice.nearest(np.asarray(whole, np.float64))))


def _move(every: Sequence[Remains], shift: Floats, work: Work, growth: Floats | None = None) -> None:
    """Adds a vector to the results of Sites; to a bias that they share, once."""
    done: set[ir.Value] = set()
    for site in (each.site for each in every):
        value = site.bias if site.held is None else site.held.value
        if not site.hidden and site.held is None:
            work.biases[site.output.name or ""] = shift.astype(_type_of(site))
        elif value is not None and value not in done:
            done.add(value)
            stays = site.held is not None
            array = moved(site, shift, growth) if stays else _moved_bias(site, value, shift, work)
            work.replace(value.name or "", array)


def _type_of(site: Site) -> np.dtype:
    dtype = site.weight.dtype if site.stored.plain else site.output.dtype
    return np.dtype((dtype or ir.DataType.FLOAT).numpy())


def _moved_bias(site: Site, value: ir.Value, shift: Array, work: Work) -> Array:
    """[directions, biases of W and of R], the first half moved."""
    assert value.const_value is not None
    bias = np.array(work.twin.get(value.name or "", value.const_value.numpy()))
    bias[:, : site.shape[1]] += shift.reshape(site.shape[:2]).astype(bias.dtype)
    return bias
