"""Scores per Unit from weights and activations; higher = keep. One function per criterion.

A function returns one number per Unit, or [Units, columns] where a method normalises columns before it
averages them over a Unit (heads in FLAP). It returns None for a Group that it has nothing to read of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from graphprune.axes.groups import Group, Slice
from graphprune.errors import ModelError
from graphprune.ir.arrays import Doubles, Floats, Ids
from graphprune.ir.names import quote
from graphprune.prune.dual import RowSheet
from graphprune.prune.evidence import Output, Sink, SiteIndex, joined
from graphprune.prune.kinds import Kind
from graphprune.prune.saliency import Weights, batch_norm_slices, per_unit, scored_slices
from graphprune.prune.shrink import damping_of, inverted, varying
from graphprune.prune.surgeon import CHUNK, ColumnSheet, Sheet, alike, eliminate
from graphprune.statistics.measures import Rows, Second, Statistics, Wanted

Bars = Literal["row", "column"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a criterion may read.

    Attributes:
        places: where Groups meet Sites.
        statistics: of the calibration data.
        weights: reads initializers.
        kinds: what the Units of each Group are.
        damping: share of a Gram's mean diagonal that is added to it before it is inverted; None for what its
            rows are good for.
        bars: how cfsp compares weights: within a row, or within a column as its code does.
    """

    places: SiteIndex
    statistics: Statistics
    weights: Weights
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    damping: float | None = None
    bars: Bars = "row"


def not_finite(what: str) -> ModelError:
    """The error of what holds Inf or NaN."""
    return ModelError(
        f"{what}: the numbers are not all finite, so nothing can be ranked",
        "look for Inf and NaN in the model and the calibration data, or exclude it with ignore=[...]",
    )


Score = Callable[[Group, Evidence], "Doubles | None"]
Needs = Callable[[Group, SiteIndex], Wanted]


@dataclass(frozen=True)
class Criterion:
    """A data-driven criterion: what it needs of a Group, and how it scores the Group."""

    needs: Needs
    score: Score


def _edges(group: Group, places: SiteIndex) -> Wanted:
    sinks = places.sinks(group)
    return Wanted(vectors=frozenset(site.edge.name or "" for sink in sinks for site in sink.readers))


def _grams(group: Group, places: SiteIndex) -> Wanted:
    sites = [site for sink in places.sinks(group) for site in sink.readers]
    ends = {joined(site.output).name or "": site.out_axis for site in sites if not site.hidden}
    return Wanted(frozenset(ends), frozenset(site.name for site in sites), axes=ends)


def _ranks(group: Group, places: SiteIndex) -> Wanted:
    outputs = places.activations(group)
    return Wanted(ranks=frozenset(o.name for o in outputs), axes={o.name: o.axis for o in outputs})


def _vectors(outputs: list[Output]) -> Wanted:
    return Wanted(vectors=frozenset(o.name for o in outputs), axes={o.name: o.axis for o in outputs})


def _by_sink(score: Callable[[Sink, Evidence], Doubles]) -> Score:
    """A score per column of every Site that reads the Group, summed over a Unit's columns and over Sites."""

    def total(group: Group, evidence: Evidence) -> Doubles | None:
        sinks = evidence.places.sinks(group)
        if not sinks:
            return None
        found = np.zeros(group.size)
        for sink in sinks:
            found += np.bincount(sink.units, weights=score(sink, evidence), minlength=group.size)
        return found

    return total


def _wanda(sink: Sink, evidence: Evidence) -> Doubles:
    """sum_i |W_ij| * ||x_j|| (Wanda on groups)."""
    vector = sink.vector(evidence.statistics)
    return sink.column_sums(1) * sink.per_column(vector.norm2)


def _fluctuation(group: Group, evidence: Evidence) -> Doubles | None:
    """var(x_j) * ||W_:j||^2 (FLAP, WIFV): what is lost once the mean is compensated.

    Heads are squared column by column before they are standardised, as the reference code does.
    """
    sinks = evidence.places.sinks(group)
    parts = [_fluctuations(sink, evidence) for sink in sinks]
    heads = evidence.kinds.get(group.id) == "heads"
    columns = (
        [_columns(group, sink, part**2) for sink, part in zip(sinks, parts, strict=True)] if heads else []
    )
    if columns and all(part is not None for part in columns):
        return np.concatenate([part for part in columns if part is not None], axis=1)
    return _by_sink(_fluctuations)(group, evidence)


def _fluctuations(sink: Sink, evidence: Evidence) -> Doubles:
    vector = sink.vector(evidence.statistics)
    return sink.column_sums(2) * sink.per_column(vector.variance)


def _columns(group: Group, sink: Sink, values: Doubles) -> Doubles | None:
    """Values per column as [Units, columns of a Unit]; None where Units own unequally many."""
    if (np.bincount(sink.units, minlength=group.size) * group.size != len(sink.units)).any():
        return None
    return np.asarray(values[np.argsort(sink.units, kind="stable")].reshape(group.size, -1))


def _minitron(sink: Sink, evidence: Evidence) -> Doubles:
    """L2 over samples of the mean |x_j| over positions (Minitron), once per channel."""
    vector = sink.vector(evidence.statistics)
    return sink.per_column(vector.minitron) / sink.site.column_span


def _second(sink: Sink, evidence: Evidence) -> Second:
    """Second moments of what a Site reads."""
    second = sink.second(evidence.statistics)
    if not np.isfinite(second.sum).all():
        raise not_finite(f"what {quote(sink.site.name)} reads")
    return second


def _unit(sink: Sink, evidence: Evidence) -> float:
    """The unit of a Site's results, so that losses of Sites that differ in scale add up.

    It is the root of the total variance behind the residual Add: a branch that hardly moves the stream loses
    little when it is cut. A layer that is applied twice loses twice, on average over its readers.
    """
    if sink.site.hidden:
        energy = _energy(sink.matrix(), _second(sink, evidence))
    else:
        ends = [joined(site.output).name or "" for site in sink.readers]
        vectors = [evidence.statistics.vectors[name] for name in ends if name in evidence.statistics.vectors]
        energy = float(sum(vector.variance.sum() for vector in vectors)) / len(sink.readers)
    energy /= len(sink.readers)
    if not np.isfinite(energy):
        raise not_finite(f"what {quote(sink.site.name)} gives")
    return float(np.sqrt(energy)) if energy > 0 else 1.0


def _energy(matrix: Floats, second: Second) -> float:
    """Total variance of W x."""
    if isinstance(second, Rows):
        given = np.matmul(second.centred, matrix.transpose(0, 2, 1))
        return float(np.square(given, dtype=np.float64).sum() / second.count)
    covariance = second.covariance
    return float(np.einsum("bri,bij,brj->", matrix, covariance, matrix, optimize=True))


def _obs(group: Group, evidence: Evidence) -> Doubles | None:
    """Loss that each Unit adds when cheaper ones are gone, and the rest and a bias make up for them."""
    sheets = [sheet for sink in evidence.places.sinks(group) for sheet in _sheets(sink, evidence)]
    return eliminate(sheets, group.size) if sheets else None


def _sheets(sink: Sink, evidence: Evidence) -> Iterator[Sheet]:
    """Blocks of a Site of which the Group's columns vary, on the side that is smaller."""
    second, matrix, unit = _second(sink, evidence), sink.matrix(), _unit(sink, evidence)
    for block, units, columns in sink.by_block():
        if isinstance(second, Rows):
            rows = second.centred[block]
            moves = varying(np.square(rows, dtype=np.float64).mean(axis=0), second.mean[block])
            if moves[columns].any():
                yield RowSheet(matrix[block], rows * moves, evidence.damping, units, columns, unit**-2)
            continue
        covariance = second.scatter[block] / max(second.count, 1.0)
        moves = varying(np.diagonal(covariance), second.mean[block])
        if moves[columns].any():
            covariance *= moves
            covariance *= moves[:, None]
            inverse = inverted(covariance, damping_of(covariance, second.count, evidence.damping))
            yield ColumnSheet(matrix[block] * (moves / unit), inverse, units, columns)


def _thinet(group: Group, evidence: Evidence) -> Doubles | None:
    """Greedy: next goes the Unit that adds least to E||sum of removed W_c x_c||^2 (ThiNet, eq. 6)."""
    energy = np.zeros((group.size, group.size))
    for sink in evidence.places.sinks(group):
        second, matrix, unit = _second(sink, evidence), sink.matrix(), _unit(sink, evidence)
        for block, units, columns in sink.by_block():
            if isinstance(second, Rows):
                part = _products(matrix[block], second.rows[block], units, columns, group.size)
            else:
                part = _summed(matrix[block], second.second[block], units, columns, group.size)
            energy += part / unit**2
    return greedy(energy) if energy.any() else None


def _summed(matrix: Floats, second: Doubles, units: Ids, columns: Ids, size: int) -> Doubles:
    """E[(W_P x_P)' (W_Q x_Q)] of every pair of Units, from second moments."""
    wide = matrix.astype(np.float64)
    part = (wide.T @ wide * second)[np.ix_(columns, columns)]
    order = np.argsort(units, kind="stable")
    names, starts = np.unique(units[order], return_index=True)
    found = np.zeros((size, size))
    part = np.add.reduceat(np.add.reduceat(part[np.ix_(order, order)], starts, 0), starts, 1)
    found[np.ix_(names, names)] = part
    return found


def _products(matrix: Floats, rows: Floats, units: Ids, columns: Ids, size: int) -> Doubles:
    """The same from rows, for a few rows of W at a time."""
    found = np.zeros((size, size))
    step = max(1, CHUNK // (size * len(rows)))
    for start in range(0, len(matrix), step):
        mine = matrix[start : start + step]
        given = np.zeros((size, len(rows), len(mine)))
        for names, owned in alike(units, columns):
            given[names] = np.matmul(rows[:, owned].transpose(1, 0, 2), mine[:, owned].transpose(1, 2, 0))
        flat = given.reshape(size, -1)
        found += flat @ flat.T
    return found / len(rows)


def greedy(energy: Doubles) -> Doubles:
    """Scores that rise in the order of removal: each step takes the Unit that adds least to 1' E 1."""
    added = np.diagonal(energy).copy()
    scores = np.empty(len(energy))
    left = np.ones(len(energy), bool)
    reached = 0.0
    for _ in range(len(energy)):
        unit = int(np.argmin(np.where(left, added, np.inf)))
        reached = np.nextafter(max(reached, float(added[unit])), np.inf)
        scores[unit], left[unit] = reached, False
        added += 2 * energy[unit]
    return scores


def _hrank(group: Group, evidence: Evidence) -> Doubles | None:
    """Mean rank of a channel's maps behind its activation (HRank), mean over the Group's sources."""
    outputs = evidence.places.activations(group)
    ranks = [o.per_unit(group.size, evidence.statistics.rank(o.name)) for o in outputs]
    return np.asarray(np.mean(ranks, axis=0)) if ranks else None


def _apoz(group: Group, evidence: Evidence) -> Doubles | None:
    """1 - share of zeros behind the activation (APoZ), mean over sources; none where nothing is ever zero."""
    outputs = evidence.places.activations(group)
    vectors = [evidence.statistics.vector(o.name) for o in outputs]
    if not any(vector.zeros.any() for vector in vectors):
        return None
    alive = [
        o.per_unit(group.size, 1 - v.zeros / max(v.count, 1)) for o, v in zip(outputs, vectors, strict=True)
    ]
    return np.asarray(np.mean(alive, axis=0)) if alive else None


def _spread(group: Group, evidence: Evidence) -> Doubles | None:
    """|gamma|, or where it was folded away the standard deviation of a source's result.

    See docs/methods.md#folded-batchnormalization.
    """
    gammas = batch_norm_slices(group)
    if gammas:
        return np.asarray(
            np.mean([per_unit(group, s, evidence.weights.slot_sums(s, 1)) for s in gammas], axis=0)
        )
    outputs = evidence.places.outputs(group)
    spreads = [o.per_unit(group.size, np.sqrt(evidence.statistics.vector(o.name).variance)) for o in outputs]
    return np.asarray(np.mean(spreads, axis=0)) if spreads else None


def _cfsp(group: Group, evidence: Evidence) -> Doubles | None:
    """a_j * mean over weights' entries of |w| / sum of its row (CFSP, fine-grained score).

    A row is what one input or output sees of all Units; the weight that reads the Group is times a_j first.
    With bars=column every entry is divided by its own Unit's sum instead, which leaves only a_j.
    """
    sinks = evidence.places.sinks(group)
    if not sinks:
        return None
    activity = np.zeros(group.size)
    total = np.zeros(group.size)
    for sink in sinks:
        vector = sink.vector(evidence.statistics)
        level = vector.norm2 / np.sqrt(max(vector.count, 1))
        activity += np.bincount(sink.units, sink.per_column(level) / sink.site.column_span, group.size)
        matrix = np.concatenate([np.abs(block) for block in sink.matrix()], axis=1)
        total += _relative(
            _per_unit_rows(group, sink.units, matrix[:, sink.columns] * sink.per_column(level)), evidence
        )
    for touched in scored_slices(group):
        if touched.role == "source":
            total += _relative(_source_rows(group, touched, evidence), evidence)
    return total * activity


def _relative(rows: Doubles, evidence: Evidence) -> Doubles:
    """[entries, Units], each divided by the sum of its row (or of its Unit); mean over entries."""
    sums = rows.sum(axis=1 if evidence.bars == "row" else 0, keepdims=True)
    return np.asarray(np.divide(rows, sums, out=np.zeros_like(rows), where=sums > 0).mean(axis=0))


def _per_unit_rows(group: Group, units: Ids, entries: Doubles) -> Doubles:
    order = np.argsort(units, kind="stable")
    names, starts = np.unique(units[order], return_index=True)
    found = np.zeros((len(entries), group.size))
    found[:, names] = np.add.reduceat(entries[:, order], starts, axis=1)
    return found


def _source_rows(group: Group, touched: Slice, evidence: Evidence) -> Doubles:
    weight = np.moveaxis(evidence.weights.tensor(touched), touched.axis, 0)
    units, slots = touched.pairs
    entries = np.abs(weight.reshape(len(weight), -1).astype(np.float64)).T
    return _per_unit_rows(group, units, entries[:, slots])


CRITERIA: dict[str, Criterion] = {
    "wanda": Criterion(_edges, _by_sink(_wanda)),
    "fluctuation": Criterion(_edges, _fluctuation),
    "hrank": Criterion(_ranks, _hrank),
    "apoz": Criterion(lambda group, places: _vectors(places.activations(group)), _apoz),
    "thinet": Criterion(_grams, _thinet),
    "obs": Criterion(_grams, _obs),
    "minitron": Criterion(_edges, _by_sink(_minitron)),
    "cfsp": Criterion(_edges, _cfsp),
    "bn-scale": Criterion(
        lambda group, places: Wanted() if batch_norm_slices(group) else _vectors(places.outputs(group)),
        _spread,
    ),
}


def wanted(criterion: str, groups: tuple[Group, ...], places: SiteIndex) -> Wanted:
    """Everything that a criterion must know to score these Groups."""
    total = Wanted()
    for group in groups:
        total = total | CRITERIA[criterion].needs(group, places)
    return total
