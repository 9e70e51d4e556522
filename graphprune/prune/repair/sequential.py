"""Repairs Site after Site on what the repaired prefix really gives them; the dense model is the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.prune.repair.fit import fit
from graphprune.prune.repair.norms import refreshed
from graphprune.prune.repair.observe import Part, observe
from graphprune.prune.repair.remains import Cuts, Remains, changed_nodes, remains
from graphprune.prune.repair.solve import Moments
from graphprune.prune.zeroed import zeroed
from graphprune.statistics.segments import Segment
from graphprune.statistics.sites import find_sites
from graphprune.statistics.stream import Stream

Array = npt.NDArray[np.generic]
Feed = Mapping[str, Array]
Progress = Callable[[int, int, str], None]
FOLDED_SAMPLES = 64
"""With fewer samples, halves of them say too little about each other to choose a ridge by."""
OVERFLOW = "numbers too large for its type"


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
    """

    twin: dict[str, Array]
    replaced: dict[str, Array] = field(default_factory=dict)
    biases: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def replace(self, name: str, array: Array) -> None:
        """Change an initializer."""
        self.replaced[name] = self.twin[name] = array


def run_sequential(
    analysis: Analysis,
    cuts: Cuts,
    how: frozenset[str],
    running: Running,
    refresh: bool,
    base: Work | None = None,
) -> Work:
    """Carries out `how` (of refit, bias, match; nothing for norms alone) in the order of the graph."""
    sites = find_sites(analysis.model, analysis.sizes)
    work = base or Work(zeroed(analysis, cuts))
    todo: dict[ir.Node, Remains | None] = dict(remains(analysis, cuts, sites)) if how else {}
    if refresh:
        changed = changed_nodes(analysis, cuts)
        todo |= {n: None for n in analysis.model.graph if n.op_type == "BatchNormalization" and n in changed}
    streams = [
        Stream(
            analysis.model,
            running.batches,
            sites,
            threads=running.threads,
            timeout=running.timeout,
            sizes=analysis.sizes,
            seed=running.seed,
        )
        for _ in range(2)
    ]
    done = 0
    for segment in streams[0].segments:
        for node in segment.nodes:
            if node not in todo:
                continue
            running.progress(done, len(todo), "repair")
            _step(streams, segment, node, todo[node], how, running, work)
            done += 1
        if done == len(todo):
            break
        streams[0].advance(segment)
        streams[1].advance(segment, work.twin, work.biases)
    running.progress(len(todo), len(todo), "repair")
    return work


def _step(
    streams: Sequence[Stream],
    segment: Segment,
    node: ir.Node,
    left: Remains | None,
    how: frozenset[str],
    running: Running,
    work: Work,
) -> None:
    if left is None:
        _norm(streams, segment, node, work)
    elif not left.keep.any() or not left.rows.any():
        return
    elif left.why or how == {"bias"}:
        if left.why:
            work.notes.append(f"{left.site.name}: only its bias is repaired, because {left.why}")
        _shift(streams, segment, left, work)
    else:
        _solve(streams, segment, left, how, running, work)


def _solve(
    streams: Sequence[Stream],
    segment: Segment,
    left: Remains,
    how: frozenset[str],
    running: Running,
    work: Work,
) -> None:
    """A new weight, and a bias where there may be one."""
    dense, pruned = streams
    folds = 2 if "refit" in how and running.samples >= FOLDED_SAMPLES else 1
    moments = observe(dense, pruned, segment, left, work.twin, work.biases, folds, running.seed)
    install(left, moments, how, work)


def install(left: Remains, moments: Sequence[Moments], how: frozenset[str], work: Work) -> None:
    """Solves for a Site and puts the result into the model, if every number is one."""
    site, part, whole = left.site, Part.of(left), left.weight
    found = fit(part.take(whole), moments, part.keep, part.live, how, left.biased)
    with np.errstate(over="ignore"):
        weight = site.restore(part.put(found.weight, whole))
        bias = np.zeros(whole.shape[:2])
        bias[:, part.rows] = found.bias * part.live
        stored = bias.ravel().astype(weight.dtype)
    if not found.finite or not np.isfinite(weight).all() or not np.isfinite(stored).all():
        work.notes.append(f"{site.name}: left as it is, because its repair has {OVERFLOW}")
        return
    work.replace(site.weight.name or "", weight)
    if left.biased:
        work.biases[site.output.name or ""] = stored


def _shift(streams: Sequence[Stream], segment: Segment, left: Remains, work: Work) -> None:
    """A bias that restores the mean of the dense result."""
    if not left.biased:
        return
    name = left.site.output.name or ""
    dense = streams[0].vectors(segment, [name])[name]
    pruned = streams[1].vectors(segment, [name], work.twin, work.biases)[name]
    live = left.rows.reshape(left.site.outputs, -1).any(axis=1)
    dtype = left.site.weight.dtype or ir.DataType.FLOAT
    with np.errstate(over="ignore"):
        shift = np.where(live, dense.mean - pruned.mean, 0.0).astype(dtype.numpy())
    if np.isfinite(shift).all():
        work.biases[name] = shift
    else:
        work.notes.append(f"{left.site.name}: left as it is, because its repair has {OVERFLOW}")


def _norm(streams: Sequence[Stream], segment: Segment, node: ir.Node, work: Work) -> None:
    value = node.inputs[0]
    name = "" if value is None else value.name or ""
    dense = streams[0].vectors(segment, [name])[name]
    pruned = streams[1].vectors(segment, [name], work.twin, work.biases)[name]
    for initializer, array in refreshed(node, dense, pruned).items():
        work.replace(initializer, array)
