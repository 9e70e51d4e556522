"""Removes or merges experts of mixture-of-experts layers.

`easy-ep` (EASY-EP) sums, over the tokens of a domain, what an expert adds to the stream times how far the
layer turns the stream; `reap` (REAP) takes the mean over an expert's own tokens; `frequency` and `gate-sum`
look at the router alone. `stun` (STUN) clusters experts whose rows of the router are alike and keeps one of
each cluster, `uncurl` (UNCURL) clusters by the router's scores and merges aligned experts by how often they
are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from graphprune.axes import Analysis
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.axes.mixtures import Mixture, Mixtures, find_mixtures
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.prune.merging import Editor, members_of, representative, spectral, stun_distances, thresholds
from graphprune.prune.plan import Plan
from graphprune.prune.select import ladder
from graphprune.statistics.routes import Routes, collect_routes

Scores = npt.NDArray[np.float64]
DEFAULT_RATIO = 0.25


@dataclass(frozen=True)
class Experts(Pass):
    """Leaves fewer experts in every layer that has some; the router still picks as many per token."""

    name: ClassVar[str] = "experts"

    criterion: Literal["easy-ep", "reap", "frequency", "gate-sum", "stun", "uncurl"] = field(
        default="easy-ep", metadata={"help": "what an expert is worth, or how experts are merged"}
    )
    keep: int | None = field(default=None, metadata={"help": "experts to keep in every layer"})
    ratio: float | None = field(
        default=None, metadata={"help": f"share of the experts to remove (default {DEFAULT_RATIO})"}
    )
    params: float | None = field(default=None, metadata={"help": "share of the model's parameters to keep"})
    rows: float = field(
        default=1.0, metadata={"help": "stun: weight of the distance between rows of the router"}
    )
    mates: float = field(
        default=0.0, metadata={"help": "stun: weight of how often two experts are chosen together"}
    )
    merge_max_clusters: int = field(
        default=0,
        metadata={"help": "stun: merge instead of picking one where a layer has at most so many clusters"},
    )
    align: bool = field(default=True, metadata={"help": "match hidden neurons before experts are averaged"})
    only: tuple[str, ...] = field(default=(), metadata={"help": "globs: layers (by Group, weight or node)"})
    ignore: tuple[str, ...] = field(default=(), metadata={"help": "globs: layers to leave alone"})

    def __post_init__(self) -> None:
        if sum(v is not None for v in (self.keep, self.ratio, self.params)) > 1:
            raise ArgumentError("give one of keep, ratio and params, not several")
        if self.keep is not None and self.keep < 1:
            raise ArgumentError(f"keep must be at least 1, got {self.keep}")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ArgumentError(f"ratio must be in [0, 1), got {self.ratio}")
        if self.params is not None and not 0 < self.params <= 1:
            raise ArgumentError(f"params is the share that is kept: it must be in (0, 1], got {self.params}")
        if self.merge_max_clusters < 0:
            raise ArgumentError(f"merge-max-clusters must be at least 0, got {self.merge_max_clusters}")

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Find the layers, measure, choose or merge."""
        analysis = subject.analysis
        found = find_mixtures(analysis)
        layers = self._layers(analysis, found)
        if self.ratio == 0:
            return Plan(options=self.options())
        if not layers:
            raise PromiseError(*_nothing(analysis, found))
        for name, why in found.reasons.items():
            context.warn(f"experts '{name}' stay: {why}")
        counts = self._counts(analysis, layers, context)
        if self.criterion in ("stun", "uncurl"):
            return self._merged(analysis, layers, counts, context)
        scores = self._scores(analysis, layers, context)
        cuts = {
            item.group.id: _best(item, score, count)
            for item, score, count in zip(layers, scores, counts, strict=True)
        }
        return self._plan(layers, cuts, scores, {})

    def _layers(self, analysis: Analysis, found: Mixtures) -> tuple[Mixture, ...]:
        for pattern in (*self.only, *self.ignore):
            if not any(_matches(item, pattern) for item in found.found):
                known = ", ".join(item.group.id for item in found.found[:6]) or "none"
                raise ArgumentError(f"no layer of experts is called '{pattern}'", f"there are: {known}")
        free = [item for item in found.found if item.group.pin is None]
        named = [i for i in free if not self.only or any(_matches(i, p) for p in self.only)]
        return tuple(i for i in named if not any(_matches(i, p) for p in self.ignore))

    def _counts(self, analysis: Analysis, layers: Sequence[Mixture], context: Context) -> list[int]:
        """Experts to keep in each layer."""
        if self.keep is not None:
            short = [item for item in layers if self.keep < item.group.floor]
            if short:
                raise ArgumentError(
                    f"keep must be at least {short[0].group.floor}, got {self.keep}: the router of "
                    f"'{short[0].group.id}' picks that many experts per token"
                )
            return [_legal(item, min(self.keep, item.group.size)) for item in layers]
        if self.params is None:
            return _shares(layers, DEFAULT_RATIO if self.ratio is None else self.ratio)
        cost = CostModel(analysis, context.shapes)
        steps = max(item.group.size for item in layers)
        for step in range(steps):
            counts = _shares(layers, step / steps)
            cuts = {i.group.id: tuple(range(n)) for i, n in zip(layers, counts, strict=True)}
            if cost.params(Kept(analysis, cuts)) <= self.params * cost.dense_params:
                return counts
        least = cost.params(Kept(analysis, cuts)) / cost.dense_params
        context.fall_short(
            f"params={self.params:g} cannot be met: the routers pick as many experts as are left, and at "
            f"least {least:.3f} of the params stay"
        )
        return counts

    def _scores(self, analysis: Analysis, layers: Sequence[Mixture], context: Context) -> list[Scores]:
        routes = self._routes(analysis, layers, context)
        scores = [CRITERIA[self.criterion](each) for each in routes]
        for item, score, each in zip(layers, scores, routes, strict=True):
            if not np.isfinite(score).all():
                raise PromiseError(
                    f"criterion={self.criterion} cannot be read off the layer '{item.group.id}'",
                    "use criterion=reap or criterion=frequency",
                )
            idle = int((each.count == 0).sum())
            if idle:
                context.warn(f"{idle} experts of '{item.group.id}' got no token of the calibration data")
        return scores

    def _routes(self, analysis: Analysis, layers: Sequence[Mixture], context: Context) -> tuple[Routes, ...]:
        if not context.calibration:
            raise ArgumentError(
                f"criterion={self.criterion} needs calibration data", "give some: --calibration FILE"
            )
        return collect_routes(
            analysis,
            layers,
            context.calibration,
            outputs=self.criterion in ("easy-ep", "reap"),
            threads=context.threads,
            timeout=context.timeout,
            progress=context.progress,
        )

    def _merged(
        self, analysis: Analysis, layers: Sequence[Mixture], counts: Sequence[int], context: Context
    ) -> Plan:
        """Clusters of experts, one of each left."""
        blocked = next((item for item in layers if item.group.block is not None), None)
        if blocked is not None:
            raise PromiseError(
                f"criterion={self.criterion} cannot keep the blocks of '{blocked.group.id}' equal",
                "use criterion=easy-ep or criterion=reap",
            )
        editors = [Editor(analysis, item) for item in layers]
        measured = self.criterion == "uncurl" or self.mates > 0
        routes = self._routes(analysis, layers, context) if measured else None
        cuts: dict[str, tuple[int, ...]] = {}
        replaced: dict[str, npt.NDArray[np.generic]] = {}
        for at, clusters in enumerate(self._clusters(layers, editors, counts, routes, context)):
            used = routes[at].count if routes is not None else np.ones(layers[at].group.size)
            cuts[layers[at].group.id] = self._left(editors[at], members_of(clusters), used)
            replaced |= editors[at].replaced
        return self._plan(layers, cuts, None, replaced)

    def _clusters(
        self,
        layers: Sequence[Mixture],
        editors: Sequence[Editor],
        counts: Sequence[int],
        routes: Sequence[Routes] | None,
        context: Context,
    ) -> list[npt.NDArray[np.int64]]:
        if self.criterion == "uncurl":
            assert routes is not None
            return [spectral(r.scores, n, context.seed) for r, n in zip(routes, counts, strict=True)]
        together = [None] * len(layers) if routes is None else [each.together for each in routes]
        distances = [
            stun_distances(editor.router(), mates, self.rows, self.mates)
            for editor, mates in zip(editors, together, strict=True)
        ]
        return thresholds(distances, [item.group.floor for item in layers], sum(counts))

    def _left(self, editor: Editor, clusters: list[list[int]], used: Scores) -> tuple[int, ...]:
        """One expert of each cluster: the nearest to the mean, or all of them merged into one."""
        merges = self.criterion == "uncurl" or len(clusters) <= self.merge_max_clusters
        left = []
        for members in clusters:
            if not merges or len(members) == 1:
                left.append(representative(editor, members))
                continue
            into = members[int(np.argmax(used[members]))]
            editor.merge(into, members, used[members].tolist(), self.align)
            left.append(into)
        return tuple(sorted(left))

    def _plan(
        self,
        layers: Sequence[Mixture],
        cuts: Mapping[str, tuple[int, ...]],
        scores: Sequence[Scores] | None,
        replaced: Mapping[str, npt.NDArray[np.generic]],
    ) -> Plan:
        widths = {item.group.id: item.group.size for item in layers}
        if all(len(kept) == widths[name] for name, kept in cuts.items()):
            raise PromiseError(
                "nothing was removed: the budget leaves every expert", "raise the ratio, or lower keep"
            )
        ranked = {} if scores is None else {i.group.id: s for i, s in zip(layers, scores, strict=True)}
        return Plan(
            options=self.options(),
            cuts=dict(cuts),
            widths=widths,
            scores={name: tuple(score.tolist()) for name, score in ranked.items()},
            replaced=dict(replaced),
        )


CRITERIA = {
    "easy-ep": lambda routes: routes.turned,
    "reap": lambda routes: routes.mean_added,
    "frequency": lambda routes: routes.count,
    "gate-sum": lambda routes: routes.gate,
}


def _shares(layers: Sequence[Mixture], ratio: float) -> list[int]:
    return [_legal(item, item.group.size - int(ratio * item.group.size + 1e-9)) for item in layers]


def _legal(item: Mixture, count: int) -> int:
    """At least what the router picks, and as many of every block."""
    group = item.group
    blocks = 1 if group.block is None else len(np.unique(group.block))
    return max(group.floor, -(-count // blocks) * blocks)


def _best(item: Mixture, scores: Scores, count: int) -> tuple[int, ...]:
    """The experts that stay; balanced blocks lose the same number each."""
    steps = ladder(0, item.group, scores, 1, 0.0)
    taken = steps.removed[steps.removed <= item.group.size - count]
    gone = int(taken[-1]) if taken.size else 0
    return tuple(np.sort(steps.order[gone:]).tolist())


def _matches(item: Mixture, pattern: str) -> bool:
    names = {item.group.id, item.chooser.name or "", *(s.initializer for s in item.group.slices)}
    return any(fnmatchcase(name, pattern) for name in names)


def _nothing(analysis: Analysis, found: Mixtures) -> tuple[str, str]:
    lines = [f"\n  {name}: {why}" for name, why in found.reasons.items()]
    pinned = [(item.group.id, item.group.pin) for item in found.found if item.group.pin is not None]
    lines += [f"\n  {name}: {pin.reason} [{pin.node}]" for name, pin in pinned]
    return f"nothing to remove: the model has no layer of experts that may shrink{''.join(lines)}", ""
