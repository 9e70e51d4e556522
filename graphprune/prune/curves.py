"""What each Group loses at every width: the layers' own losses, on the scale of what outputs lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphprune.axes.groups import Group
from graphprune.ir.arrays import Doubles, Scores

Curves = Mapping[str, Doubles]
"""By id of the Group: the loss where so many of its Units go, from none to all; it never falls."""
Probes = Mapping[str, Mapping[int, float]]
"""By id of the Group: what the outputs lost where so many Units went."""
LEAST = 1e-12


def local_curves(
    groups: Sequence[Group], scores: Mapping[str, Scores], order: Mapping[str, Scores]
) -> Curves:
    """Sums of the scores of what goes.

    Args:
        groups: which.
        scores: a loss per Unit.
        order: by which Units go, the lowest first.
    """
    least = min((float(values.min()) for values in scores.values() if values.size), default=0.0)
    found = {}
    for group in groups:
        gone = group.removals(order[group.id]).ravel()
        found[group.id] = np.concatenate([[0.0], np.cumsum(scores[group.id][gone] - min(0.0, least))])
    return found


def probed_curves(local: Curves, probes: Probes) -> Curves:
    """Curves through what was probed, of the shape of the local ones between; others as dear as most are.

    Where a wider cut seems to lose less than a narrower one both are taken to lose their geometric mean. The
    factor from local to output loss is interpolated over the local loss, both as logarithms, and constant
    beyond the first and last probe. A Group that was not probed has the median of all factors.
    """
    factors = {name: _factors(local[name], found) for name, found in probes.items() if found}
    usual = np.median(np.concatenate([factor for _, factor in factors.values()])) if factors else 0.0
    found = {}
    for name, curve in local.items():
        places, factor = factors.get(name, (np.zeros(1), np.full(1, usual)))
        scaled = curve * np.exp(np.interp(np.log(np.maximum(curve, LEAST)), places, factor))
        found[name] = np.maximum.accumulate(scaled)
    return found


def _factors(curve: Doubles, found: Mapping[int, float]) -> tuple[Doubles, Doubles]:
    """Logarithms of local losses, rising, and of what outputs lost per each."""
    gone = sorted(found)
    places = np.log(np.maximum(curve[gone], LEAST))
    losses = _rising(np.log(np.maximum([found[count] for count in gone], LEAST)))
    rising = np.concatenate([[True], np.diff(places) > 0])
    return places[rising], np.asarray(losses - places)[rising]


def _rising(values: Doubles) -> Doubles:
    """The nearest values that never fall, by least squares: neighbours that do are pooled."""
    pools: list[tuple[float, int]] = []
    for value in values.tolist():
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, few), (two, more) = pools[-2:]
            pools[-2:] = [((one * few + two * more) / (few + more), few + more)]
    return np.repeat([mean for mean, _ in pools], [count for _, count in pools])
