"""Makes up for a cut: new weights and biases, so that what is left gives what the dense model gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.kept import Cuts
from graphprune.axes.sublayers import Sublayer
from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Array
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.prune.repair.oneshot import run_oneshot
from graphprune.prune.repair.remains import Change, beyond
from graphprune.prune.repair.sequential import Running, Work, run_sequential
from graphprune.prune.repair.worth import helps
from graphprune.run import USUAL, Run
from graphprune.runtime.session import Feeds
from graphprune.statistics.measures import Statistics
from graphprune.statistics.sites import find_sites

Driver = Literal["oneshot", "sequential"]
METHODS = ("bias", "refit", "match")
NAMED = 4  # layers that a note names
THIN = 0.25  # share of the layers; a wide one behind a Flatten has few rows in any case


@dataclass(frozen=True)
class Repaired:
    """What a Plan adds to its cuts.

    Attributes:
        replaced: new contents of initializers, in dense coordinates; zero where Units are gone.
        biases: vectors added to results of Sites, by name of the result; zero where Units are gone.
        notes: what was left as it is, and why.
    """

    replaced: Mapping[str, Array]
    biases: Mapping[str, Array]
    notes: tuple[str, ...] = ()


def repair(
    analysis: Analysis,
    cuts: Cuts,
    *,
    bypassed: Sequence[Sublayer] = (),
    base: Mapping[str, Array] | None = None,
    how: str = "refit",
    driver: Driver = "sequential",
    batches: Sequence[Feeds] = (),
    statistics: Statistics | None = None,
    refresh: bool = True,
    run: Run = USUAL,
) -> Repaired:
    """Repairs a cut model without training.

    Every Site behind the cut is given the weight that comes closest to its dense results: `bias` restores
    their mean, `match` mean and spread, `refit` the results themselves by least squares. Where a
    sublayer or an expert goes, what reads the stream behind it does so as if it were there.

    Args:
        analysis: of the dense model.
        cuts: kept Units per Group id.
        bypassed: sublayers that go.
        base: weights that were replaced before; the cut model has them, and keeps them.
        how: "none", or methods joined by "+": bias, refit, match.
        driver: "sequential" takes a Site's inputs from the repaired prefix, and so corrects what went wrong
            before it, too; "oneshot" from the dense model's statistics.
        batches: calibration data, for the sequential driver and for BatchNormalizations.
        statistics: what `wanted_grams` names, for the one-shot driver.
        refresh: whether BatchNormalizations are re-estimated.
        run: how it is run, and the seed of everything drawn.

    Raises:
        ArgumentError: unknown methods, or data that the driver needs is missing.
    """
    methods, change = _methods(how), Change(cuts, tuple(bypassed), dict(base or {}))
    if not methods:
        return Repaired({}, {})
    running = Running(batches, run)
    if driver == "sequential":
        if not batches:
            raise ArgumentError(
                f"repair={how} needs calibration data", "give --calibration FILE, or repair=none"
            )
        work = run_sequential(analysis, change, methods, running, refresh)
    else:
        if bypassed or base:
            raise ArgumentError(
                "statistics of the dense model say nothing about what is behind a sublayer that goes, or a "
                "merged expert",
                "use driver=sequential",
            )
        if statistics is None:
            raise ArgumentError(
                f"repair={how} needs statistics of the dense model", "give --calibration FILE"
            )
        work = run_oneshot(analysis, cuts, methods, statistics)
        if refresh and batches and _has_norms(analysis):
            work = run_sequential(analysis, change, frozenset(), running, True, work)
    coded = any("int" in array.dtype.name for array in work.replaced.values())
    alone = bool(batches) and not (bypassed or base)
    if coded and alone and not helps(analysis, cuts, work.replaced, work.biases, batches):
        work.notes.append("not repaired: on their grids, new weights do worse than the old ones as a whole")
        work.replaced.clear()
        work.biases.clear()
    work.notes.extend((*_beyond(analysis, change), *_still(work), *_thin(work)))
    return _repaired(work)


def _beyond(analysis: Analysis, change: Change) -> list[str]:
    """One note on the layers that repair cannot reach; nothing where it reaches all."""
    nodes = beyond(analysis, change, find_sites(analysis.model, analysis.sizes))
    if not nodes:
        return []
    names = _named([f"{node.name or node.outputs[0].name} ({node.op_type})" for node in nodes])
    reach = "repair reaches Conv, Gemm, MatMul and inputs of LSTM, GRU and RNN in the main graph"
    return [f"not repaired: {names}; {reach}"]


def _still(work: Work) -> list[str]:
    """One note on the layers that calibration data says nothing about."""
    if not work.still:
        return []
    return [
        f"what {_named(work.still)} {'read' if len(work.still) > 1 else 'reads'} never varies on the "
        "calibration data, so its mean alone was repaired: give more, and more varied samples"
    ]


def _thin(work: Work) -> list[str]:
    """One note where many layers were fitted by fewer rows than they have inputs: their rank is low."""
    thin = [name for name, (rows, columns) in work.fitted.items() if rows <= columns]
    if len(thin) < THIN * len(work.fitted) or not thin:
        return []
    each = [f"{name} ({work.fitted[name][0]} rows, {work.fitted[name][1]} inputs)" for name in thin]
    return [
        f"{len(thin)} of {len(work.fitted)} layers were fitted by no more rows than they have inputs, so the "
        f"fit is of low rank: {_named(each)}; more samples would help"
    ]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _methods(how: str) -> frozenset[str]:
    names = frozenset(how.split("+")) - {"none"}
    if not names <= frozenset(METHODS):
        raise ArgumentError(f"there is no repair '{how}'", f"none, or of {', '.join(METHODS)}, joined by '+'")
    return names


def _has_norms(analysis: Analysis) -> bool:
    return any(has(node, Trait.BATCH_NORM) for node in analysis.model.graph)


def _repaired(work: Work) -> Repaired:
    biases = {name: array for name, array in work.biases.items() if np.any(array)}
    return Repaired(work.replaced, biases, tuple(work.notes))
