"""Makes up for a cut: new weights and biases, so that what is left gives what the dense model gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphprune.axes.analyse import Analysis
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


@dataclass(frozen=True)
class Way:
    """How a cut is made up for.

    Every Site behind the cut is given the weight that comes closest to its dense results: `bias` restores
    their mean, `match` mean and spread, `refit` the results themselves by least squares.

    Attributes:
        how: "none", or methods joined by "+": bias, refit, match.
        driver: "sequential" takes a Site's inputs from the repaired prefix, and so corrects what went wrong
            before it, too; "oneshot" from the dense model's statistics.
        refresh: whether BatchNormalizations are re-estimated.
    """

    how: str = "refit"
    driver: Driver = "sequential"
    refresh: bool = True

    @property
    def methods(self) -> frozenset[str]:
        """Those of `how`; empty for "none".

        Raises:
            ArgumentError: there is no such method.
        """
        names = frozenset(self.how.split("+")) - {"none"}
        if not names <= frozenset(METHODS):
            hint = f"none, or of {', '.join(METHODS)}, joined by '+'"
            raise ArgumentError(f"there is no repair '{self.how}'", hint)
        return names


REFIT = Way()


def repair(
    analysis: Analysis,
    change: Change,
    way: Way = REFIT,
    *,
    batches: Sequence[Feeds] = (),
    statistics: Statistics | None = None,
    run: Run = USUAL,
) -> Repaired:
    """Repairs a cut model without training.

    Where a sublayer or an expert goes, what reads the stream behind it does so as if it were there.

    Args:
        analysis: of the dense model.
        change: what was cut, bypassed and replaced.
        way: what is done about it.
        batches: calibration data, for the sequential driver and for BatchNormalizations.
        statistics: what `wanted_grams` names, for the one-shot driver.
        run: how it is run, and the seed of everything drawn.

    Raises:
        ArgumentError: unknown methods, or data that the driver needs is missing.
    """
    methods, running = way.methods, Running(batches, run)
    if not methods:
        return Repaired({}, {})
    alone = not (change.bypassed or change.base)
    if way.driver == "sequential":
        if not batches:
            hint = "give --calibration FILE, or repair=none"
            raise ArgumentError(f"repair={way.how} needs calibration data", hint)
        work = run_sequential(analysis, change, methods, running, way.refresh)
    else:
        if not alone:
            raise ArgumentError(
                "statistics of the dense model say nothing about what is behind a sublayer that goes, or a "
                "merged expert",
                "use driver=sequential",
            )
        if statistics is None:
            hint = "give --calibration FILE"
            raise ArgumentError(f"repair={way.how} needs statistics of the dense model", hint)
        work = run_oneshot(analysis, change.cuts, methods, statistics)
        if way.refresh and batches and _has_norms(analysis):
            work = run_sequential(analysis, change, frozenset(), running, True, work)
    coded = any("int" in array.dtype.name for array in work.replaced.values())
    judged = coded and alone and bool(batches)
    if judged and not helps(analysis, change.cuts, work.replaced, work.biases, batches):
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


def _has_norms(analysis: Analysis) -> bool:
    return any(has(node, Trait.BATCH_NORM) for node in analysis.model.graph)


def _repaired(work: Work) -> Repaired:
    biases = {name: array for name, array in work.biases.items() if np.any(array)}
    return Repaired(work.replaced, biases, tuple(work.notes))
