"""Repairs Site after Site on what the repaired prefix really gives them; the dense model is the target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.prune.repair.fit import fit
from graphprune.prune.repair.norms import refreshed
from graphprune.prune.repair.observe import Part, observe, together
from graphprune.prune.repair.remains import Change, Remains, changed_nodes, remains
from graphprune.prune.repair.solve import Moments
from graphprune.prune.repair.stage import Stage, staged
from graphprune.statistics.measures import Vector
from graphprune.statistics.segments import Segment
from graphprune.statistics.sites import Site, find_sites
from graphprune.statistics.stream import Stream

Array = npt.NDArray[np.generic]
Feed = Mapping[str, Array]
Progress = Callable[[int, int, str], None]
FOLDS = 4
FOLDED_SAMPLES = 32
"""With fewer samples, a quarter of them says too little about the others to choose a ridge by."""
FOLDED_BYTES = 2**26
"""Second moments above this size are held once, not per fold."""
OVERFLOW = "numbers too large for its type"
FAINT = 1e-30
"""Below this a repaired number is zero: its products are denormal, and a Conv takes ten times as long."""


@dataclass(frozen=True)
class Running:
    """How calibration data is run."""

    batches: Sequence[Feed]
    seed: int = 0
    threads: int = 1
    timeout: float | None = None
    progress: Progress = lambda done, total, what: None

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
    """

    twin: dict[str, Array]
    replaced: dict[str, Array] = field(default_factory=dict)
    biases: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    still: list[str] = field(default_factory=list)

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
    norms: set[ir.Node] = set()
    if refresh:
        changed = changed_nodes(analysis, change)
        norms = {n for n in analysis.model.graph if n.op_type == "BatchNormalization" and n in changed}
    if stage.gates:
        sites = find_sites(stage.model, stage.sizes)
        left, norms = _moved(left, norms, sites, stage.model.graph)
    dense, pruned = (_stream(stage, sites, running) for _ in range(2))
    work = base or Work({})
    work.twin = {**stage.twin, **work.twin}
    return _Sequence(dense, pruned, left, norms, how, running, work).run()


def _moved(
    left: Mapping[ir.Node, Remains], norms: Iterable[ir.Node], sites: Sequence[Site], graph: ir.Graph
) -> tuple[dict[ir.Node, Remains], set[ir.Node]]:
    """The same Sites and norms in a copy of the model, where values have the same names."""
    there = {site.output.name: site for site in sites}
    moved = {there[node.outputs[0].name]: each for node, each in left.items()}
    names = {node.outputs[0].name for node in norms}
    found = {node for node in graph if node.outputs[0].name in names}
    return {site.node: replace(each, site=site) for site, each in moved.items()}, found


def _stream(stage: Stage, sites: Sequence[Site], running: Running) -> Stream:
    return Stream(
        stage.model,
        running.batches,
        sites,
        threads=running.threads,
        timeout=running.timeout,
        sizes=stage.sizes,
        seed=running.seed,
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

    def run(self) -> Work:
        """Segment after segment, up to the last one with something to repair."""
        total = len(self.left) + len(self.norms)
        for segment in self.dense.segments:
            rest = len(self.left) + len(self.norms)
            self.running.progress(total - rest, total, "repair")
            if not rest:
                break
            for node in segment.nodes:
                self._step(segment, node)
            self.dense.advance(segment)
            self.pruned.advance(segment, self.work.twin, self.work.biases)
        return self.work

    def _step(self, segment: Segment, node: ir.Node) -> None:
        if node in self.norms:
            self.norms.remove(node)
            self._norm(segment, node)
        if node not in self.left:
            return
        group = self._group(segment, self.left[node])
        for each in group:
            del self.left[each.site.node]
        if group[0].empty:
            return
        if len(group) == 1 and not group[0].solvable(self.how):
            self._shift(segment, group[0])
        else:
            self._solve(segment, group)

    def _group(self, segment: Segment, first: Remains) -> list[Remains]:
        """Sites of the segment that are solved for together with this one."""
        if first.empty or not first.solvable(self.how):
            return [first]
        mine = [self.left[n] for n in segment.nodes if n in self.left]
        able = [each for each in mine if not each.empty and each.solvable(self.how)]
        return next(group for group in together(able) if first in group)

    def _solve(self, segment: Segment, group: list[Remains]) -> None:
        """New weights, and biases where there may be some."""
        size = 8 * group[0].site.blocks * int(group[0].keep.sum(axis=1).max()) ** 2
        enough = self.running.samples >= FOLDED_SAMPLES and size <= FOLDED_BYTES
        folds = FOLDS if "refit" in self.how and enough else 1
        twin, biases = self.work.twin, self.work.biases
        found = observe(self.dense, self.pruned, segment, group, twin, biases, folds, self.running.seed)
        for each, moments in zip(group, found, strict=True):
            install(each, moments, self.how, self.work)

    def _shift(self, segment: Segment, left: Remains) -> None:
        """A bias that restores the mean of the dense result."""
        if left.why:
            what = "only its bias is repaired" if left.biased else "not repaired"
            self.work.notes.append(f"{left.site.name}: {what}, because {left.why}")
        if not left.biased:
            return
        name = left.site.output.name or ""
        if left.site.hidden:
            why = "what its weight gives is no value of the graph, and needs refit or match"
            self.work.notes.append(f"{left.site.name}: not repaired, because {left.why or why}")
            return
        dense, pruned = self._both(segment, name)
        live = left.rows.reshape(left.site.outputs, -1).any(axis=1)
        dtype = left.site.weight.dtype or ir.DataType.FLOAT
        with np.errstate(over="ignore"):
            shift = audible(np.where(live, dense.mean - pruned.mean, 0.0)).astype(dtype.numpy())
        if np.isfinite(shift).all():
            self.work.biases[name] = shift
        else:
            self.work.notes.append(f"{left.site.name}: left as it is, because its repair has {OVERFLOW}")

    def _norm(self, segment: Segment, node: ir.Node) -> None:
        value = node.inputs[0]
        dense, pruned = self._both(segment, "" if value is None else value.name or "")
        for initializer, array in refreshed(node, dense, pruned).items():
            self.work.replace(initializer, array)

    def _both(self, segment: Segment, name: str) -> tuple[Vector, Vector]:
        """Sums of a value in the dense and in the cut model."""
        dense = self.dense.vectors(segment, [name])[name]
        return dense, self.pruned.vectors(segment, [name], self.work.twin, self.work.biases)[name]


def audible(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The array with numbers that are as good as zero set to zero."""
    return np.where(np.abs(array) < FAINT, 0.0, array)


def install(left: Remains, moments: Sequence[Moments], how: frozenset[str], work: Work) -> None:
    """Solves for a Site and puts the result into the model, if every number is one."""
    site, part, whole = left.site, Part.of(left), left.weight
    if not all(each.finite for each in moments):
        work.notes.append(f"{site.name}: not repaired, because what it reads or gives is not finite")
        return
    if not any(np.diagonal(each.xx, axis1=1, axis2=2).any() for each in moments):
        work.still.append(site.name)
    found = fit(part.take(whole), moments, part.keep, part.live, how, left.biased)
    with np.errstate(over="ignore"):
        weight = site.restore(part.put(audible(found.weight), whole))
        bias = np.zeros(whole.shape[:2])
        bias[:, part.rows] = audible(found.bias * part.live)
        stored = bias.ravel().astype(weight.dtype)
    if not found.finite or not np.isfinite(weight).all() or not np.isfinite(stored).all():
        work.notes.append(f"{site.name}: left as it is, because its repair has {OVERFLOW}")
        return
    if how != {"bias"}:
        work.replace(site.weight.name or "", weight)
    if left.biased and site.bias is not None and site.hidden:
        work.replace(site.bias.name or "", _moved_bias(site, site.bias, stored, work))
    elif left.biased:
        work.biases[site.output.name or ""] = stored


def _moved_bias(site: Site, value: ir.Value, shift: Array, work: Work) -> Array:
    """[directions, biases of W and of R], the first half moved."""
    assert value.const_value is not None
    bias = np.array(work.twin.get(value.name or "", value.const_value.numpy()))
    bias[:, : site.shape[1]] += shift.reshape(site.shape[:2]).astype(bias.dtype)
    return bias
