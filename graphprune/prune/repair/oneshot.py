"""Repairs every Site from statistics of the dense model alone: nothing is run."""

from __future__ import annotations

from graphprune.axes.analyse import Analysis
from graphprune.prune.repair.observe import Part
from graphprune.prune.repair.remains import Change, Cuts, Remains, remains, too_wide
from graphprune.prune.repair.sequential import Work, install
from graphprune.prune.repair.solve import Moments, dense_moments
from graphprune.prune.zeroed import zeroed
from graphprune.statistics.measures import Gram, Statistics, Wanted
from graphprune.statistics.sites import GRAM_COLUMNS, find_sites


def wanted_grams(analysis: Analysis) -> Wanted:
    """What a one-shot repair of any cut reads: the Gram of every Site."""
    sites = find_sites(analysis.model, analysis.sizes)
    return Wanted(grams=frozenset(site.name for site in sites if site.columns <= GRAM_COLUMNS))


def run_oneshot(analysis: Analysis, cuts: Cuts, how: frozenset[str], statistics: Statistics) -> Work:
    """Carries out `how` (of refit, bias, match) at every Site that loses columns."""
    work = Work(zeroed(analysis, cuts))
    for left in remains(analysis, Change(cuts), find_sites(analysis.model, analysis.sizes)).values():
        if not left.cut or left.empty:
            continue
        why = left.why or too_wide(left.site.columns)
        if why:
            work.notes.append(f"{left.site.name}: not repaired, because {why}")
            continue
        install(left, [_moments(left, statistics.gram(left.site.name))], how, work)
    return work


def _moments(left: Remains, gram: Gram) -> Moments:
    """What the kept columns see, when the whole weight is the target."""
    part = Part.of(left)
    whole = dense_moments(left.weight[:, part.rows], gram.scatter, gram.sum, gram.count)
    inner = whole.xx[:, part.columns[:, None], part.columns]
    return Moments(
        whole.count, whole.x[:, part.columns], whole.y, inner, whole.yx[:, :, part.columns], whole.yy
    )
