"""Repairs every Site from statistics of the dense model alone: nothing is run."""

from __future__ import annotations

from graphprune.axes.analyse import Analysis
from graphprune.axes.kept import Cuts
from graphprune.prune.repair.remains import Change, remains
from graphprune.prune.repair.samples import pooled
from graphprune.prune.repair.sequential import Work, install
from graphprune.prune.repair.shared import undisturbed
from graphprune.prune.zeroed import zeroed
from graphprune.statistics.measures import Statistics, Wanted
from graphprune.statistics.sites import find_sites


def wanted_grams(analysis: Analysis) -> Wanted:
    """What a one-shot repair of any cut reads: the Gram of every Site."""
    sites = find_sites(analysis.model, analysis.sizes)
    return Wanted(grams=frozenset(site.name for site in sites))


def run_oneshot(analysis: Analysis, cuts: Cuts, how: frozenset[str], statistics: Statistics) -> Work:
    """Carries out `how` (of refit, bias, match) at every Site that loses columns."""
    work = Work(zeroed(analysis, cuts))
    found = remains(analysis, Change(cuts), find_sites(analysis.model, analysis.sizes))
    for left in found.values():
        if not left.cut or left.site is not left.readers[0]:
            continue
        if left.why:
            work.notes.append(f"{left.site.name}: not repaired, because {left.why}")
            continue
        every = [found[site.node] for site in left.readers]
        seen = pooled([undisturbed(each, statistics.gram(each.site.name)) for each in every])
        install(every, [seen], how, work)
    return work
